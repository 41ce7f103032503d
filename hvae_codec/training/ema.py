"""An average of a model's weights along its training, which codes better than the last ones."""

from __future__ import annotations

import torch
from torch import nn

_EARLY = 20
"""After n steps the average weighs the last (n + 20) / 20 or so, until its decay says more."""


class WeightAverage:
    """Exponential moving average of the parameters of a model, beside it in memory.

    `weights` are the averages by the parameters' names. `decay` is what the average keeps of itself
    in a step; in step n, counted from 0, it keeps n / (n + 20) where that is less, so that it soon
    forgets the weights that training began with.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {
            name: parameter.detach().clone() for name, parameter in model.named_parameters()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights that the model has after this step, counted from 0."""
        share = 1.0 - min(self.decay, step / (step + _EARLY))
        for name, parameter in model.named_parameters():
            self.weights[name].lerp_(parameter, share)

    @torch.no_grad()
    def give_to(self, model: nn.Module) -> None:
        """Set the model's parameters to their averages."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.weights[name])

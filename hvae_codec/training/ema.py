"""An average of a model's weights along its training, which codes better than the last ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import PARAM_LIST, AveragedModel

_EARLY = 20
"""After n steps the average weighs the last (n + 20) / 20 or so, until its decay says more."""


def weight_average(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the parameters of a model, a copy beside it in memory.

    `decay` is what the average keeps of itself in a step; in step n, counted from 0, it keeps
    n / (n + 20) where that is less, so that it soon forgets the weights that training began with.
    """

    def average(kept: PARAM_LIST, current: PARAM_LIST, steps: Tensor | int) -> None:
        share = 1.0 - min(decay, int(steps) / (int(steps) + _EARLY))
        torch._foreach_lerp_(list(kept), list(current), share)

    return AveragedModel(model, multi_avg_fn=average)

"""Likelihoods p(x|z_1): what the decoder's output means, what it costs, which image it shows."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIGMA_X = 0.71
"""Standard deviation of p(x|z_1) on pixels in [0, 1] (paper, Section 5.1)."""


def dtype_of(model: nn.Module) -> torch.dtype:
    """The dtype of a model's weights, which its input has to have."""
    return next(model.parameters()).dtype


def at_least_fp32(x: Tensor) -> Tensor:
    """Half precisions as fp32; fp32 and fp64 as they are."""
    return x if x.dtype == torch.float64 else x.float()


class GaussianLikelihood:
    """p(x|z_1) = N(g(z_1), SIGMA_X^2 I) on pixels in [0, 1]."""

    def pixels(self, images: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Model input in [0, 1] for uint8 images of any shape; dtype None is torch's default."""
        return images.to(dtype or torch.get_default_dtype()) / 255.0

    def distortion_nats(self, output: Tensor, x: Tensor) -> Tensor:
        """-log p(x|z_1) per image, in nats. `output` = g(z_1) and x: [B, C, H, W]; returns fp32
        [B].
        """
        squared = (at_least_fp32(output) - x).square().flatten(1).sum(1)
        return squared / (2 * SIGMA_X**2) + self.least_nats(x[0].numel())

    def least_nats(self, dims: int) -> float:
        """The distortion of an exact image of so many values."""
        return 0.5 * dims * math.log(2 * math.pi * SIGMA_X**2)

    def shown_nats(self, output: Tensor, x: Tensor) -> Tensor:
        """`distortion_nats` of the image that is shown, which is cut off at 0 and 1; fp32 [B]."""
        return self.distortion_nats(output.clamp(0.0, 1.0), x)

    def mode(self, output: Tensor) -> Tensor:
        """The most probable image, in [0, 1]; same shape as `output`."""
        return output.clamp(0.0, 1.0)


class BernoulliLikelihood:
    """p(x|z_1) = Bernoulli(sigmoid(g(z_1))) on binary pixels."""

    def pixels(self, images: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Model input, x/255 rounded to 0 or 1 (the paper's binarisation), for uint8 images;
        dtype None is torch's default.
        """
        return (images > 127).to(dtype or torch.get_default_dtype())

    def distortion_nats(self, output: Tensor, x: Tensor) -> Tensor:
        """-log p(x|z_1) per image, in nats. `output`: logits [B, C, H, W], x in {0, 1}; returns
        fp32 [B].
        """
        logits = at_least_fp32(output)
        losses = F.binary_cross_entropy_with_logits(logits, x.to(logits.dtype), reduction="none")
        return losses.flatten(1).sum(1)

    def least_nats(self, dims: int) -> float:
        """The least distortion of an image of so many values."""
        return 0.0

    def shown_nats(self, output: Tensor, x: Tensor) -> Tensor:
        """`distortion_nats`: an image of two values says nothing of how near it was; fp32 [B]."""
        return self.distortion_nats(output, x)

    def mode(self, output: Tensor) -> Tensor:
        """The most probable image: 1 where the logit is positive, else 0."""
        return (output > 0).to(at_least_fp32(output).dtype)


Likelihood = GaussianLikelihood | BernoulliLikelihood

LIKELIHOODS: dict[str, type[GaussianLikelihood] | type[BernoulliLikelihood]] = {
    "gaussian": GaussianLikelihood,
    "bernoulli": BernoulliLikelihood,
}

"""One beta for several layers: in deep models each bin of neighbouring layers may share one."""

from __future__ import annotations

from collections.abc import Sequence

from hvae_codec.errors import SpecError


def beta_per_layer(betas: Sequence[float], bins: Sequence[int], layers: int) -> tuple[float, ...]:
    """The betas of all layers, top first, from one for each bin.

    bins: how many neighbouring layers each bin has, top first: (1, 3) is the top layer alone, and
    the three below it together.

    Raises:
        SpecError: the bins do not make up so many layers, or there is not one beta for each.
    """
    text = ",".join(map(str, bins))
    if any(size < 1 for size in bins) or sum(bins) != layers:
        raise SpecError(
            f"beta-groups {text}: each needs 1 or more layers, {layers} in all; found {sum(bins)}"
        )
    if len(betas) != len(bins):
        raise SpecError(
            f"beta-groups {text} need a beta each, {len(bins)} in all; {len(betas)} given"
        )
    return tuple(beta for beta, size in zip(betas, bins, strict=True) for _ in range(size))

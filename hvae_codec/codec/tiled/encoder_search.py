"""Better symbols for the same decoder: the encoder's search for least D + lambda R (Eq. 8).

Rounding each posterior mean is what training prepared the networks for, and not the best that the
encoder can do for one image: the mean is what one pass of the inference network guesses, and the
errors of rounding add up in the image. Here the latents of each image are moved along the
gradient of distortion and real code length (Campos et al. 2019 call the first half of this content
adaptive optimisation), then made integers a share at a time while the rest makes up for their
rounding, and last single symbols are tried one higher and one lower. The image's symbols change;
the format, the tables and the decoder do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hvae_codec.codec.entropy.tables import TOTAL, SymbolTables
from hvae_codec.errors import HvaeCodecError
from hvae_codec.models.hvae import HierarchicalVAE
from hvae_codec.models.inference import loading
from hvae_codec.utils.arguments import equals, is_masked, shown
from hvae_codec.utils.cancellation import check

_GAIN, _MOMENTUM, _LATE_MOMENTUM = 0.3, 0.7, 0.5
_FIRST_FLIPS = 8.0
_SETTLED_SHARE = 0.99


@dataclass(frozen=True)
class Schedule:
    """Passes through the decoder and back.

    starts: pairs of passes that move all latents freely and of those that make them integers; of
    their results and rounding each image takes its best, since long searches do not pay where
    few symbols differ from 0. flips: those that try single symbols from there.
    """

    starts: tuple[tuple[int, int], ...]
    flips: int


SCHEDULES = {
    1: Schedule(starts=((2, 3), (1, 0)), flips=3),
    2: Schedule(starts=((12, 40), (2, 3), (1, 1)), flips=8),
}
"""What each effort above 0 (rounding) does."""

EFFORTS = (0, *SCHEDULES)

TRADE_MIN, TRADE_MAX = 1 / 64, 64.0
"""Range of `trade`."""


@loading  # gradients pass it
def per_tile(effort: int, trade: float | Sequence[float], tiles: Sequence[int]) -> Tensor:
    """The trade of each tile, fp32 [T], of images of so many tiles each.

    `trade` is one number or one for each image. Raises HvaeCodecError if these, or the effort,
    are not allowed.
    """
    if not any(equals(effort, allowed) for allowed in EFFORTS):
        raise HvaeCodecError(f"effort must be one of {EFFORTS}; got {shown(effort)}")
    try:
        given = np.asarray(trade)
        # NumPy would read numbers from text, bytes and durations, and what is masked.
        buffer = isinstance(trade, bytes | bytearray | memoryview)
        if buffer or given.dtype.kind not in "biufO" or is_masked(trade):
            raise TypeError
        trades = given.astype(np.float64)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise HvaeCodecError(
            f"trade must be a number, or one for each; got {shown(trade)}"
        ) from error
    if effort == 0 and (trades != 1.0).any():
        raise HvaeCodecError(
            "trade steers the search of efforts above 0; with effort 0 it must be 1"
        )
    if not ((trades >= TRADE_MIN) & (trades <= TRADE_MAX)).all():
        raise HvaeCodecError(f"trade must be {TRADE_MIN} to {TRADE_MAX}; got {shown(trade)}")
    if trades.ndim and trades.shape != (len(tiles),):
        raise HvaeCodecError(
            f"need one trade, or one for each of {len(tiles)} images; got {shown(trade)}"
        )
    each = np.broadcast_to(trades, len(tiles)).astype(np.float32)
    return torch.from_numpy(np.repeat(each, tiles))


class CodeLengths:
    """Ideal code lengths under static tables, in nats, for tensors of symbols [B, *shape].

    low, high: each dimension's support. free: 1 where its symbol varies, 0 where nearly every
    image has the same one.
    """

    def __init__(
        self, tables: SymbolTables, shapes: Sequence[tuple[int, ...]], device: torch.device
    ) -> None:
        self.low: list[Tensor] = []
        self.high: list[Tensor] = []
        self.free: list[Tensor] = []
        self._nats: list[Tensor] = []
        self._start: list[Tensor] = []
        for layer, shape in zip(tables.layers, shapes, strict=True):
            low = torch.tensor(layer.low, device=device).reshape(shape)
            high = torch.tensor(layer.high, device=device).reshape(shape)
            nats = torch.tensor(layer.cost_bits * math.log(2.0), device=device)
            likeliest = np.maximum.reduceat(layer.frequency, layer.offset) / TOTAL
            free = torch.tensor(likeliest < _SETTLED_SHARE, device=device).reshape(shape)
            self.free.append(free.float())
            self.low.append(low.float())
            self.high.append(high.float())
            self._nats.append(nats.float())
            self._start.append(torch.tensor(layer.offset, device=device).reshape(shape) - low)

    def clamp(self, layer: int, u: Tensor) -> Tensor:
        """`u` brought into the supports."""
        return torch.clamp(u, self.low[layer], self.high[layer])

    def nats(self, layer: int, k: Tensor) -> Tensor:
        """Of symbols within their supports, each."""
        return self._nats[layer].take(k.long() + self._start[layer])

    def neighbour(self, layer: int, k: Tensor, by: float) -> Tensor:
        """Of the symbols k + by, each; infinite beyond the support."""
        inside = self.clamp(layer, k + by)
        return torch.where(inside == k + by, self.nats(layer, inside), math.inf)

    def between(self, layer: int, u: Tensor) -> Tensor:
        """Of real numbers, each, by a straight line from one integer to the next; differentiable.

        Beyond the support it is that of the nearest symbol.
        """
        u = self.clamp(layer, u)
        below = u.detach().floor()
        above = self.clamp(layer, below + 1)
        base = self.nats(layer, below)
        return base + (self.nats(layer, above) - base) * (u - below)


class EncoderSearch:
    """Improves the symbols of a trained model with its tables.

    `beta` is the weight that training gave the rate in nats against the distortion in nats. It also
    says how the distortion curves: a learned step balances beta / step, the rate that a wider one
    saves, against the distortion that it adds, half the curvature times step / 6; so the curvature
    per unit of a symbol is about 12 beta in every dimension that carries information (measured: 0.4
    to 1.2 times that). The steps of the others are whatever training left them at, and a change
    there may ruin the image: they are rounded and left alone. The search is deterministic.
    """

    def __init__(self, model: HierarchicalVAE, tables: SymbolTables, beta: float) -> None:
        self._model = model
        self._beta = beta
        self._curvature = 12.0 * beta
        shapes = [latent.shape for latent in model.spec.latents]
        self._lengths = CodeLengths(tables, shapes, next(model.parameters()).device)
        self._steps = [model.step(index).detach() for index in range(len(model.spec.latents))]
        self._bottom = len(self._steps) - 1

    def improve(
        self, x: Tensor, rounded: Sequence[Tensor], effort: int, trade: Tensor
    ) -> list[Tensor]:
        """Symbols [B, *shape] per layer, top first, that cost no image more than `rounded` does.

        x: images [B, C, H, W] as the model takes them. `trade`, fp32 [B], scales lambda = trade *
        beta: above 1 is fewer bytes, below 1 a better image.
        """
        schedule = SCHEDULES[effort]
        weight = self._beta * trade
        best = list(rounded)
        for settle, harden in schedule.starts:
            latents = self._settle(x, weight, settle)
            found = self._harden(x, latents, weight, harden)
            best = self._better(x, trade, found, best)
        return self._flip(x, best, weight, schedule.flips)

    def _better(
        self, x: Tensor, trade: Tensor, one: Sequence[Tensor], other: Sequence[Tensor]
    ) -> list[Tensor]:
        """For each image, whichever symbols cost less."""
        first = self.cost(x, one, trade) < self.cost(x, other, trade)
        return [torch.where(_per_row(first, a), a, b) for a, b in zip(one, other, strict=True)]

    def improve_part(
        self, effort: int, trades: Tensor, x: Tensor, rounded: list[Tensor], start: int
    ) -> list[Tensor]:
        """`improve` for images that are start, start + 1, ... of those that `trades` is for."""
        return self.improve(x, rounded, effort, trades[start : start + len(x)].to(x.device))

    @torch.no_grad()
    def cost(self, x: Tensor, symbols: Sequence[Tensor], trade: Tensor) -> Tensor:
        """D + trade * beta * R of each image, in nats, [B]; D is that of the image shown."""
        check()
        output = self._model.decode(self._model.dequantise(symbols))
        nats = self._model.likelihood.shown_nats(output, x)
        for index, k in enumerate(symbols):
            nats = nats + self._beta * trade * self._lengths.nats(index, k).flatten(1).sum(1)
        return nats

    def _settle(self, x: Tensor, weight: Tensor, steps: int) -> list[Tensor]:
        """The latents of all layers, moved from the posterior means down the gradient of the cost.

        An image whose cost rose takes half the step from there on.
        """
        with torch.no_grad():
            latents = self._within([mean for mean, _ in self._model.posteriors(x)])
        velocities = [torch.zeros_like(z) for z in latents]
        gain = torch.full((len(x),), _GAIN / self._curvature, dtype=x.dtype, device=x.device)
        last = torch.full_like(gain, math.inf)
        for _ in range(steps):
            cost, gradients = self._relaxed(x, latents, weight)
            worse = cost > last
            gain, last = torch.where(worse, gain / 2, gain), cost
            for index, gradient in enumerate(gradients):
                kept = velocities[index] * _MOMENTUM * _per_row(~worse, gradient)
                scale = self._steps[index].square() * self._lengths.free[index]
                velocities[index] = kept - _per_row(gain, gradient) * scale * gradient
            moved = [z + velocity for z, velocity in zip(latents, velocities, strict=True)]
            with torch.no_grad():
                latents = self._within(moved)
        return latents

    def _relaxed(
        self, x: Tensor, latents: Sequence[Tensor], weight: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Cost [B] of latents that need not be on the grid, and its gradients."""
        check()
        with torch.enable_grad():
            leaves = [z.detach().requires_grad_() for z in latents]
            nats = torch.zeros(len(x), dtype=x.dtype, device=x.device)
            for index, u in enumerate(self._positions(leaves)):
                nats = nats + self._lengths.between(index, u).flatten(1).sum(1)
            output = self._model.decode(leaves)
            cost = self._model.likelihood.shown_nats(output, x) + weight * nats
            gradients = torch.autograd.grad(cost.sum(), leaves)
        return cost.detach(), gradients

    def _positions(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Latents in units of their grids, (z - mu_p) / step: real-valued symbols."""
        return [self._position(index, latents) for index in range(len(latents))]

    def _position(self, index: int, latents: Sequence[Tensor]) -> Tensor:
        mode = self._model.prior_mode(index, latents[:index])
        z = latents[index]
        return (z if mode is None else z - mode) / self._steps[index]

    def _latent(self, index: int, u: Tensor, above: Sequence[Tensor]) -> Tensor:
        mode = self._model.prior_mode(index, above)
        z = u * self._steps[index]
        return z if mode is None else mode + z

    def _within(self, latents: Sequence[Tensor]) -> list[Tensor]:
        """Latents moved to where some real-valued symbol within the tables' supports puts them, and
        to an integer one where the symbol is not free.
        """
        held: list[Tensor] = []
        for index, z in enumerate(latents):
            u = self._lengths.clamp(index, self._position(index, [*held, z]))
            u = torch.where(self._lengths.free[index] > 0, u, u.round())
            held.append(self._latent(index, u, held))
        return held

    def _harden(
        self, x: Tensor, latents: Sequence[Tensor], weight: Tensor, stages: int
    ) -> list[Tensor]:
        """Symbols near real-valued latents: the layers above the bottom at once, which stays where
        it is; then the bottom's a share at a time, those nearest to an integer first, the others
        moving on to make up for what rounding changed.
        """
        symbols: list[Tensor] = []
        fixed: list[Tensor] = []
        with torch.no_grad():
            for index in range(self._bottom):
                u = self._position(index, [*fixed, latents[index]])
                symbols.append(self._lengths.clamp(index, u.round()))
                fixed.append(self._latent(index, symbols[index], fixed))
            mode = self._model.prior_mode(self._bottom, fixed)
            u = self._position(self._bottom, [*fixed, latents[-1]])
        u = self._lengths.clamp(self._bottom, u)
        velocity = torch.zeros_like(u)
        gain = _GAIN / self._curvature * self._lengths.free[self._bottom]
        for stage in range(1, stages + 1):
            distance = (u - u.round()).abs().flatten(1)
            count = distance.shape[1] * stage // (stages + 1)
            farthest = distance.kthvalue(max(count, 1), dim=1).values
            whole = (distance <= farthest[:, None]).view_as(u)
            u = torch.where(whole, u.round(), u)
            _, gradient = self._bottom_cost(x, mode, u, weight)
            velocity = torch.where(whole, 0.0, _LATE_MOMENTUM * velocity - gain * gradient)
            u = self._lengths.clamp(self._bottom, u + velocity)
        return [*symbols, u.round()]

    def _flip(
        self, x: Tensor, symbols: Sequence[Tensor], weight: Tensor, rounds: int
    ) -> list[Tensor]:
        """Symbols of the bottom layer one higher or lower where that is found to cost less.

        Each round takes, in each image, the flips that gradient, curvature and code lengths say
        are the best ones, all together, and keeps them if the cost fell. More of them are taken
        after a success and half as many after a failure, when they were in each other's way.
        """
        *above, k = symbols
        index, shape = self._bottom, k.shape
        with torch.no_grad():
            mode = self._model.prior_mode(index, self._model.dequantise(symbols)[:index])
        cost, gradient = self._bottom_cost(x, mode, k, weight, slope=False)
        taken = torch.full_like(cost, _FIRST_FLIPS)
        for _ in range(rounds):
            lengths = self._lengths.nats(index, k)
            up, down = (
                by * gradient
                + self._curvature / 2
                + _per_row(weight, k) * (self._lengths.neighbour(index, k, by) - lengths)
                for by in (1.0, -1.0)
            )
            gains = (torch.minimum(up, down) * self._lengths.free[index]).flatten(1)
            ranked = gains.sort(dim=1).values.clamp_(max=0.0)
            limit = ranked.gather(1, taken.long()[:, None] - 1)
            chosen = ((gains <= limit) & (gains < 0.0)).view(shape)
            towards = 2.0 * (up < down).to(k.dtype) - 1.0
            tried = k + torch.where(chosen, towards, 0.0)
            new_cost, new_gradient = self._bottom_cost(x, mode, tried, weight, slope=False)
            better = new_cost < cost
            k = torch.where(_per_row(better, k), tried, k)
            gradient = torch.where(_per_row(better, k), new_gradient, gradient)
            cost = torch.minimum(cost, new_cost)
            taken = torch.where(better, taken * 1.3, taken / 2).clamp_(1, gains.shape[1])
        return [*above, k]

    def _bottom_cost(
        self, x: Tensor, mode: Tensor | None, u: Tensor, weight: Tensor, slope: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Cost [B] of (real-valued) symbols of the bottom layer, the layers above left out, and its
        gradient per unit of a symbol; without `slope`, the distortion's alone.
        """
        check()
        with torch.enable_grad():
            leaf = u.detach().requires_grad_()
            z = leaf * self._steps[-1]
            output = self._model.decode([z if mode is None else mode + z])
            cost = self._model.likelihood.shown_nats(output, x)
            nats = self._lengths.between(self._bottom, leaf if slope else u).flatten(1).sum(1)
            cost = cost + weight * nats
            (gradient,) = torch.autograd.grad(cost.sum(), leaf)
        return cost.detach(), gradient


def _per_row(values: Tensor, like: Tensor) -> Tensor:
    """[B] values shaped to broadcast over the rows of `like` [B, ...]."""
    return values.reshape(-1, *[1] * (like.dim() - 1))

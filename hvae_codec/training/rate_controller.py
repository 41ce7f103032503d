"""Rates on request: betas that adapt in one run until each layer's rate is what was asked for.

A target turns Eq. 8 into its constrained form: least distortion at given rates. The betas are its
Lagrange multipliers, and they follow the constraints as in D. J. Rezende and F. Viola 2018, "Taming
VAEs": a layer whose rate is above its target gets a higher beta, and the other way round. What is
weighed in a step is the multiplier times the factor by which the rate has lately been off. Without
that factor the two swing: a layer that has been pushed down to a few nats takes a thousand steps to
come back, and comes back with force.

Both are gentle at first and firm at last. A layer that is squeezed to its target at once costs what
the others could have learned meanwhile (MNIST, 2.2 nats in z1: 0.5 dB), and towards the end rates
creep while the learning rate, and with it the networks' answer, fades.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

GAIN, GAIN_STEPS = 0.002, 20_000
"""Change of a multiplier's logarithm a step when the rate is e times its target, in runs of so many
steps or more; shorter runs need a higher one to get there at all."""

FIRMNESS = 2.0
"""How much higher the gain is at the end than at first, before it follows the networks' pace."""

MEMORY = 0.98
"""Share of the mean error that a step leaves as it is: rates of minibatches scatter."""

BETA_MIN, BETA_MAX = 1e-6, 1e4
"""Range of a multiplier. At its ends a layer's rate no longer follows: out of reach."""

_LARGEST_ERROR = 1.0


class RateController:
    """Betas, top first, of a run with target rates in nats per image; None leaves a beta alone.

    multipliers: those reached so far. errors: the mean of log(rate / target) lately, per layer.
    """

    def __init__(
        self,
        multipliers: Sequence[float],
        targets: Sequence[float | None],
        steps: int,
        errors: Sequence[float] | None = None,
    ) -> None:
        """`steps`: of the whole run. `errors`: where an interrupted run goes on."""
        self.multipliers = tuple(multipliers)
        self.errors = (0.0,) * len(self.multipliers) if errors is None else tuple(errors)
        self._targets = tuple(targets)
        self._gain = GAIN * max(1.0, GAIN_STEPS / steps)

    def betas(self, pace: float) -> tuple[float, ...]:
        """What the rates weigh in a step. pace: the learning rate's share of its highest value."""
        pairs = zip(self.multipliers, self.errors, strict=True)
        power = 2.0 - pace
        return tuple(multiplier * math.exp(power * error) for multiplier, error in pairs)

    def update(self, rates_nats: Sequence[float], pace: float) -> None:
        """Follow the mean rates of one minibatch.

        pace: as in `betas`. Networks that learn slower also answer slower; but rates creep up as
        they do, so the multipliers slow down less.
        """
        gain = self._gain * math.sqrt(pace) * (1.0 + FIRMNESS * (1.0 - pace))
        multipliers, errors = [], []
        for index, target in enumerate(self._targets):
            error = 0.0 if target is None else _error(rates_nats[index], target)
            errors.append(MEMORY * self.errors[index] + (1.0 - MEMORY) * error)
            grown = self.multipliers[index] * math.exp(gain * error)
            bounded = max(BETA_MIN, min(BETA_MAX, grown))
            multipliers.append(self.multipliers[index] if target is None else bounded)
        self.multipliers, self.errors = tuple(multipliers), tuple(errors)


def _error(rate: float, target: float) -> float:
    error = math.log(max(rate, 1e-3 * target) / target)
    return max(-_LARGEST_ERROR, min(_LARGEST_ERROR, error))

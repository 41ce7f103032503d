"""When a failed call is made again: never for what would fail again, nor beyond its deadline."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import grpc

from hvae_codec.client import errors
from hvae_codec.errors import HvaeCodecError
from hvae_codec.utils.arguments import real, shown, take, whole

LONGEST_SECONDS: Final = 1e9
"""Longest deadline that gRPC is asked for, some 30 years; longer ones are none."""


def duration(name: str, given: object) -> float:
    """Seconds that something may take. Raises HvaeCodecError: no number, NaN or negative."""
    seconds = real(name, given)
    if not seconds >= 0.0:
        raise HvaeCodecError(f"{name} must be at least 0 seconds, got {shown(given)}")
    return seconds


@dataclass(frozen=True)
class Retry:
    """How often a client makes a call that the server could not take just now, and how it waits.

    Calls are made again where the server is not there or stopping (UNAVAILABLE, or CANCELLED where
    gRPC itself says it for a server that stopped before it saw the call), and where it is
    full (RESOURCE_EXHAUSTED with a google.rpc.RetryInfo, whose delay is waited at least, or with
    gRPC's own words for too many calls at once). The wait doubles from `first_delay` up to
    `greatest_delay`, both in seconds, and of each only a random share from half to whole is waited,
    so that clients that failed together do not come again together.

    Raises:
        HvaeCodecError: a number is none, `attempts` is below 1, or delays are negative or out of
            order.
    """

    attempts: int = 6
    """Most tries in a row without an answer, the first among them; 1 never tries again."""
    first_delay: float = 0.2
    greatest_delay: float = 5.0
    seed: int | None = None
    """Of the random shares; None takes other ones each time."""

    def __post_init__(self) -> None:
        take(self, "attempts", whole)
        if self.attempts < 1:
            raise HvaeCodecError(f"attempts must be at least 1, got {shown(self.attempts)}")
        take(self, "seed", whole)
        take(self, "first_delay", real)
        take(self, "greatest_delay", real)
        if not 0.0 <= self.first_delay <= self.greatest_delay:
            raise HvaeCodecError(
                "delays must hold 0 <= first_delay <= greatest_delay, got "
                f"{self.first_delay} and {self.greatest_delay}"
            )

    def delay(self, failures: int, share: float) -> float:
        """Seconds to wait after so many failures in a row, at least 1; `share` in 0..1."""
        doublings = min(failures - 1, 60)  # beyond which floats only grow
        whole = min(self.greatest_delay, self.first_delay * 2.0**doublings)
        return whole * (0.5 + 0.5 * share)


class RetryState:
    """The tries of one call of a client, which may be several messages; all share its deadline."""

    def __init__(
        self,
        policy: Retry,
        shares: random.Random,
        target: str,
        timeout: float | None,
        clock: Callable[[], float] = time.monotonic,
        *,
        grows: bool = False,
        hint: Callable[[str], str | None] = lambda details: None,
    ) -> None:
        """timeout: seconds; None, or more than gRPC can count, for no limit.
        grows: nobody chose it, and searches add to it. hint: what the details of a failed call
        mean.
        """
        self._policy = policy
        self._shares = shares
        self._target = target
        if timeout is not None and timeout > LONGEST_SECONDS:
            timeout = None
        self._timeout = timeout
        self._clock = clock
        self._ends = None if timeout is None else clock() + timeout
        self._grows = grows
        self._hint = hint
        self._failures = 0

    def allow(self, seconds: float) -> None:
        """Add what a search may take, unless somebody chose the timeout."""
        if self._grows and self._timeout is not None and self._ends is not None:
            self._timeout += seconds
            self._ends += seconds

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, None for no deadline; not below 0."""
        return None if self._ends is None else max(self._ends - self._clock(), 0.0)

    def answered(self) -> None:
        """Note that the server answers: failures before this no longer count."""
        self._failures = 0

    def wait_after(self, error: grpc.RpcError) -> float | None:
        """Seconds to wait before the next try, or None where there is to be none."""
        asked = errors.retry_delay(error)
        if not errors.is_full(error) and not errors.is_away(error):
            return None
        return self._next(asked or 0.0)

    def wait_after_lost_item(self) -> float | None:
        """As `wait_after`, where the server lost some items of a request that it took."""
        return self._next(0.0)

    def failure(self, error: grpc.RpcError) -> Exception:
        """The exception that tells the caller of a failed try."""
        return errors.of_call(error, self._target, self._timeout, self._hint)

    def check_time(self) -> None:
        """Raise what the caller is to see where the deadline has passed."""
        if self.remaining == 0.0:
            raise errors.late(self._target, self._timeout)

    def _next(self, asked: float) -> float | None:
        self._failures += 1
        if self._failures >= self._policy.attempts:
            return None
        own = self._policy.delay(self._failures, self._shares.random())
        # Those who were asked to come at the same time spread over what they would have waited.
        wait = own if asked == 0.0 else asked + self._shares.random() * own
        wait = min(wait, LONGEST_SECONDS)  # more than which no thread can sleep
        remaining = self.remaining
        return wait if remaining is None or wait < remaining else None

"""What a kind of input is to a campaign."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Protocol

from benchmarks.fuzzing.mutate import MAX_BYTES


@dataclass(frozen=True)
class Mutant:
    """An input made from another one.

    forged: check sums were computed again, or may have been: the input may be a sound file of its
    own, so that nothing can be said of what it should decode to.
    """

    data: bytes
    parent: bytes
    forged: bool


@dataclass(frozen=True)
class Outcome:
    """What became of an input.

    stage: how far the reader came; one of the kind's own few words.
    refusal: the class and text of the error that ended it; empty if it was read to its end.
    meaning: a number for each thing that was read, equal for equal things only. What is read of an
        input that is no forgery must have been read of a sound input too: else a change went
        unnoticed.
    """

    stage: str
    refusal: str = ""
    meaning: frozenset[int] = frozenset()


class Target(Protocol):
    """A kind of input."""

    seeds: list[bytes]
    """Sound inputs."""

    check_bits: dict[str, int]
    """Stage at which a check sum refuses an input -> bits of the check sum."""

    def mutate(self, data: bytes, rng: random.Random) -> Mutant:
        """Another input, a few changes away."""
        ...

    def run(self, data: bytes, *, whole: bool) -> Outcome:
        """Read an input; `whole`: through the networks too.

        Raises what no reader may raise.
        """
        ...


def different(target: Target, data: bytes, rng: random.Random) -> Mutant:
    """A mutant of `data`, or of a seed, lest seeds be forgotten; not what it was made from."""
    if not data or rng.random() < 0.4:
        data = rng.choice(target.seeds)
    while True:
        mutant = target.mutate(data, rng)
        if mutant.data != data and len(mutant.data) <= MAX_BYTES:
            return mutant


HELD = "/proc/self/fd/"
"""Where an archive in memory lies."""

_NUMBER = re.compile(r"\b0x[0-9a-f]+\b|\b[0-9a-f]*[0-9][0-9a-f.,]*\b|\b[a-f]{2,8}\b")


def refusal_of(error: Exception) -> str:
    """Class and text of an error, without the numbers in it."""
    return f"{type(error).__name__}: {_NUMBER.sub('#', str(error).removeprefix(HELD))[:70]}"

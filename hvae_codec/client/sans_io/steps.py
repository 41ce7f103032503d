"""Steps that a client takes: what the generators of `protocol` yield, without any I/O.

A generator yields a step. The runner that drives it takes the step and sends its result back in, or
throws the grpc.RpcError with which the step failed.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from google.protobuf.message import Message

from hvae_codec.errors import HvaeCodecError
from hvae_codec.utils.arguments import real, whole

T = TypeVar("T")


@dataclass(frozen=True)
class Streaming:
    """How a client's streams go: `in_flight` messages of at most `message_items` wait for answers.

    More items a message are faster, fewer come back sooner; more messages keep a server busy
    that is far away, and are held in memory here. A message that is not full goes out once its
    first item has waited for `delay_seconds` and the source has nothing more for the moment. With
    None it waits until it is full, and answers wait while the source is read.

    Raises:
        HvaeCodecError: a number is below 1, or the delay is negative or not finite.
    """

    in_flight: int = 4
    message_items: int = 256
    delay_seconds: float | None = 0.2

    def __post_init__(self) -> None:
        if min(whole("in_flight", self.in_flight), whole("message_items", self.message_items)) < 1:
            raise HvaeCodecError(f"in_flight and message_items must be at least 1, got {self}")
        delay = 0.0 if self.delay_seconds is None else real("delay_seconds", self.delay_seconds)
        if not 0.0 <= delay < math.inf:
            raise HvaeCodecError(f"delay_seconds must be finite and at least 0, got {self}")


class End(Enum):
    """There is no more."""

    END = 0


class Later(Enum):
    """The caller's values have nothing yet."""

    NOTHING = 0
    """Not within the time."""
    ANSWER = 1
    """But the stream has an answer, or has ended."""


@dataclass(frozen=True)
class Call:
    """Make a call of one message; its result is the response."""

    method: str
    request: Message
    timeout: float | None


@dataclass(frozen=True)
class Wait:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Pull:
    """Get the next of the caller's values; its result is it, END, or a `Later`: after so many
    seconds, and with `watch` as soon as the stream has something.
    """

    seconds: float | None = None
    watch: bool = False


@dataclass(frozen=True)
class Open:
    """Open a stream; an older one has ended."""

    method: str
    timeout: float | None


@dataclass(frozen=True)
class Send:
    """Let a message go out on the stream, without waiting until it has."""

    message: Message


@dataclass(frozen=True)
class Receive:
    """Wait for the next message of the stream; its result is it or END."""


@dataclass(frozen=True)
class Finish:
    """Say on the stream that no more will be sent, and wait for its end."""


@dataclass(frozen=True)
class Emit:
    """Hand these outcomes to the caller."""

    outcomes: Sequence[Any]


UnaryStep = Call | Wait
StreamStep = Call | Wait | Pull | Open | Send | Receive | Finish | Emit
UnarySteps = Generator[UnaryStep, Any, T]
StreamSteps = Generator[StreamStep, Any, None]

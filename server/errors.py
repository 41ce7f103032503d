"""Errors that the server raises itself; `rpc/status.py` has the gRPC status of each."""

from hvae_codec.errors import HvaeCodecError


class InvalidRequestError(HvaeCodecError):
    """A message's fields contradict the contract in `codec.proto`."""


class LimitError(HvaeCodecError):
    """A call asks for more bytes, items or pixels than this server allows in one call."""


class UnauthenticatedError(HvaeCodecError):
    """A call has no token that the server knows."""


class RetryLaterError(Exception):
    """The caller shall try again after `retry_seconds`; None: that cannot help."""

    def __init__(self, message: str, retry_seconds: float | None) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class OverloadError(RetryLaterError):
    """The server holds as much as it may."""


class TokenLimitError(RetryLaterError):
    """A token has as much in flight, or called as often, as it may."""


class StoppingError(Exception):
    """The server is stopping and takes no more messages."""


class SilentCallError(Exception):
    """A call sent no message, or read no answer, in time; the rest may go in another."""


class DeadlinePassedError(Exception):
    """The caller's deadline passed before the work was begun."""


class WorkerLostError(Exception):
    """A process ended in the middle of this work, and another one that tried it again."""


class SecurityError(Exception):
    """A certificate, key or token file cannot be used; the message says which and why."""

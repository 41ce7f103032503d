"""What a client raises: the codec's own errors where the server names one, else `ServiceError`."""

import re
import warnings
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Final, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from hvae_codec import grpc_error_info
from hvae_codec.v1 import codec_pb2

_SIZE_WORDS: Final = re.compile(r"larger than|too (large|big)|exceeds|maximum size", re.IGNORECASE)
"""What gRPC's libraries say of a message that is longer than they take."""

_LARGER: Final = re.compile(
    r"(CLIENT|SERVER): (Sent|Received) message larger than max \((\d+) vs\. (\d+)\)"
)
"""What gRPC of this release says."""

_TOO_MANY_CALLS: Final = "Concurrent RPC limit exceeded"
"""What gRPC's servers in Python say, and no more than that."""

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class ServiceError(RuntimeError):
    """A call failed for a reason that is not an error of the codec; `code` is the gRPC status."""

    def __init__(self, message: str, code: grpc.StatusCode) -> None:
        super().__init__(message)
        self.code = code


class StreamEndedError(grpc.RpcError):
    """A server ended a stream before all of its messages were answered, and gave no reason."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "the stream ended before its last answer"


def of_call(
    error: grpc.RpcError,
    target: str,
    timeout: float | None,
    hint: Callable[[str], str | None] = lambda details: None,
) -> Exception:
    """The exception that a client raises for a failed call; `hint` says what details mean."""
    code: grpc.StatusCode = error.code()
    details: str = error.details() or "no details"
    status = _status(error)
    if status is not None and (library_class := grpc_error_info.library_class(status)) is not None:
        return library_class(details)
    if (reason := _too_large(details)) is not None:
        return ServiceError(f"call to {target} failed: {reason}", code)
    if code is grpc.StatusCode.UNAVAILABLE:
        reason = hint(details) or details
        return ServiceError(f"no server at {target} takes this call: {reason}", code)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return late(target, timeout)
    return ServiceError(f"call to {target} failed with {code.name}: {details}", code)


def _too_large(details: str) -> str | None:
    """What gRPC's words about a message above a limit mean; None where they are about another
    thing.
    """
    found = _LARGER.search(details)
    if found is None:
        return None
    size, most = int(found[3]), int(found[4])
    if found[1] == "SERVER":
        what = "a request" if found[2] == "Received" else "the answer"
        return f"{what} of {size:,} bytes; the server's --max-message-bytes is {most:,}"
    what = "a request" if found[2] == "Sent" else "the answer"
    return (
        f"{what} of {size:,} bytes; max_message_bytes of this client (--max-message-bytes of "
        f"commands) is {most:,}; the server has a limit of its own"
    )


def late(target: str, timeout: float | None) -> ServiceError:
    """What a client raises where the deadline passed."""
    code = grpc.StatusCode.DEADLINE_EXCEEDED
    return ServiceError(f"no answer from {target} within {timeout} s", code)


def unreadable(what: str) -> ServiceError:
    """What a client raises for an answer that contradicts the contract."""
    return ServiceError(f"the server's answer cannot be read: {what}", grpc.StatusCode.INTERNAL)


def of_status(status: codec_pb2.Status) -> Exception:
    """The exception that stands for an item of a request, or for a message of a stream."""
    library_class = grpc_error_info.class_of_reason(status.reason)
    if library_class is not None:
        return library_class(status.message)
    return ServiceError(status.message, _CODES.get(status.code, grpc.StatusCode.UNKNOWN))


def warn_of(told: Iterable[codec_pb2.Warning], item: str = "") -> None:
    """Warn of what was not taken of an item, in the class that a local call warns in."""
    lead = f"{item}: " if item else ""
    for each in told:
        category = grpc_error_info.warning_of_reason(each.reason)
        warnings.warn(f"{lead}{each.message}", category, stacklevel=3)


def placed(error: Exception, field: str, index: int) -> Exception:
    """The same error, its message led by the place of the item that it is about.

    Servers may say the place in their message, which is another where a request was split.
    """
    said = re.sub(rf"^{field}\[\d+\]: ", "", str(error))
    message = f"{field}[{index}]: {said}"
    if isinstance(error, ServiceError):
        return ServiceError(message, error.code)
    found = type(error)(message)
    found.__cause__ = error.__cause__
    return found


def retry_delay(error: grpc.RpcError) -> float | None:
    """Seconds after which the server asks to be called again, or None where it does not."""
    status = _status(error)
    info = error_details_pb2.RetryInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(info):
            delay: timedelta = info.retry_delay.ToTimedelta()
            return max(delay.total_seconds(), 0.0)
    return None


def is_away(error: grpc.RpcError) -> bool:
    """Whether no server took a call. gRPC's own server says CANCELLED, and no more than that, of
    calls that it had not looked at when it stopped; who gives up a call reads something else.
    """
    code, details = error.code(), error.details()
    cancelled: bool = code is grpc.StatusCode.CANCELLED and details == code.name
    return cancelled or code is grpc.StatusCode.UNAVAILABLE


def is_too_large(error: grpc.RpcError) -> bool:
    """Whether a call asked for more than one call may carry, so that a part of it may do."""
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED or retry_delay(error) is not None:
        return False
    # gRPC refuses messages with words alone; a server of this contract names the error.
    status = _status(error)
    named = status is not None and grpc_error_info.reason_in(status) is not None
    return named or _SIZE_WORDS.search(error.details() or "") is not None


def is_full(error: grpc.RpcError) -> bool:
    """Whether a server has no place for a call now: it asks to be called later, or says what gRPC
    itself does of too many calls at once, which no part of a call could help.
    """
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return False
    return retry_delay(error) is not None or (error.details() or "").startswith(_TOO_MANY_CALLS)


def is_status_lost(error: grpc.RpcError) -> bool:
    """Whether gRPC's asyncio side lost the status of a stream that ended while it was sending
    (grpc/grpc#36066): what the server said is not known then.
    """
    internal: bool = error.code() is grpc.StatusCode.INTERNAL
    return internal and (error.details() or "").startswith("Internal error from Core")


def _status(error: grpc.RpcError) -> status_pb2.Status | None:
    """The status of a failed call with its details, or None where there are none."""
    if isinstance(error, StreamEndedError):
        return None
    try:
        return cast(status_pb2.Status | None, rpc_status.from_call(cast(grpc.Call, error)))
    except (ValueError, DecodeError):  # they are of another call, or damaged
        return None

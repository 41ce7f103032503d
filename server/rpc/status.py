"""The gRPC status of every error, in one table."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, NoReturn

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from hvae_codec import errors, grpc_error_info
from hvae_codec.v1 import codec_pb2

from ..errors import (
    DeadlinePassedError,
    InvalidRequestError,
    LimitError,
    OverloadError,
    RetryLaterError,
    SilentCallError,
    StoppingError,
    TokenLimitError,
    UnauthenticatedError,
    WorkerLostError,
)
from ..observability.calls import answer_metadata

MAX_MESSAGE_BYTES: Final = 1_000
"""Longest status message, in UTF-8: the metadata of a call are limited to 8 KiB, and the message
goes out twice, once with up to three bytes for one."""


_CODES: Final[dict[type[Exception], grpc.StatusCode]] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    LimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ImageError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownModelError: grpc.StatusCode.NOT_FOUND,
    errors.UnknownQualityError: grpc.StatusCode.NOT_FOUND,
    errors.BitstreamError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.CorruptError: grpc.StatusCode.DATA_LOSS,
    errors.RateError: grpc.StatusCode.OUT_OF_RANGE,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    TokenLimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    OverloadError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlinePassedError: grpc.StatusCode.DEADLINE_EXCEEDED,
    WorkerLostError: grpc.StatusCode.UNAVAILABLE,
    StoppingError: grpc.StatusCode.UNAVAILABLE,
    SilentCallError: grpc.StatusCode.UNAVAILABLE,
}
"""Status of an error class and, unless they are listed too, of its subclasses."""


def code_of(error: Exception) -> grpc.StatusCode:
    """Status code of an error: that of its nearest listed class, INTERNAL where there is none.

    `CheckpointError` and its like are not listed: they are the server's fault, not the request's.
    """
    listed = (_CODES[ancestor] for ancestor in type(error).__mro__ if ancestor in _CODES)
    return next(listed, grpc.StatusCode.INTERNAL)


def status_of(error: Exception) -> grpc.Status:
    """The status with which a call ends that raised `error`."""
    return rpc_status.to_status(status_message(error))


def status_message(error: Exception) -> status_pb2.Status:
    """The status of `error` as a message.

    An error that is not in the table tells the caller nothing but that it happened; the server's
    log has the rest.
    """
    code = code_of(error)
    status = status_pb2.Status(code=code.value[0], message=_message(error, code))
    if code is not grpc.StatusCode.INTERNAL:
        _add(status, grpc_error_info.pack(type(error), {}))
    if isinstance(error, RetryLaterError) and error.retry_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(timedelta(seconds=error.retry_seconds))
        _add(status, retry)
    return status


async def abort_with(context: Any, error: Exception) -> NoReturn:
    """End a call with the status of an error; raises what ends its method.

    One that is over already, as at its deadline, counts as cancelled.
    """
    status = status_of(error)
    with over_is_cancelled():
        metadata = (*status.trailing_metadata, *answer_metadata())
        await context.abort(status.code, status.details, metadata)
    raise AssertionError("a call goes on after its abort")


@contextmanager
def over_is_cancelled() -> Iterator[None]:
    """Make the error of sending to a call that is over CancelledError."""
    try:
        yield
    except grpc.aio.InternalError as error:
        raise asyncio.CancelledError from error


def item_status(error: Exception) -> codec_pb2.Status:
    """What the result of an item, or the answer of a stream's message, says of its error."""
    code = code_of(error)
    reason = "" if code is grpc.StatusCode.INTERNAL else grpc_error_info.reason_of(type(error))
    return codec_pb2.Status(code=code.value[0], message=_message(error, code), reason=reason)


def _message(error: Exception, code: grpc.StatusCode) -> str:
    if code is grpc.StatusCode.INTERNAL:
        return "internal error; the server's log says more"
    return str(error).encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore")


def _add(status: status_pb2.Status, message: Message) -> None:
    detail = any_pb2.Any()
    detail.Pack(message)
    status.details.append(detail)

"""The gRPC status of every error, in one table."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc
from google.protobuf import any_pb2
from google.rpc import status_pb2
from grpc_status import rpc_status

from hvae_codec import error_info, errors

MAX_MESSAGE_BYTES: Final = 1_000
"""Longest status message, in UTF-8: the metadata of a call are limited to 8 KiB, and the message
goes out twice, once with up to three bytes for one."""


class InvalidRequestError(errors.HvaeCodecError):
    """A message's fields contradict the contract in `codec.proto`."""


class LimitError(errors.HvaeCodecError):
    """A call asks for more bytes, items or pixels than this server allows in one call."""


class ItemError(Exception):
    """One item of a request is to blame: wraps the error with the item's field and index."""

    def __init__(self, field: str, index: int, error: errors.HvaeCodecError) -> None:
        super().__init__(f"{field}[{index}]: {error}")
        self.field = field
        self.index = index
        self.error = error


@contextmanager
def blame(field: str, index: int) -> Iterator[None]:
    """Turn a library error raised inside into an `ItemError` of item `index` of `field`."""
    try:
        yield
    except errors.HvaeCodecError as error:
        raise ItemError(field, index, error) from error


_CODES: Final[dict[type[Exception], grpc.StatusCode]] = {
    InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    LimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.ImageError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnknownModelError: grpc.StatusCode.NOT_FOUND,
    errors.UnknownQualityError: grpc.StatusCode.NOT_FOUND,
    errors.BitstreamError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.CorruptError: grpc.StatusCode.DATA_LOSS,
}
"""Status of an error class and, unless they are listed too, of its subclasses."""


def code_of(error: Exception) -> grpc.StatusCode:
    """Status code of an error: that of its nearest listed class, INTERNAL where there is none.

    `CheckpointError` and its like are not listed: they are the server's fault, not the request's.
    """
    listed = (_CODES[ancestor] for ancestor in type(error).__mro__ if ancestor in _CODES)
    return next(listed, grpc.StatusCode.INTERNAL)


def status_of(raised: Exception) -> grpc.Status:
    """The status with which a call ends that raised `raised`.

    An error that is not in the table tells the caller nothing but that it happened; the server's
    log has the rest.
    """
    error = raised.error if isinstance(raised, ItemError) else raised
    code = code_of(error)
    status = status_pb2.Status(code=code.value[0])
    if code is grpc.StatusCode.INTERNAL:
        status.message = "internal error; the server's log says more"
        return rpc_status.to_status(status)
    status.message = str(raised).encode()[:MAX_MESSAGE_BYTES].decode(errors="ignore")
    metadata: dict[str, str] = {}
    if isinstance(raised, ItemError):
        metadata = {"field": raised.field, "item": str(raised.index)}
    detail = any_pb2.Any()
    detail.Pack(error_info.pack(type(error), metadata))
    status.details.append(detail)
    return rpc_status.to_status(status)

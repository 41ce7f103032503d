"""How library errors and warnings travel through gRPC: what server and client share.

The server adds a `google.rpc.ErrorInfo` to the status of a failed call; the client reads it and
raises the same class again. A warning names its class in the message of its item.
"""

import re
from typing import Final

from google.rpc import error_details_pb2, status_pb2

from hvae_codec import errors

ERROR_DOMAIN: Final = "hvae_codec"
"""`ErrorInfo.domain` of every error of this library."""


def reason_of(error_class: type[Exception]) -> str:
    """Name of a class as `ErrorInfo.reason` wants it: `TruncatedError` -> `TRUNCATED`,
    `ColourWarning` -> `COLOUR`.
    """
    name = error_class.__name__.removesuffix("Error").removesuffix("Warning")
    words = re.findall("[A-Z][a-z]*", name)
    return "_".join(words).upper()


def _subclasses(error_class: type[errors.HvaeCodecError]) -> list[type[errors.HvaeCodecError]]:
    below = [found for child in error_class.__subclasses__() for found in _subclasses(child)]
    return [error_class, *below]


_CLASS_OF_REASON: Final = {
    reason_of(error_class): error_class
    for error_class in _subclasses(errors.HvaeCodecError)
    if error_class.__module__ == errors.__name__
}

_WARNING_OF_REASON: Final = {
    reason_of(warning_class): warning_class
    for warning_class in errors.InputWarning.__subclasses__()
}


def pack(error_class: type[Exception], metadata: dict[str, str]) -> error_details_pb2.ErrorInfo:
    """The `ErrorInfo` of an error of this class; `metadata` says which item is to blame."""
    return error_details_pb2.ErrorInfo(
        reason=reason_of(error_class), domain=ERROR_DOMAIN, metadata=metadata
    )


def class_of_reason(reason: str) -> type[errors.HvaeCodecError] | None:
    """The class of `hvae_codec.errors` of this reason, or None where it is another's."""
    return _CLASS_OF_REASON.get(reason)


def warning_of_reason(reason: str) -> type[errors.InputWarning]:
    """The warning class of this reason; InputWarning of one that this release does not know."""
    return _WARNING_OF_REASON.get(reason, errors.InputWarning)


def reason_in(status: status_pb2.Status) -> str | None:
    """The reason that a status states, or None where this library does not state any."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
            reason: str = info.reason
            return reason
    return None


def library_class(status: status_pb2.Status) -> type[errors.HvaeCodecError] | None:
    """The class of `hvae_codec.errors` that a status stands for, or None where it is another's."""
    reason = reason_in(status)
    return None if reason is None else class_of_reason(reason)

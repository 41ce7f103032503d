"""The one table from error classes to statuses, and the way back."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status.rpc_status import GRPC_DETAILS_METADATA_KEY

from hvae_codec import errors, grpc_error_info
from hvae_codec.server.errors import (
    DeadlinePassedError,
    LimitError,
    OverloadError,
    StoppingError,
    WorkerLostError,
)
from hvae_codec.server.rpc.status import code_of, item_status, status_of

LIBRARY_CLASSES = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, errors.HvaeCodecError)
]


@pytest.mark.parametrize(
    ("error_class", "code"),
    [
        (errors.ImageError, "INVALID_ARGUMENT"),
        (errors.ImageTooLargeError, "INVALID_ARGUMENT"),
        (errors.AlphaError, "INVALID_ARGUMENT"),
        (errors.UnknownModelError, "NOT_FOUND"),
        (errors.UnknownQualityError, "NOT_FOUND"),
        (errors.BitstreamError, "INVALID_ARGUMENT"),
        (errors.NotAnHvaeFileError, "INVALID_ARGUMENT"),
        (errors.UnsupportedVersionError, "INVALID_ARGUMENT"),
        (errors.WrongModelError, "INVALID_ARGUMENT"),
        (errors.CorruptError, "DATA_LOSS"),
        (errors.TruncatedError, "DATA_LOSS"),
        (errors.RateError, "OUT_OF_RANGE"),
        (LimitError, "RESOURCE_EXHAUSTED"),
        (DeadlinePassedError, "DEADLINE_EXCEEDED"),
        (WorkerLostError, "UNAVAILABLE"),
        (StoppingError, "UNAVAILABLE"),
        # The server's own fault:
        (errors.CheckpointError, "INTERNAL"),
        (errors.HvaeCodecError, "INTERNAL"),
        (RuntimeError, "INTERNAL"),
    ],
)
def test_codes(error_class, code):
    assert code_of(error_class("text")) is grpc.StatusCode[code]


@pytest.mark.parametrize("error_class", LIBRARY_CLASSES)
def test_classes_come_back_as_they_went(error_class):
    status = status_pb2.Status(code=3, message="text")
    status.details.add().Pack(grpc_error_info.pack(error_class, {}))
    assert grpc_error_info.library_class(status) is error_class


def test_reasons_are_those_of_the_contract():
    assert grpc_error_info.reason_of(errors.TruncatedError) == "TRUNCATED"
    assert grpc_error_info.reason_of(errors.NotAnHvaeFileError) == "NOT_AN_HVAE_FILE"
    assert grpc_error_info.reason_of(errors.UnknownQualityError) == "UNKNOWN_QUALITY"


def test_a_reason_of_another_domain_is_not_ours():
    status = status_pb2.Status(code=3)
    info = grpc_error_info.pack(errors.ImageError, {})
    info.domain = "example.org"
    status.details.add().Pack(info)
    assert grpc_error_info.library_class(status) is None
    assert grpc_error_info.library_class(status_pb2.Status(code=3)) is None


def test_an_unexpected_error_tells_nothing():
    status = status_of(OSError("/secret/path is missing"))
    assert status.code is grpc.StatusCode.INTERNAL
    assert "secret" not in status.details
    assert all(b"secret" not in value for _, value in status.trailing_metadata)


def test_a_long_message_is_cut():
    """A client drops metadata of more than 8 KiB, status and all."""
    status = status_of(errors.ImageError("x" * 100_000))
    [(key, value)] = status.trailing_metadata
    assert key == GRPC_DETAILS_METADATA_KEY
    assert len(status.details) == 1_000
    assert len(value) + len(status.details) < 4_096


def test_an_overload_says_when_to_come_back():
    status = status_of(OverloadError("full", 0.25))
    assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    [(_, value)] = status.trailing_metadata
    details = status_pb2.Status.FromString(value).details
    info = error_details_pb2.RetryInfo()
    assert [detail.Unpack(info) for detail in details] == [False, True]
    assert info.retry_delay.ToTimedelta().total_seconds() == 0.25


def test_statuses_of_items():
    status = item_status(errors.TruncatedError("ends too early"))
    assert (status.code, status.message, status.reason) == (15, "ends too early", "TRUNCATED")
    hidden = item_status(OSError("/secret/path is missing"))
    assert (hidden.code, hidden.reason) == (13, "")
    assert "secret" not in hidden.message

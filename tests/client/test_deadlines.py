"""Deadlines that clients state: a search has the time that its image may take."""

import grpc
import numpy as np
import pytest

from hvae_codec.client import ServiceError

MEGAPIXEL_SECONDS = 600  # as the client's documentation states
FIFTH = np.zeros((400, 500, 3), np.uint8)  # of a megapixel


@pytest.fixture
def stated(serve, small_server):
    """A server that notes the seconds left of each call but ListModels, and takes none."""
    servicer = small_server()
    servicer.limits["items"] = 100
    servicer.limits["pixels"] = 10_000_000
    left = []

    def note(request, context):
        left.append(context.time_remaining())
        context.abort(grpc.StatusCode.INTERNAL, "noted")

    servicer.Evaluate = servicer.Encode = note
    serve(servicer)
    return servicer.address, left


@pytest.mark.parametrize(
    ("method", "value", "options", "settings", "expected"),
    [
        ("evaluate", FIFTH, {}, {}, 60),
        ("evaluate", FIFTH, {"quality": 3}, {}, 60),
        ("evaluate", FIFTH, {"target_psnr": 30.0}, {}, 60 + MEGAPIXEL_SECONDS / 5),
        ("evaluate", FIFTH, {"target_bytes": 900}, {}, 60 + MEGAPIXEL_SECONDS / 5),
        ("evaluate", FIFTH, {"target_psnr": 30.0, "timeout": 7.0}, {}, 7),
        ("evaluate", FIFTH, {"target_psnr": 30.0}, {"timeout": 9.0}, 9),
        ("encode", [FIFTH], {"quality": 3}, {}, 60),
        ("encode", [FIFTH] * 2, {"max_bytes": 900}, {}, 60 + 2 * MEGAPIXEL_SECONDS / 5),
        (
            *("encode", [FIFTH], {"target_psnr": 30.0, "effort": 2}, {}),
            60 + 8 * MEGAPIXEL_SECONDS / 5,
        ),
        ("encode", [FIFTH] * 2, {"target_psnr": 30.0, "timeout": 7.0}, {}, 7),
    ],
)
def test_the_time_that_a_call_has(ask, stated, method, value, options, settings, expected):
    address, left = stated
    with pytest.raises(ServiceError, match="noted"):
        ask(address, method, value, model="m", settings=settings, **options)
    assert expected * 0.97 - 2 < left[0] <= expected * 1.01

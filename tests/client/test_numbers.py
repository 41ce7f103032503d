"""Numbers of every kind and size in a client's settings: taken as they are meant, or refused."""

import math
import threading
from decimal import Decimal
from fractions import Fraction
from random import Random

import grpc
import numpy as np
import pytest

from hvae_codec.client import Client, Retry, ServiceError, Streaming
from hvae_codec.client.retry import RetryState
from hvae_codec.errors import HvaeCodecError

NOBODY = "127.0.0.1:1"
IMAGE = np.zeros((32, 32, 3), np.uint8)
ENDLESS = [math.inf, 1e30, 1e10, np.float64("inf"), Decimal("1e40"), 10**12]


@pytest.mark.parametrize("timeout", [*ENDLESS, 1e9])
def test_deadlines_beyond_what_grpc_counts(ask, small, pictures, hashes, timeout):
    assert ask(small.address, "encode", pictures[:2], model="m", timeout=timeout) == hashes[:2]
    found = ask(small.address, "encode_stream", pictures[:2], model="m", timeout=timeout)
    assert found == hashes[:2]
    settings = {"timeout": timeout}
    assert ask(small.address, "encode", pictures[:1], model="m", settings=settings) == hashes[:1]


@pytest.mark.parametrize("timeout", ENDLESS)
def test_a_timeout_beyond_them_is_none_of_the_client_s(ask, small, pictures, hashes, timeout):
    """It does not fall back to the client's own, which would be over at once."""
    settings = {"timeout": 0.0}
    found = ask(
        small.address, "encode", pictures[:1], model="m", timeout=timeout, settings=settings
    )
    assert found == hashes[:1]


@pytest.mark.parametrize("timeout", [math.nan, -1, -math.inf, "x", np.zeros(2), Decimal("-0.1")])
@pytest.mark.parametrize("method", ["encode", "encode_stream", "features_stream", "features"])
def test_timeouts_that_are_none(ask, method, timeout):
    with pytest.raises(HvaeCodecError, match="timeout must be") as raised:
        ask(NOBODY, method, [IMAGE], model="m", timeout=timeout)
    assert not isinstance(raised.value, ServiceError)
    with pytest.raises(HvaeCodecError, match="timeout must be"):
        Client(NOBODY, timeout=timeout)


@pytest.mark.parametrize("kind", [Decimal, Fraction, float, np.float32, np.float64])
def test_a_stream_s_timeout_is_any_number(ask, small, pictures, hashes, kind):
    options = {"model": "m", "timeout": kind("9")}
    assert ask(small.address, "encode_stream", pictures[:2], **options) == hashes[:2]


@pytest.mark.parametrize("delay", [Decimal("0.05"), np.float32(0.05), Fraction(1, 20), 0, 1e300])
def test_a_delay_is_any_number(ask, small, pictures, hashes, delay):
    settings = {"streaming": Streaming(in_flight=np.int64(2), delay_seconds=delay)}
    found = ask(small.address, "encode_stream", iter(pictures[:3]), model="m", settings=settings)
    assert found == hashes[:3]


@pytest.mark.parametrize(
    ("first", "greatest"),
    [
        (Decimal("0.01"), Decimal("0.02")),
        (np.float32(0.01), np.float32(0.02)),
        (Fraction(1, 100), Fraction(1, 50)),
    ],
)
def test_delays_of_tries_are_any_numbers(ask, failing, small, pictures, hashes, first, greatest):
    retry = Retry(first_delay=first, greatest_delay=greatest, seed=np.int64(3))
    small.failures.extend([failing(grpc.StatusCode.UNAVAILABLE)] * 2)
    settings = {"retry": retry}
    assert ask(small.address, "encode", pictures[:1], model="m", settings=settings) == hashes[:1]


def test_numbers_are_python_s_own_once_they_are_taken():
    retry = Retry(np.int64(3), Decimal("0.5"), np.float32(2), np.uint8(7))
    assert retry == Retry(3, 0.5, 2.0, 7)
    streaming = Streaming(np.int8(3), np.int64(9), Fraction(1, 4))
    assert streaming == Streaming(3, 9, 0.25)
    found = [type(each) for each in (*vars(retry).values(), *vars(streaming).values())]
    assert found == [int, float, float, int, int, int, float]
    assert (Retry().seed, Streaming(delay_seconds=None).delay_seconds) == (None, None)


@pytest.mark.parametrize("delay", [1e300, math.inf])
def test_waits_are_what_threads_can_sleep(delay):
    state = RetryState(Retry(first_delay=delay, greatest_delay=delay), Random(1), NOBODY, math.inf)
    assert state.remaining is None
    wait = state.wait_after_lost_item()
    assert wait is not None
    assert 0.0 < wait < threading.TIMEOUT_MAX


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Retry(seed="3"), "seed must be a whole number"),
        (lambda: Retry(seed=1.5), "seed must be a whole number"),
        (lambda: Retry(first_delay=math.nan), "delays must hold"),
        (lambda: Streaming(delay_seconds=Decimal("NaN")), "delay_seconds must be finite"),
        (lambda: Streaming(delay_seconds=Decimal("-1")), "delay_seconds must be finite"),
        (lambda: Client(NOBODY, root_certificates="x\0y"), "cannot read x\0y: .*null"),
    ],
)
def test_settings_that_are_none(make, message):
    with pytest.raises(HvaeCodecError, match=message):
        make()


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("features", {"std": np.zeros(2)}, "std must be True or False"),
        ("features", {"std": "yes"}, "std must be True or False"),
        ("features", {"dtype": np.zeros(2)}, "dtype must be 'float32' or 'float16'"),
        ("encode", {"on_error": np.zeros(2)}, "on_error must be 'raise' or 'return'"),
        ("encode", {"on_error": ["raise"]}, "on_error must be 'raise' or 'return'"),
        ("encode", {"target_bytes": 2**63}, r"target_bytes must be less than 2\^63, got 92233"),
        ("encode", {"max_bytes": 2**63}, r"max_bytes must be less than 2\^63"),
        ("encode", {"max_bytes": 0.5}, "max_bytes must be at least 1, got 0.5"),
    ],
)
def test_options_that_are_none(ask, method, options, message):
    with pytest.raises(HvaeCodecError, match=message) as raised:
        ask(NOBODY, method, [IMAGE], model="m", **options)
    assert not isinstance(raised.value, ServiceError)

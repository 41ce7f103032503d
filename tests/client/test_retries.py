"""What is sent again, when, and what never is; by both clients, to a real server that fails."""

import random
import time

import grpc
import pytest
from google.rpc import status_pb2
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from hvae_codec import errors
from hvae_codec.client import Retry, ServiceError

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@given(
    first=st.floats(0, 10),
    extra=st.floats(0, 100),
    failures=st.integers(1, 2_000),
    share=st.floats(0, 1),
)
def test_delays_double_and_stay_within_their_bounds(first, extra, failures, share):
    retry = Retry(first_delay=first, greatest_delay=first + extra)
    delay = retry.delay(failures, share)
    whole = min(first + extra, first * 2.0 ** min(failures - 1, 60))
    assert whole / 2 <= delay <= whole
    assert retry.delay(failures + 1, share) >= delay


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": 0}, {"first_delay": -0.1}, {"first_delay": 2.0, "greatest_delay": 1.0}],
)
def test_policies_that_contradict_themselves(wrong):
    with pytest.raises(ValueError, match="must"):
        Retry(**wrong)


def test_a_seed_makes_the_waits_repeat():
    def delays(seed):
        shares = random.Random(Retry(seed=seed).seed)
        return [Retry().delay(n, shares.random()) for n in range(1, 5)]

    assert delays(3) == delays(3) != delays(4)


@pytest.mark.parametrize("failures", [1, 3])
def test_a_server_that_is_away_is_asked_again(ask, small, failing, pictures, hashes, failures):
    small.failures.extend([failing(UNAVAILABLE)] * failures)
    assert ask(small.address, "encode", pictures[:1], model="m") == hashes[:1]
    assert len(small.of("Encode")) == failures + 1


@pytest.mark.parametrize(("details", "tries"), [("CANCELLED", 2), ("by somebody", 1)])
def test_what_a_stopping_server_never_saw_is_asked_again(
    ask, small, pictures, hashes, details, tries
):
    """gRPC's server cancels the calls that wait when it stops; it is nobody's decision."""
    status = rpc_status.to_status(status_pb2.Status(code=1, message=details))
    small.failures.append(status)
    if tries == 2:
        assert ask(small.address, "encode", pictures[:1], model="m") == hashes[:1]
    else:
        with pytest.raises(ServiceError, match=details):
            ask(small.address, "encode", pictures[:1], model="m")
    assert len(small.of("Encode")) == tries


def test_but_not_for_ever(ask, small, failing, pictures):
    small.failures.extend([failing(UNAVAILABLE)] * 10)
    with pytest.raises(ServiceError, match="no server at") as raised:
        ask(small.address, "encode", pictures[:1], model="m")
    assert raised.value.code is UNAVAILABLE
    assert len(small.of("Encode")) == 4


def test_a_full_server_is_asked_again_when_it_says(ask, small, failing, pictures, hashes):
    small.failures.extend([failing(EXHAUSTED, retry_after=0.25)] * 2)
    assert ask(small.address, "encode", pictures[:1], model="m") == hashes[:1]
    first, second, third = small.times
    assert second - first >= 0.25
    assert third - second >= 0.25


def test_a_server_with_too_many_calls_is_asked_again_with_all_of_the_call(
    ask, small, failing, pictures, hashes
):
    """As servers say it that know no RetryInfo."""
    small.limits["items"] = 100
    small.failures.append(failing(EXHAUSTED, message="Concurrent RPC limit exceeded!"))
    assert ask(small.address, "encode", pictures, model="m") == hashes
    assert small.of("Encode") == [len(pictures)] * 2


@pytest.mark.parametrize(
    ("code", "reason", "raises"),
    [
        (EXHAUSTED, "LIMIT", ServiceError),
        (EXHAUSTED, None, ServiceError),
        (grpc.StatusCode.INVALID_ARGUMENT, "ALPHA", errors.AlphaError),
        (grpc.StatusCode.NOT_FOUND, "UNKNOWN_MODEL", errors.UnknownModelError),
        (grpc.StatusCode.DATA_LOSS, "TRUNCATED", errors.TruncatedError),
        (grpc.StatusCode.OUT_OF_RANGE, "RATE", errors.RateError),
        (grpc.StatusCode.UNAUTHENTICATED, None, ServiceError),
        (grpc.StatusCode.INTERNAL, None, ServiceError),
        (grpc.StatusCode.UNIMPLEMENTED, None, ServiceError),
    ],
)
def test_what_would_fail_again_is_not_sent_again(
    ask, small, failing, pictures, code, reason, raises
):
    small.failures.append(failing(code, reason=reason))
    with pytest.raises(raises, match="told to be"):
        ask(small.address, "encode", pictures[:1], model="m")
    assert len(small.messages) == 1


def test_the_deadline_is_that_of_all_tries(ask, small, failing, pictures):
    small.failures.extend([failing(UNAVAILABLE)] * 100)
    patient = Retry(attempts=100, first_delay=0.1, greatest_delay=0.1, seed=1)
    start = time.monotonic()
    patiently = {"retry": patient}
    with pytest.raises(ServiceError) as raised:
        ask(small.address, "encode", pictures[:1], model="m", timeout=2.0, settings=patiently)
    # The latter where the last try was under way.
    assert raised.value.code in {UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    assert time.monotonic() - start < 10.0
    assert 2 <= len(small.messages) <= 41


def test_a_delay_beyond_the_deadline_is_not_waited_for(ask, small, failing, pictures):
    small.failures.append(failing(EXHAUSTED, retry_after=30.0))
    start = time.monotonic()
    with pytest.raises(ServiceError) as raised:
        ask(small.address, "encode", pictures[:1], model="m", timeout=5.0)
    assert raised.value.code is EXHAUSTED
    assert time.monotonic() - start < 20.0


def test_a_call_that_takes_too_long(ask, small, pictures):
    small.pause = 1.0
    with pytest.raises(ServiceError, match=r"within 0\.2 s") as raised:
        ask(small.address, "encode_stream", pictures[:1], model="m", timeout=0.2)
    assert raised.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_items_that_the_server_lost_are_asked_for_again_and_only_they(ask, small, pictures, hashes):
    small.limits["items"] = 100
    small.lost = {pictures[2].tobytes(): 1, pictures[5].tobytes(): 2}
    assert ask(small.address, "encode", pictures, model="m") == hashes
    assert small.of("Encode") == [23, 2, 1]


@pytest.mark.parametrize("method", ["encode", "encode_stream"])
def test_an_item_that_is_always_lost_fails_in_the_end(ask, small, pictures, hashes, method):
    small.lost = {pictures[1].tobytes(): 100}
    found = ask(small.address, method, pictures[:3], model="m", on_error="return")
    assert [found[0], found[2]] == [hashes[0], hashes[2]]
    assert isinstance(found[1], ServiceError)
    assert found[1].code is UNAVAILABLE
    assert str(found[1]).startswith("images[1]: ")
    assert 100 - small.lost[pictures[1].tobytes()] == 4


def test_a_server_that_starts_again_is_found(ask, serve, small, small_server, pictures, hashes):
    """It is away for longer than gRPC's own first pause between attempts to connect."""
    port = int(small.address.rpartition(":")[2])
    patient = Retry(attempts=50, first_delay=0.05, greatest_delay=0.2, seed=1)

    def stopping():
        for index, picture in enumerate(pictures):
            if index == 12:
                away()
            yield picture

    def away():
        for server in servers:
            server.stop(None).wait()
        serve(again, port)

    servers = serve.running
    again = small_server()
    found = ask(small.address, "encode_stream", stopping(), model="m", settings={"retry": patient})
    assert found == hashes
    assert again.of("StreamEncode")

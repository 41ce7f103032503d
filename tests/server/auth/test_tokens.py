"""Bearer tokens: the file, its reloading, and what a real server does with calls."""

import hashlib
import os
import time

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

import hvae_codec.server
from hvae_codec.server.auth.token_file import TokenFile
from hvae_codec.server.auth.token_lines import parse_lines
from hvae_codec.server.auth.tokens import TokenFileError, parse_tokens
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.scraping import Scrape
from tests.server.token_tables import token_table
from tests.waiting import wait_until

ALICE = "alice-0123456789abcdef0123456789"
BOB = "bob+0123456789abcdef0123456789/=="
CAROL = "carol~0123456789abcdef0123456789"
# TOKENS of conftest.
SECONDS = 60


def bearer(token):
    return [("authorization", f"Bearer {token}")]


def failure(call, *args, **kwargs):
    """Code, message, reason and delay of RetryInfo of a call that is refused."""
    with pytest.raises(grpc.RpcError) as raised:
        list(call(*args, timeout=SECONDS, **kwargs))
    status = rpc_status.from_call(raised.value)
    reason = delay = None
    for detail in status.details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(retry):
            delay = retry.retry_delay.ToNanoseconds() / 1e9
    return raised.value.code(), raised.value.details(), reason, delay


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"alice {ALICE}\n\n{CAROL}", "line 3: .* a single word"),
        (f"{ALICE} alice", "line 1: the name comes first"),
        ("alice 0123456789abcdef", "line 1: the token of 'alice' has 16 characters, .* 32 to 256"),
        (f"alice {'x' * 257}", "257 characters"),
        (f"alice {ALICE}§", "other characters"),
        (f"alice {ALICE} items=0", "from 1"),
        (f"alice {ALICE} items=5 items=6", "once each"),
        (f"alice {ALICE} {BOB}", "items=N, requests=N and streams=N"),
        (f"alice {ALICE} streams=0", "from 1"),
        (f"alice {ALICE}\nalice {BOB}", "line 2: the name 'alice'"),
        (f"alice {ALICE}\nbob {ALICE}", "line 2: the same token as line 1"),
    ],
)
def test_a_wrong_line_of_the_old_form_is_named_and_no_token_shown(text, words):
    with pytest.raises(TokenFileError, match=words) as raised:
        parse_lines(text, "tokens")
    for part in (ALICE, BOB, CAROL, "0123456789abcdef"):
        assert part not in str(raised.value)


HASH = hashlib.sha256(ALICE.encode()).hexdigest()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no token"),
        ("# nothing\n\n", "no token"),
        ("[[token]]\nname = ", "tokens is not TOML"),
        ("[[tokens]]", r"\[\[token\]\] tables, and nothing else"),
        ("token = 5", r"\[\[token\]\] tables"),
        ("token = [5]", "token 1: name is a string"),
        (f'[[token]]\nsha256 = "{HASH}"', "token 1: name is a string"),
        (f'[[token]]\nname = "a b"\nsha256 = "{HASH}"', "1 to 64 letters"),
        (f'[[token]]\nname = "alice"\nsha256 = "{ALICE}"', "'alice' is the token's hash, 64 hex"),
        (f'[[token]]\nname = "alice"\ntoken = "{ALICE}"', "sha256 of 'alice'"),
        (token_table("alice", ALICE, calls=5), "key 'calls'; known are name, sha256, items"),
        (token_table("alice", ALICE, items=0), "items of 'alice' is an integer, 1 to 999,999,999"),
        (token_table("alice", ALICE, streams="true"), "streams of 'alice' is an integer"),
        (token_table("alice", ALICE) + token_table("alice", BOB), "token 2: the name 'alice'"),
        (token_table("a", ALICE) + token_table("b", ALICE), "token 2: the same token as token 1"),
    ],
)
def test_a_wrong_table_is_named_and_no_token_shown(text, words):
    with pytest.raises(TokenFileError, match=words) as raised:
        parse_tokens(text, "tokens")
    assert ALICE not in str(raised.value)


def alice_and_bob():
    return token_table("alice", ALICE, requests=5, streams=3, items=7) + token_table("bob", BOB)


@pytest.mark.parametrize(
    ("text", "warns"),
    [
        (alice_and_bob(), False),
        (f"# all\nalice {ALICE} requests=5 streams=3 items=7 # the first\nbob {BOB}", True),
    ],
    ids=["tables", "lines of the old form"],
)
def test_a_file_has_names_tokens_and_limits(tmp_path, caplog, text, warns):
    path = tmp_path / "tokens"
    write(path, text)
    tokens = TokenFile(path).value
    assert len(tokens) == 2
    alice, bob = tokens.find(ALICE), tokens.find(BOB)
    assert (alice.name, alice.max_items, alice.max_requests) == ("alice", 7, 5)
    assert (alice.max_streams, bob.max_streams) == (3, None)
    assert (bob.name, bob.max_items, bob.max_requests) == ("bob", None, None)
    for unknown in (CAROL, "", "\udcff", HASH):
        assert tokens.find(unknown) is None
    assert ALICE not in repr(alice)
    assert ("are read for the last time" in caplog.text) == warns
    assert ALICE not in caplog.text


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_file_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(token_table("alice", ALICE))
    for mode in (0o644, 0o640, 0o602):
        path.chmod(mode)
        with pytest.raises(TokenFileError, match=f"mode 0{mode:o}.*chmod 600"):
            TokenFile(path)
    path.chmod(0o400)
    assert len(TokenFile(path).value) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"\xff\xfe", "not UTF-8"), (b"#" * 2_000_000, "1,048,576 bytes")],
)
def test_a_file_that_cannot_be_used_ends_the_start(tmp_path, capsys, content, words):
    path = tmp_path / "tokens"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    assert hvae_codec.server.main(["--port", "0", "--token-file", str(path)]) == 1
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message


def write(path, text):
    """Replace the file at once, as `mv` and mounted secrets do."""
    made = path.with_name("new")
    made.write_text(text)
    made.chmod(0o600)
    made.replace(path)


@pytest.fixture(scope="module")
def stub(guarded):
    with grpc.insecure_channel(guarded.address) as channel:
        yield codec_pb2_grpc.CodecServiceStub(channel)


def samples(count):
    return codec_pb2.SampleRequest(model=codec_pb2.ModelSelector(name="mnist"), count=count)


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        bearer(""),
        bearer("x" * 32),
        bearer(ALICE[:-1]),
        bearer(ALICE + "x"),
        bearer(ALICE) + bearer(ALICE),
        [("authorization", ALICE)],
        [("authorization", f"Basic {ALICE}")],
    ],
)
def test_every_call_without_a_known_token_gets_the_same_answer(stub, metadata):
    code, message, reason, delay = failure(
        stub.StreamSample, iter([codec_pb2.StreamSampleRequest()]), metadata=metadata
    )
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert message == (
        "this server wants a token that it knows: send the metadata `authorization: Bearer TOKEN`"
    )
    assert (reason, delay) == ("UNAUTHENTICATED", None)
    with pytest.raises(grpc.RpcError) as raised:
        stub.ListModels(codec_pb2.ListModelsRequest(), metadata=metadata, timeout=SECONDS)
    assert raised.value.code() is code
    assert raised.value.details() == message


def test_a_token_opens_every_call(stub):
    models = stub.ListModels(
        codec_pb2.ListModelsRequest(), metadata=bearer(ALICE), timeout=SECONDS
    ).models
    assert models
    drawn = stub.Sample(samples(2), metadata=[("authorization", f"bearer {BOB}")], timeout=SECONDS)
    assert len(drawn.results) == 2


def test_health_needs_none_and_reflection_one(guarded):
    with grpc.insecure_channel(guarded.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        assert health.Check(request, timeout=SECONDS).status == 1
        watch = health.Watch(request, timeout=SECONDS)
        assert next(watch).status == 1
        watch.cancel()
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        assert failure(reflect, iter([asked]))[0] is grpc.StatusCode.UNAUTHENTICATED
        answer = next(reflect(iter([asked]), metadata=bearer(ALICE), timeout=SECONDS))
        assert answer.list_services_response.service


def test_more_items_than_the_token_may_have(stub):
    code, message, reason, delay = failure(stub.Sample, samples(5), metadata=bearer(BOB))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "may have 4 in flight" in message
    assert (reason, delay) == ("TOKEN_LIMIT", None)


def test_items_in_flight_are_counted_together_and_given_back(stub):
    calls = [stub.Sample.future(samples(4), metadata=bearer(BOB), timeout=SECONDS) for _ in "12345"]
    refused = []
    for call in calls:
        try:
            call.result()
        except grpc.RpcError as error:
            refused.append(error)
    assert 1 <= len(refused) < 5
    for error in refused:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(rpc_status.from_call(error).details) == 2, "it says when to come back"
    stub.Sample(samples(4), metadata=bearer(BOB), timeout=SECONDS)


def test_requests_a_second(stub):
    time.sleep(1)  # whatever was asked before
    request = codec_pb2.ListModelsRequest()
    answered = 0
    with pytest.raises(grpc.RpcError) as raised:  # noqa: PT012
        while answered < 100:  # two, and one more for every half second that this takes
            stub.ListModels(request, metadata=bearer(CAROL), timeout=SECONDS)
            answered += 1
    assert answered >= 2
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    retry = error_details_pb2.RetryInfo()
    assert rpc_status.from_call(raised.value).details[1].Unpack(retry)
    delay = retry.retry_delay.ToNanoseconds() / 1e9
    assert 0 < delay <= 0.5
    time.sleep(delay)
    stub.ListModels(request, metadata=bearer(CAROL), timeout=SECONDS)


def test_a_stream_is_read_no_faster_than_its_token_may(stub):
    """Nothing of it is refused, whatever its length."""
    time.sleep(1)
    messages = [codec_pb2.StreamSampleRequest(request=samples(1)) for _ in range(5)]
    began = time.monotonic()
    answers = list(stub.StreamSample(iter(messages), metadata=bearer(CAROL), timeout=SECONDS))
    assert len(answers) == 5
    assert not any(answer.HasField("status") for answer in answers)
    assert time.monotonic() - began > 1.4


def test_a_changed_file_holds_within_a_moment_and_a_broken_one_does_not(stub, guarded, token_file):
    request = codec_pb2.ListModelsRequest()

    def knows(token):
        call = stub.ListModels.future(request, metadata=bearer(token), timeout=SECONDS)
        error = call.exception()
        assert error is None or error.code() is grpc.StatusCode.UNAUTHENTICATED
        return error is None

    def wait_for(condition):
        wait_until(condition)

    before = token_file.read_text()
    dave = "dave-0123456789abcdef0123456789abc"
    try:
        assert not knows(dave)
        write(token_file, token_table("alice", ALICE) + token_table("dave", dave))
        wait_for(lambda: knows(dave))
        assert not knows(BOB), "revoked"
        write(token_file, token_table("alice", ALICE) + token_table("dave", dave, items=0))
        wait_for(lambda: "tokens stay as they are" in guarded.log)
        assert "token 2: items of 'dave' is an integer" in guarded.log
        assert knows(dave)
        token_file.unlink()
        wait_for(lambda: "No such file" in guarded.log)
        assert knows(dave)
    finally:
        write(token_file, before)
    wait_for(lambda: knows(BOB))
    assert not knows(dave)
    assert dave not in guarded.log


def test_a_method_that_does_not_exist_makes_no_label_of_metrics(guarded):
    with grpc.insecure_channel(guarded.address) as channel:
        call = channel.unary_unary("/hvae_codec.v1.CodecService/MadeUp")
        for metadata, code in ((None, "UNAUTHENTICATED"), (bearer(ALICE), "UNIMPLEMENTED")):
            with pytest.raises(grpc.RpcError) as raised:
                call(b"", metadata=metadata, timeout=SECONDS)
            assert raised.value.code().name == code
    assert not any("MadeUp" in str(sample.labels) for sample in Scrape(guarded).samples)

"""Requests that cannot be taken: clear errors, and the next one is answered."""

import base64
import http.client
import json
import re
import socket
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from google.rpc import code_pb2

from hvae_codec.codec.images.load import encode_png
from hvae_codec.server.http.status import http_status
from hvae_codec.v1 import codec_pb2
from tests.server.conftest import TOKENS
from tests.server.http.asking import HVAE, JSON, NPY, PNG, SECONDS, ask
from tests.waiting import wait_until

ENCODE = "encode?model=cifar10&quality=3"
MESSAGE_BYTES = 4 * 2**20


@pytest.fixture(scope="module")
def served(watched):
    return watched


@pytest.fixture(scope="module")
def file(smooth_picture):
    return encode_png(smooth_picture(32, 32, seed=5))


@pytest.fixture(autouse=True)
def the_next_one_is_answered(served):
    yield
    assert ask(served, "models").status == 200


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "words"),
    [
        (f"{ENCODE}&target_bytes=60", None, PNG, 400, "target_bytes: not together with quality"),
        ("encode?modell=cifar10", None, PNG, 400, "unknown parameter 'modell'; allowed: effort, "),
        (f"{ENCODE}&quality=3", None, PNG, 400, "quality: given 2 times, once is allowed"),
        ("encode?model=cifar10&quality=2.5", None, PNG, 400, "'2.5' is not a whole number"),
        ("encode?model=cifar10&quality=99999999999", None, PNG, 400, "not a whole number"),
        ("encode?model=cifar10&fine_quality=x", None, PNG, 400, "'x' is not a number"),
        ("encode?model=cifar10&quality=77", None, PNG, 404, "quality"),
        ("encode?model=%F0%9F%98%80", None, PNG, 404, "unknown model"),
        ("encode", None, PNG, 400, "model"),
        (ENCODE, b"", PNG, 400, "images"),
        (ENCODE, b"GIF89a", PNG, 400, "images[0]: not a PNG, JPEG or WebP image"),
        ("decode", b"no", HVAE, 400, "not a .hvae file"),
        ("decode?preview=yes", b"\xf6H", HVAE, 400, "'yes' is not true or false"),
        ("decode?format=gif", b"\xf6H", HVAE, 400, "'gif' is not one of png, raw"),
        ("decode?format=raw", b"\xf6H", HVAE, 400, "format: not for an answer of image/png"),
        ("sample?model=cifar10&count=2", b"", None, 400, "count: image/png holds 1 image, got 2"),
        ("sample?model=cifar10&temperature=nan&count=1", b"", None, 400, "temperature"),
        ("sample?model=cifar10", b"x", PNG, 415, f"image/png; allowed: {JSON}"),
        (ENCODE, None, None, 415, "Content-Type is none; allowed: application/json, image/png, "),
        (ENCODE, None, "text/plain", 415, "Content-Type is text/plain; allowed"),
        (ENCODE, b"{}", JSON, 400, "a query goes with bytes"),
        ("encode", b"{}", JSON, 400, "images: the request has none"),
        ("encode", b"", JSON, 400, "the body is no JSON of EncodeRequest"),
        ("encode", b"[" * 100_000, JSON, 400, "the body is no JSON of EncodeRequest"),
        ("encode", b'{"images": [{"file": "A"}]}', JSON, 400, "the body is no JSON"),
        ("encode", b"null", JSON, 400, "EncodeRequest: an object is expected, got null"),
        ("encode", b"[1,2]", JSON, 400, "EncodeRequest: an object is expected, got a list"),
        ("encode", b'{"model": [1]}', JSON, 400, "model: an object is expected, got a list"),
        ("encode", b'{"images": 5}', JSON, 400, "images: a list is expected, got a number"),
        ("sample", b'{"seed": ' + b"9" * 9_000 + b"}", JSON, 400, ": a number of 9,000 digits"),
        ("sample", b'{"seed": 1, "seed": 2}', JSON, 400, "twice in one object"),
        ("sample", b"\xff\xfe{}", JSON, 400, "the body is no JSON of SampleRequest: 'utf-8'"),
        (
            "encode",
            b'{"images": [{"file": "data:image/png;base64,AAAA"}]}',
            JSON,
            400,
            "images[0].file: base64 is expected, without the data URL's head",
        ),
        ("decode", b'{"encoded": ["@@@@"]}', JSON, 400, "encoded[0]: base64 is expected"),
        ("encode", b'{"image": []}', JSON, 400, 'no field named "image"'),
        ("encode", b'{"images": [' + b"{}," * 100_000, JSON, 400, "100,000 values or more"),
        ("encode", b'{"model": {"name": "\\ud800"}}', JSON, 400, "the body is no JSON"),
        ("nowhere", None, PNG, 404, "no such path; there are POST /v1/encode, "),
        ("models/none", None, "GET", 404, "unknown model"),
        ("models?x=1", None, "GET", 400, "unknown parameter 'x'; allowed: none"),
        ("encode", None, "GET", 405, "GET is not allowed here; allowed: POST"),
    ],
)
def test_what_cannot_be_taken(served, file, path, body, kind, status, words):
    if kind == "GET":
        found = ask(served, path)
    else:
        found = ask(served, path, file if body is None else body, kind)
    assert (found.status, words in found.json["message"]) == (status, True), found.body
    assert http_status(found.json["code"]) == status or status in (405, 415)
    assert (found.headers["Allow"] == "POST") == (status == 405)


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ({"Host": "example.org"}, 421, "not this host"),
        ({"Origin": "http://example.org"}, 403, "other origins"),
        ({"Origin": "null"}, 403, "other origins"),
        ({"Accept": "image/webp"}, 406, "the answers of this request are image/x-hvae, "),
        ({"Accept": f"{HVAE};q=0"}, 406, "Accept names none"),
        ({"Content_Encoding": "gzip"}, 415, "compressed bodies are not taken"),
        ({"Grpc_Timeout": "soon"}, 400, "Grpc-Timeout is a whole number of at most 8 digits"),
        ({"X_A": "a" * 8_000, "X_B": "b" * 8_000, "X_C": "c" * 999}, 431, "allowed are 16,384"),
        ({"Expect": "wonders"}, 417, "'wonders' is unknown"),
        ({"Content_Length": str(2**40)}, 413, "a body of 1,099,511,627,776 bytes; allowed are"),
    ],
)
def test_headers_that_are_refused_before_the_body_is_read(served, file, headers, status, words):
    found = ask(served, ENCODE, file, PNG, **headers)
    assert (found.status, words in found.json["message"]) == (status, True), found.body
    assert "Access-Control-Allow-Origin" not in found.headers


def test_pages_of_its_own_origin_may_call(served, file):
    own = f"http://{urlsplit(served.http).netloc}"
    assert ask(served, ENCODE, file, PNG, Origin=own).status == 200


def test_the_limit_of_bodies_is_exact(served):
    for body, status in ((bytes(MESSAGE_BYTES), 400), (bytes(MESSAGE_BYTES + 1), 413)):
        assert ask(served, ENCODE, body, PNG, Expect="100-continue").status == status
    file = base64.b64encode(bytes(MESSAGE_BYTES)).decode()
    found = ask(served, "encode", {"model": {"name": "cifar10"}, "images": [{"file": file}]})
    assert (found.status, "4,194,304" in found.json["message"]) == (429, True), found.body


def raw(server, text, most=1 << 16, port="http"):
    """What comes back for these bytes until the server says no more."""
    url = urlsplit(getattr(server, port))
    with closing(socket.create_connection((url.hostname, url.port), SECONDS)) as connection:
        connection.sendall(text)
        return connection.recv(most)


def head(length, *more):
    lines = (
        f"POST /v1/{ENCODE} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: {PNG}",
        f"Content-Length: {length}",
        *more,
    )
    return "\r\n".join((*lines, "", "")).encode()


def test_a_body_is_asked_for_only_where_it_is_taken(served):
    """Who waits for "100 Continue" gets an error instead."""
    expecting = "Expect: 100-continue"
    assert raw(served, head(100, expecting)).startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    found = raw(served, head(2**30, expecting))
    assert found.startswith(b"HTTP/1.1 413 ")
    assert b"Connection: close" in found


def test_a_post_without_a_length(served):
    for instead in (b"", b"Transfer-Encoding: chunked\r\n"):
        text = head(0).replace(b"Content-Length: 0\r\n", instead)
        found = raw(served, text)
        assert found.startswith(b"HTTP/1.1 411 ")
        assert b"Content-Length; chunked bodies are not taken" in found


def test_one_failed_item_is_the_status_and_several_are_told_apart(served, file):
    model = {"name": "cifar10", "quality": 3}
    bad, good = ({"file": base64.b64encode(each).decode()} for each in (b"no", file))
    found = ask(served, "encode", {"model": model, "images": [bad]})
    (detail,) = found.json["details"]
    assert (found.status, detail["reason"], detail["domain"]) == (400, "IMAGE", "hvae_codec")
    found = ask(served, "encode", {"model": model, "images": [good, bad]})
    first, second = found.json["results"]
    assert (found.status, "status" in first, second["status"]["reason"]) == (207, False, "IMAGE")


def test_damaged_bytes_are_data_loss(served, file):
    """500, as google.rpc.Code has it; a truncated file is damaged as well."""
    blob = ask(served, ENCODE, file, PNG).body
    damaged = blob[:-1] + bytes([blob[-1] ^ 1])
    found = ask(served, "decode", damaged, HVAE)
    assert (found.status, found.json["code"]) == (500, code_pb2.DATA_LOSS)
    assert found.json["details"][0]["reason"] == "CORRUPT"


@pytest.mark.parametrize("token", [None, "x" * 32, "\xff"])
def test_a_token_is_wanted(guarded, file, token):
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    found = ask(guarded, ENCODE, file, PNG, **headers)
    assert (found.status, found.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert found.json["code"] == code_pb2.UNAUTHENTICATED


def test_limits_are_those_of_the_token(guarded, file):
    """Bob may have 4 items in flight; carol begin 2 requests a second."""
    image = {"file": base64.b64encode(file).decode()}
    request = {"model": {"name": "cifar10", "quality": 3}, "images": [image] * 5}

    def call(name, body):
        return ask(guarded, "encode", body, Authorization=f"Bearer {TOKENS[name]}")

    found = call("bob", request)
    assert (found.status, "this token may have 4" in found.json["message"]) == (429, True)
    assert found.headers["Retry-After"] is None, "never"
    assert call("alice", request).status == 200
    request["images"] = [image]
    assert call("bob", request).status == 200
    answers = [call("carol", request) for _ in range(20)]
    (last,) = {each.headers["Retry-After"] for each in answers if each.status == 429}
    assert last == "1"


def test_the_request_id_comes_back_and_the_call_is_counted(served, file):
    found = ask(served, ENCODE, file, PNG, X_Request_Id="http-test-1")
    assert found.headers["X-Request-Id"] == "http-test-1"
    found = ask(served, "encode?quality=x", file, PNG, X_Request_Id="http-test-2")
    assert found.headers["X-Request-Id"] == "http-test-2"
    wait_until(lambda: "http-test-2" in served.log)
    lines = [json.loads(line) for line in served.log.splitlines() if "http-test-" in line]
    assert [(each["method"], each["code"]) for each in lines] == [
        ("Encode", "OK"),
        ("Encode", "INVALID_ARGUMENT"),
    ]
    assert re.fullmatch(r"ipv4:127\.0\.0\.1:\d+", lines[0]["peer"])


def test_the_table_of_statuses_is_googles(served):
    """Every code has one; the numbers are those of google/rpc/code.proto's comments."""
    expected = {
        "OK": 200,
        "CANCELLED": 499,
        "INVALID_ARGUMENT": 400,
        "FAILED_PRECONDITION": 400,
        "OUT_OF_RANGE": 400,
        "UNAUTHENTICATED": 401,
        "PERMISSION_DENIED": 403,
        "NOT_FOUND": 404,
        "ABORTED": 409,
        "ALREADY_EXISTS": 409,
        "RESOURCE_EXHAUSTED": 429,
        "UNIMPLEMENTED": 501,
        "UNAVAILABLE": 503,
        "DEADLINE_EXCEEDED": 504,
    }
    for name, number in code_pb2.Code.items():
        assert http_status(number) == expected.get(name, 500), name


def test_connections_go_on_after_an_error(served, file):
    with closing(http.client.HTTPConnection(urlsplit(served.http).netloc, timeout=SECONDS)) as one:
        for path, status in ((ENCODE, 200), ("encode?quality=x", 400), (ENCODE, 200)):
            one.request("POST", f"/v1/{path}", file, {"Content-Type": PNG, "Accept": "*/*"})
            with one.getresponse() as response:
                response.read()
                assert (response.status, response.isclosed()) == (status, True)


def test_npy_is_for_what_has_numbers(served, file):
    found = ask(served, ENCODE, file, PNG, Accept=NPY)
    assert found.status == 406
    assert codec_pb2.EncodeRequest.DESCRIPTOR.name not in found.json["message"]


SECRET = "s3cr3t-0123456789abcdef"


@pytest.mark.parametrize("port", ["http", "page"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET / HTTP/9.9\r\n\r\n", "Bad status line"),
        (b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", "Invalid character in Content-Length"),
        (f"GET / HTTP/1.1\nAuthorization: Bearer {SECRET}\n\n".encode(), "400"),
        (f"GET / HTTP/1.1\r\nAuthorization: Bearer {SECRET}\0\r\n\r\n".encode(), "header value"),
        (f"GET / HTTP/1.1\r\nAuthorization : Bearer {SECRET}\r\n\r\n".encode(), "header token"),
        (f"GET http://[{SECRET} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), "400"),
        (f"GET /{SECRET}{'x' * 9000} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), "8190 bytes"),
    ],
)
def test_what_is_no_request_is_a_line_of_the_log_without_its_bytes(served, data, words, port):
    before = len(served.log)
    found = raw(served, data, port=port)
    assert found.split()[1] == b"400"
    assert words in found.decode()
    if port == "http":
        assert json.loads(found.partition(b"\r\n\r\n")[2])["code"] == code_pb2.INVALID_ARGUMENT
    wait_until(lambda: "malformed" in served.log[before:], "no line")
    lines = map(json.loads, served.log[before:].splitlines())
    (line,) = (each for each in lines if "malformed" in each["message"])
    assert re.fullmatch(r"malformed HTTP request from 127.0.0.1: [A-Za-z]+, 400", line["message"])
    assert line["level"] == "info"
    assert SECRET not in served.log


def test_a_head_is_bounded_while_it_comes(served):
    found = raw(served, head(0, *(f"X-{number}: {'a' * 5_000}" for number in range(5)))[:-2])
    assert found.startswith(b"HTTP/1.1 431 ")
    answer = json.loads(found.partition(b"\r\n\r\n")[2])
    assert answer["message"] == "the headers have more than 16,384 bytes"


def test_a_request_before_the_answer_to_another_is_not_taken(served):
    """Its connection ends after that answer."""
    text = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    url = urlsplit(served.http)
    with closing(socket.create_connection((url.hostname, url.port), SECONDS)) as connection:
        connection.sendall(text * 50)
        found = connection.makefile("rb").read()
    assert found.count(b"HTTP/1.1 200 OK") == 1
    assert b"\r\nConnection: close\r\n" in found

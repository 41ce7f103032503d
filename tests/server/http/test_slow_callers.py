"""Callers that are slow, gone, or there when the server stops: nothing is kept for them."""

import io
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest
from PIL import Image

import hvae_codec
from hvae_codec.codec.images.load import encode_png
from tests.server.http.asking import HVAE, PNG, SECONDS, ask
from tests.server.scraping import Scrape, scraped_when
from tests.waiting import wait_until

IDLE_SECONDS = 2
SMALL = "model=cifar10&quality=1"


@pytest.fixture(scope="module")
def impatient(start_server):
    """A server that waits two seconds for messages and readers."""
    flags = ("--idle-seconds", str(IDLE_SECONDS), "--coding-processes", "1")
    ports = ("--http-port", "0", "--metrics-port", "0")
    server = start_server(*flags, *ports, "--preload", "cifar10@1")
    yield server
    assert "Traceback" not in server.log, server.log


@pytest.fixture(scope="module")
def large_file():
    """A small file of an image that takes seconds to encode."""
    file = io.BytesIO()
    Image.new("RGB", (2_900, 2_900)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def file(smooth_picture):
    return encode_png(smooth_picture(32, 32, seed=5))


def connected(server):
    """A connection that takes little of what is sent to it."""
    url, found = urlsplit(server.http), socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.settimeout(SECONDS)
    found.connect((url.hostname, url.port))
    return closing(found)


def head(path, kind, length, *more):
    lines = (f"POST /v1/{path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Type: {kind}")
    return "\r\n".join((*lines, f"Content-Length: {length}", *more, "", "")).encode()


def nothing_is_held(server):
    scraped_when(server, lambda scrape: scrape("hvae_queued_bytes") == 0, SECONDS)
    scraped_when(server, lambda scrape: scrape("hvae_calls_in_flight") == 0, SECONDS)


def test_an_upload_that_stops_ends(impatient, file):
    with connected(impatient) as slow:
        slow.sendall(head(f"encode?{SMALL}", PNG, len(file)) + file[:-1])
        found = slow.recv(1 << 16)
        assert found.startswith(b"HTTP/1.1 503 ")
        assert b"the call's message did not come in time" in found
        assert slow.recv(1 << 16) == b"", "the rest may still come: the connection ends"
    assert ask(impatient, f"encode?{SMALL}", file, PNG).status == 200
    nothing_is_held(impatient)


@pytest.mark.parametrize(
    ("code", "more", "leaves"),
    [
        ("DEADLINE_EXCEEDED", ("Grpc-Timeout: 500m",), False),
        ("UNAVAILABLE", (), False),
        ("CANCELLED", (), True),
    ],
)
def test_a_call_that_ends_in_its_body_is_observed_once(impatient, file, code, more, leaves):
    labels = {"method": "Encode", "code": code}
    before = Scrape(impatient)("hvae_requests_total", **labels)
    lines = impatient.log.count(f"method=Encode code={code}")
    with connected(impatient) as slow:
        slow.sendall(head(f"encode?{SMALL}", PNG, len(file), *more) + file[:-1])
        if leaves:
            time.sleep(0.5)
        else:
            assert slow.recv(12) in (b"HTTP/1.1 503", b"HTTP/1.1 504")
    scraped_when(impatient, lambda scrape: scrape("hvae_requests_total", **labels) == before + 1)
    wait_until(lambda: impatient.log.count(f"method=Encode code={code}") == lines + 1)
    nothing_is_held(impatient)


def test_a_deadline_that_has_passed_is_answered_as_it_is_logged(impatient):
    assert ask(impatient, "models", Grpc_Timeout="1n").status == 504
    wait_until(lambda: "method=ListModels code=DEADLINE_EXCEEDED" in impatient.log)


def test_an_answer_that_is_not_read_ends(impatient):
    """It is larger than what the system keeps of it; five seconds more, and its place is free."""
    noise = np.random.default_rng(0).integers(0, 256, (1_000, 1_000, 3)).astype(np.uint8)
    blob = hvae_codec.encode(noise, "cifar10", quality=1)
    with connected(impatient) as unread:
        accept = "Accept: application/x-npy"
        unread.sendall(head("decode", HVAE, len(blob), accept) + blob)
        assert unread.recv(12) == b"HTTP/1.1 200"
        scraped_when(impatient, lambda scrape: scrape("hvae_queued_bytes") > 3_000_000, SECONDS)
        nothing_is_held(impatient)
        with suppress(ConnectionError):
            while unread.recv(1 << 20):
                pass
    assert "read no answer over HTTP: its connection was closed" in impatient.log


@pytest.mark.parametrize("more", [b"", head("encode", PNG, 2**20) + bytes(2**20)])
def test_a_caller_that_is_gone_ends_its_work(impatient, large_file, more):
    """Also where it has sent more than the server reads of it."""
    path = "encode?model=cifar10&effort=2"
    ended = {"method": "Encode", "code": "CANCELLED"}
    before = Scrape(impatient)("hvae_requests_total", **ended)
    with connected(impatient) as gone:
        gone.sendall(head(path, "image/jpeg", len(large_file)) + large_file)
        labels = {"method": "Encode"}
        scraped_when(impatient, lambda scrape: scrape("hvae_calls_in_flight", **labels) == 1)
        scraped_when(impatient, lambda scrape: scrape("hvae_queued_items") == 1)
        gone.sendall(more)
    began = time.monotonic()
    scraped_when(
        impatient, lambda scrape: scrape("hvae_requests_total", **ended) == before + 1, SECONDS
    )
    assert time.monotonic() - began < 10, "alone on the machine it takes milliseconds"
    nothing_is_held(impatient)


def test_a_deadline_ends_its_work(impatient, large_file):
    ended = {"method": "Encode", "code": "DEADLINE_EXCEEDED"}
    before = Scrape(impatient)("hvae_requests_total", **ended)
    path = "encode?model=cifar10&effort=2"
    found = ask(impatient, path, large_file, "image/jpeg", Grpc_Timeout="500m")
    assert (found.status, found.json["code"]) == (504, grpc.StatusCode.DEADLINE_EXCEEDED.value[0])
    counted = before + 1
    scraped_when(impatient, lambda s: s("hvae_requests_total", **ended) == counted, SECONDS)
    nothing_is_held(impatient)


@pytest.mark.parametrize("grace", [60, 0])
def test_sigterm(start_server, smooth_picture, large_file, grace):
    """A call in flight is answered within the grace; beyond it, its caller hears why."""
    flags = ("--shutdown-grace-seconds", str(grace), "--preload", "cifar10@1")
    ports = ("--http-port", "0", "--metrics-port", "0", "--coding-processes", "1")
    server = start_server(*flags, *ports)
    picture = smooth_picture(1_000, 1_000)
    body, kind = (encode_png(picture), PNG) if grace else (large_file, "image/jpeg")
    with ThreadPoolExecutor(1) as pool, connected(server) as idle:
        idle.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(1 << 20).startswith(b"HTTP/1.1 200 ")
        call = pool.submit(ask, server, f"encode?{SMALL}", body, kind)
        scraped_when(server, lambda scrape: scrape("hvae_queued_items") == 1)
        server.process.send_signal(signal.SIGTERM)
        answer = call.result(timeout=SECONDS)
    if grace:
        assert answer.body == hvae_codec.encode(picture, "cifar10", quality=1)
    else:
        assert (answer.status, answer.json["code"]) == (503, 14)
        assert "another one answers" in answer.json["message"]
    assert server.process.wait(timeout=120) == 0
    with pytest.raises(ConnectionError):
        ask(server, "models")
    assert "Traceback" not in server.log

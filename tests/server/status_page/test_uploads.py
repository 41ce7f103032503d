"""Callers of the status page that are silent leave room to others, and keep no memory for ever."""

import asyncio
import io
import json
import socket
import time
import urllib.error
import urllib.request
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from PIL import Image

from hvae_codec.server.http import port
from hvae_codec.server.observability.metrics import Metrics
from hvae_codec.server.status_page import page as pages
from hvae_codec.server.status_page.page import StatusPage
from hvae_codec.v1 import codec_pb2
from tests.server.conftest import TOKENS

SECONDS = 60
OF_CALLER = 3
QUERY = "evaluate?model=cifar10&quality=2"


def head(token, length):
    """Of a request with an image of so many bytes."""
    lines = (
        f"POST /{QUERY} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/octet-stream",
        f"Authorization: Bearer {token}",
        f"Content-Length: {length}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def connected(url):
    """A connection to a page that holds little of what is sent to it."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.settimeout(SECONDS)
    found.connect((urlsplit(url).hostname, urlsplit(url).port))
    return found


def ask(url, token, file):
    """Status and JSON of an answer."""
    headers = {"Content-Type": "application/octet-stream", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url + QUERY, file, headers)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def status_when(url, file, wanted):
    """Ask until the status is the one wanted; returns the answer."""
    ends = time.monotonic() + SECONDS
    while (found := ask(url, TOKENS["alice"], file))[0] != wanted:
        assert time.monotonic() < ends, found
        time.sleep(0.05)
    return found[1]


def test_files_that_do_not_come_leave_room(guarded, smooth_picture):
    """One token has three of four images in work. Where it asks for another, the longest silent one
    ends after five seconds, not after thirty.
    """
    buffer = io.BytesIO()
    Image.fromarray(smooth_picture(32, 32, seed=5)).save(buffer, "PNG")
    file, began = buffer.getvalue(), time.monotonic()
    silent = [connected(guarded.page) for _ in range(OF_CALLER)]
    for each in silent:
        each.sendall(head(TOKENS["alice"], len(file)) + file[:10])
    refused = status_when(guarded.page, file, 429)
    assert refused["error"] == "3 images of this caller are in work, the most at once; try again"
    status, other = ask(guarded.page, TOKENS["bob"], file)
    assert status == 200
    assert status_when(guarded.page, file, 200)["bytes"] == other["bytes"]
    assert time.monotonic() - began < 25
    assert b" 504 " in silent[0].recv(1024)
    for each in silent:
        each.close()


@pytest.fixture
def on_page():
    """Runs a function in a thread with the URL of a page whose answers have 8 MB."""

    async def evaluate(_request):
        image = codec_pb2.Image(file=bytes(6_000_000))
        return codec_pb2.EvaluateResponse(decoded=image)

    def run(function):
        async def main():
            page = StatusPage(Metrics(), evaluate, lambda: True, most_bytes=100)
            url = await page.start("127.0.0.1", 0)
            try:
                await asyncio.to_thread(function, url)
            finally:
                await page.stop()

        asyncio.run(asyncio.wait_for(main(), SECONDS))

    return run


def test_an_answer_that_is_not_read_keeps_its_place(on_page):
    def check(url):
        unread = [connected(url) for _ in range(OF_CALLER)]
        for each in unread:
            each.sendall(head("none", 4) + b"file")
            each.recv(10)
        assert ask(url, "none", b"file")[0] == 429
        with closing(unread.pop()) as read:
            length = 10
            while length < 8_000_000:
                length += len(read.recv(1 << 20))
        status_when(url, b"file", 200)
        for each in unread:
            each.close()

    on_page(check)


@pytest.mark.parametrize(
    ("module", "name", "value", "left"),
    [(pages, "CONNECTIONS", 2, 2), (port, "_IDLE_SECONDS", 1, 0)],
)
def test_heads_that_never_end_are_not_kept(on_page, monkeypatch, module, name, value, left):
    """Nor more than so many: each keeps a descriptor."""
    monkeypatch.setattr(module, name, value)

    def check(url):
        waiting = [connected(url) for _ in range(5)]
        for each in waiting:
            each.sendall(b"GET /live HTTP/1.1\r\nX: ")
        for each in waiting[: len(waiting) - left]:
            assert each.recv(10) == b""
        for each in waiting[len(waiting) - left :]:
            each.sendall(b"y\r\nHost: 127.0.0.1\r\n\r\n")
            assert each.recv(12) == b"HTTP/1.1 200"
        for each in waiting:
            each.close()

    on_page(check)


def test_a_connection_in_use_is_kept(on_page, monkeypatch):
    monkeypatch.setattr(port, "_IDLE_SECONDS", 1)

    def check(url):
        with closing(connected(url)) as used:
            for _ in range(40):
                used.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                assert used.recv(1 << 16).startswith(b"HTTP/1.1 200")
                time.sleep(0.1)

    on_page(check)

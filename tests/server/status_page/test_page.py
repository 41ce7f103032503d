"""The status page: what its port answers, and what a real browser makes of it."""

import asyncio
import base64
import io
import json
import re
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import asynccontextmanager, suppress

import aiohttp
import grpc
import numpy as np
import pytest
from PIL import Image

import hvae_codec
from hvae_codec.server.auth.access import Access
from hvae_codec.server.auth.token_file import TokenFile
from hvae_codec.server.observability.calls import current_call
from hvae_codec.server.observability.metrics import Metrics
from hvae_codec.server.status_page.page import StatusPage
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.token_tables import token_table

SECONDS = 30
BROWSER_SECONDS = 60
TOKEN = "alice-0123456789abcdef0123456789"
BYTES = "application/octet-stream"


@pytest.fixture(scope="module")
def shown(guarded):
    """A server with a status page that wants a token for pictures."""
    return guarded


@pytest.fixture(scope="module")
def picture(smooth_picture):
    return smooth_picture(32, 32, seed=5)


@pytest.fixture(scope="module")
def file(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def ask(server, path, data=None, token=TOKEN, kind=BYTES, **headers):
    """Status, headers and body of an answer."""
    request = urllib.request.Request(server.page + path, data, headers)
    if data is not None:
        request.add_header("Content-Type", kind)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


@pytest.mark.parametrize(("path", "kind"), [("", "html"), ("page.css", "css"), ("page.js", "java")])
def test_files_come_from_the_package_under_a_strict_policy(shown, path, kind):
    status, headers, body = ask(shown, path, token=None)
    assert status == 200
    assert kind in headers["Content-Type"]
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(rb"https?://", body), "it needs nothing from elsewhere"


@pytest.mark.parametrize("path", ["page.html", "..%2fapp.py", "static/page.js", "%2e%2e/app.py"])
def test_nothing_else_of_the_package_is_served(shown, path):
    assert ask(shown, path)[0] == 404


def test_a_picture_there_and_back(shown, file, picture):
    status, _, body = ask(shown, "evaluate?model=cifar10&quality=2", file)
    assert status == 200
    answer = json.loads(body)
    codec = hvae_codec.load("cifar10", 2)
    blob = codec.encode(picture)
    assert (answer["model"], answer["quality"], answer["bytes"]) == ("cifar10", 2, len(blob))
    assert len(answer["rates_nats"]) == 2
    assert 0 < sum(answer["rates_nats"]) < 8 * len(blob)
    decoded = Image.open(io.BytesIO(base64.b64decode(answer["image"].partition(",")[2])))
    assert np.array_equal(np.asarray(decoded), codec.decode(blob))
    error = np.mean((np.asarray(decoded).astype(float) - picture) ** 2)
    assert answer["psnr_db"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)


@pytest.mark.parametrize(
    ("host", "taken"),
    [
        ("LOCALHOST:9464", True),
        ("localhost.:9464", True),
        ("localhost.", True),
        ("[::1]:9464", True),
        ("127.0.0.9", True),
        ("localhost.example", False),
        ("127.0.0.1.example:80", False),
        ("example", False),
    ],
)
def test_names_of_this_machine_alone(shown, host, taken):
    status, _, body = ask(shown, "healthz", Host=host)
    assert (status, body) == ((200, b"SERVING\n") if taken else (421, b"not this host\n"))


@pytest.mark.parametrize(("guards", "owner"), [(True, "alice"), (False, "127.0.0.1")])
def test_a_picture_takes_turns_as_what_its_token_owns(guards, owner, tmp_path):
    """As gRPC's calls with the token do; without tokens, all from one address together."""
    tokens = tmp_path / "tokens"
    tokens.write_text(token_table("alice", TOKEN))
    tokens.chmod(0o600)
    owners = []

    async def evaluate(_request):
        owners.append(current_call().owner)
        return codec_pb2.EvaluateResponse()

    async def main():
        access = Access(TokenFile(tokens)) if guards else None
        page = StatusPage(Metrics(), evaluate, lambda: True, most_bytes=100, access=access)
        url = await page.start("127.0.0.1", 0)
        headers = {"Content-Type": BYTES, "Authorization": f"Bearer {TOKEN}"}
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(url + "evaluate", data=b"file") as answer,
        ):
            assert answer.status == 200
        await page.stop()

    asyncio.run(main())
    assert owners == [owner]


@pytest.mark.parametrize(
    ("path", "data", "change", "status", "words"),
    [
        ("evaluate", b"GIF89a", {}, 400, "not a PNG"),
        ("evaluate?model=none", None, {}, 404, "unknown model"),
        ("evaluate?model=cifar10&quality=77", None, {}, 404, "quality"),
        ("evaluate?model=cifar10&quality=many", None, {}, 400, "quality"),
        ("evaluate", None, {"token": None}, 401, "token"),
        ("evaluate", None, {"token": "x" * 32}, 401, "token"),
        ("evaluate", None, {"kind": "text/plain"}, 415, BYTES),
        ("evaluate", None, {"kind": "image/png"}, 415, BYTES),
    ],
)
def test_what_cannot_be_taken(shown, file, path, data, change, status, words):
    found, _, body = ask(shown, path, data or file, **change)
    assert (found, words in json.loads(body)["error"]) == (status, True), body


def test_a_large_body_is_refused_by_what_it_says_of_itself(shown):
    began = time.monotonic()
    headers = {"Content-Length": str(2**40)}
    assert ask(shown, "evaluate", b"x", **headers)[0] == 413
    assert time.monotonic() - began < 30


def test_a_large_body_that_says_nothing_is_read_up_to_the_limit(shown):
    def endless():
        for _ in range(64):
            yield bytes(2**20)

    async def send():
        async with aiohttp.ClientSession() as session:
            headers = {"Content-Type": BYTES, "Authorization": f"Bearer {TOKEN}"}
            async with session.post(
                shown.page + "evaluate", data=as_async(endless()), headers=headers
            ) as answer:
                return answer.status

    async def as_async(chunks):
        for chunk in chunks:
            yield chunk

    with suppress(aiohttp.ClientError):  # closed while it still sent
        assert asyncio.run(asyncio.wait_for(send(), SECONDS)) == 413
    assert ask(shown, "healthz")[0] == 200


class Tab:
    """A tab of a browser, by its DevTools protocol."""

    def __init__(self, socket):
        self._socket = socket
        self._number = 0
        self.events = []

    async def call(self, method, **params):
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json(timeout=BROWSER_SECONDS)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    async def value(self, expression):
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, expression):
        """Wait until an expression is true, and give its value."""
        deadline = time.monotonic() + BROWSER_SECONDS
        while not (value := await self.value(expression)):
            text = await self.value("document.body.innerText")
            assert time.monotonic() < deadline, f"{expression} never came:\n{text}"
            await asyncio.sleep(0.1)
        return value

    async def drop(self, path, selector):
        """Drop a file on an element, as a hand with a mouse would."""
        box = await self.value(
            f"document.querySelector('{selector}').scrollIntoView(), "
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])"
            f"(document.querySelector('{selector}').getBoundingClientRect())"
        )
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            await self.call("Input.dispatchDragEvent", type=kind, x=box[0], y=box[1], data=data)


@asynccontextmanager
async def tab(browser, profile, url):
    """A tab at `url` in a browser of its own."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    command += [f"--user-data-dir={profile}", "--window-size=1200,1400", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        active = profile / "DevToolsActivePort"
        deadline = time.monotonic() + BROWSER_SECONDS
        while not active.exists() or not active.read_text().count("\n"):
            assert time.monotonic() < deadline
            assert process.poll() is None
            await asyncio.sleep(0.05)
        port = active.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                targets = await answer.json()
            address = next(t["webSocketDebuggerUrl"] for t in targets if t["type"] == "page")
            async with session.ws_connect(address, max_msg_size=2**26) as socket:
                opened = Tab(socket)
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await opened.call(f"{domain}.enable")
                await opened.call("Page.navigate", url=url)
                yield opened
    finally:
        process.kill()
        process.wait(timeout=BROWSER_SECONDS)


def encode(server, count, name="cifar10"):
    """A call of so many pictures."""
    raw = codec_pb2.RawImage(height=32, width=32, channels=3, data=bytes(3072))
    request = codec_pb2.EncodeRequest(
        model=codec_pb2.ModelSelector(name=name, quality=2),
        images=[codec_pb2.Image(raw=raw)] * count,
    )
    with grpc.insecure_channel(server.address) as channel:
        codec_pb2_grpc.CodecServiceStub(channel).Encode(
            request, metadata=[("authorization", f"Bearer {TOKEN}")], timeout=SECONDS
        )


ROW = "[...document.querySelectorAll('#{} tr')].map(r => [...r.cells].map(c => c.textContent))"


@pytest.mark.browser
def test_a_browser_shows_figures_and_a_dropped_picture(browser, shown, picture, file, tmp_path):
    path = tmp_path / "waves.png"
    path.write_bytes(file)
    encode(shown, 500)
    with pytest.raises(grpc.RpcError):
        encode(shown, 1, "no such model")

    async def visit():
        async with tab(browser, tmp_path / "profile", shown.page) as page:
            await page.until("Number(document.documentElement?.dataset.polls) >= 1")
            assert await page.value("document.getElementById('state').textContent") == "serving"
            rows = {row[0]: row for row in await page.value(ROW.format("methods"))}
            assert int(rows["Encode"][6]) >= 1
            assert int(rows["Encode"][7]) >= 1
            marked = "[...document.querySelectorAll('#methods .bad')].map(c => c.textContent)"
            assert rows["Encode"][7] in await page.value(marked)
            (failure, *_) = await page.value(ROW.format("errors"))
            assert re.fullmatch(r"\d\d:\d\d:\d\d", failure[0])
            assert failure[1:3] == ["Encode", "NOT_FOUND"]
            assert failure[4].startswith("unknown model 'no such model'")
            for chart in ("rates", "delays"):
                texts = f"[...document.querySelectorAll('#{chart} text')].map(t => t.textContent)"
                ticks = await page.value(texts)
                assert {"0", "now", "\u2212120 s"} <= set(ticks)
                assert len(ticks) >= 7, "two more, or there is no scale"
            batches = await page.value(ROW.format("batches"))
            (line,) = (row for row in batches if row[:2] == ["cifar10-q2", "encode"])
            assert int(line[3]) >= 500
            assert re.fullmatch(r"[\d.]+ (ms|s)", line[7]), "the 95th percentile of its batches"
            # Figures go on by themselves.
            await asyncio.to_thread(encode, shown, 500)
            await page.until("Number(document.getElementById('most').textContent) > 0")
            await page.until("document.getElementById('model').options.length > 1")
            await page.value("document.getElementById('model').value = 'cifar10'")
            await page.value("document.getElementById('quality').value = '2'")
            assert not await page.value("document.getElementById('token-choice').hidden")

            await page.drop(path, "#drop")
            error = await page.until("document.getElementById('error').textContent")
            assert error == "this server wants a token that it knows"
            assert await page.value("document.getElementById('result').hidden")

            await page.value(f"document.getElementById('token').value = '{TOKEN}'")
            await page.drop(path, "#drop")
            await page.until("!document.getElementById('result').hidden")
            assert not await page.value("document.getElementById('error').textContent")
            sizes = await page.value(
                "['original', 'decoded'].map(id => document.getElementById(id).naturalWidth)"
            )
            assert sizes == [32, 32]
            source = await page.value("document.getElementById('decoded').src")
            costs = dict(await page.value(ROW.format("costs")))
            mark = await page.value("document.documentElement.dataset.scriptError")
            return source, costs, mark, page.events

    source, costs, mark, events = asyncio.run(asyncio.wait_for(visit(), 2 * BROWSER_SECONDS))
    codec = hvae_codec.load("cifar10", 2)
    blob = codec.encode(picture)
    decoded = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
    assert np.array_equal(np.asarray(decoded), codec.decode(blob))
    assert costs["Bytes"] == str(len(blob))
    assert costs["Size"] == "32 \u00d7 32"
    assert re.fullmatch(r"\d+\.\d\d nats", costs["R(z2)"])
    assert re.fullmatch(r"\d+\.\d\d nats", costs["R(z1)"])
    assert re.fullmatch(r"\d\d\.\d\d dB", costs["PSNR"])
    assert mark is None
    kinds = [event["method"] for event in events]
    assert "Runtime.exceptionThrown" not in kinds
    said = [event["params"]["entry"] for event in events if event["method"] == "Log.entryAdded"]
    assert all("401" in entry["text"] for entry in said), said
    asked = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert asked
    assert all(url.startswith((shown.page, "data:", "blob:", "about:")) for url in asked), asked

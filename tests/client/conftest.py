"""A small real gRPC server that fails as it is told, the codec's own, and both kinds of client."""

import asyncio
import hashlib
import shutil
import subprocess
import threading
import time
from collections import deque
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from hvae_codec.client import AsyncClient, Client, Retry
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests import processes

ROOT = Path(__file__).parents[2]
START_SECONDS = 240
LIMITS = {"message_bytes": 2**20, "items": 5, "pixels": 10_000}
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def failure(code, *, retry_after=None, reason=None, message=None):
    """A status with a RetryInfo, an ErrorInfo, or no details."""
    message = message or f"told to be {code.name}"
    status = status_pb2.Status(code=code.value[0], message=message)
    details = []
    if retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(1e9 * retry_after))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if reason is not None:
        details.append(error_details_pb2.ErrorInfo(reason=reason, domain="hvae_codec"))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return rpc_status.to_status(status)


def digest(image):
    """What the small server answers for a picture: bytes that tell which one it was."""
    return hashlib.sha256(image.raw.data or image.file).digest()


class SmallServer(codec_pb2_grpc.CodecServiceServicer):
    """Speaks the contract, with hashes for files. What it is to do wrong is set on it:

    failures: statuses with which the next calls end, or streams at their next message; not those
        that ask for limits.
    break_after: messages after which the next stream ends, with UNAVAILABLE.
    lost: of item bytes, how often the item is answered UNAVAILABLE.
    bad: item bytes that are refused, as ALPHA.
    limits: what it enforces and, unless `silent`, states.
    """

    def __init__(self):
        self.failures = deque()
        self.break_after = None
        self.lost = {}
        self.bad = set()
        self.limits = dict(LIMITS)
        self.silent = False
        self.pause = 0.0
        self.messages = []  # (method, items) of all that were answered or refused
        self.answered = []  # hashes of the items that got a result
        self.times = []
        self.metadata = []
        self.streams_cancelled = threading.Event()
        self.address = None

    def Encode(self, request, context):  # noqa: N802
        self._see("Encode", len(request.images), context)
        if self.failures:
            context.abort_with_status(self.failures.popleft())
        if len(request.images) > self.limits["items"]:
            context.abort_with_status(failure(EXHAUSTED, reason="LIMIT"))
        return self._encoded(request)

    def StreamEncode(self, requests, context):  # noqa: N802
        context.add_callback(self.streams_cancelled.set)
        for number, message in enumerate(requests):
            self._see("StreamEncode", len(message.request.images), context)
            if self.failures:
                context.abort_with_status(self.failures.popleft())
            if self.break_after is not None and number == self.break_after:
                self.break_after = None
                context.abort_with_status(failure(UNAVAILABLE))
            time.sleep(self.pause)
            if len(message.request.images) > self.limits["items"]:
                code = EXHAUSTED.value[0]
                status = codec_pb2.Status(code=code, message="too many", reason="LIMIT")
                yield codec_pb2.StreamEncodeResponse(status=status)
            else:
                yield codec_pb2.StreamEncodeResponse(response=self._encoded(message.request))

    def ListModels(self, request, context):  # noqa: N802
        self._see("ListModels", 0, context)
        limits = None if self.silent else codec_pb2.CallLimits(**self.limits)
        return codec_pb2.ListModelsResponse(limits=limits)

    def of(self, method):
        """Items of each message of a method."""
        return [items for name, items in self.messages if name == method]

    def _see(self, method, items, context):
        self.messages.append((method, items))
        self.times.append(time.monotonic())
        self.metadata.append(dict(context.invocation_metadata()))

    def _encoded(self, request):
        return codec_pb2.EncodeResponse(results=[self._result(image) for image in request.images])

    def _result(self, image):
        data = image.raw.data or image.file
        if self.lost.get(data, 0):
            self.lost[data] -= 1
            return codec_pb2.EncodeResult(status=_status(UNAVAILABLE, "WORKER_LOST"))
        if data in self.bad:
            return codec_pb2.EncodeResult(status=_status(grpc.StatusCode.INVALID_ARGUMENT, "ALPHA"))
        self.answered.append(digest(image))
        return codec_pb2.EncodeResult(encoded=digest(image))


def _status(code, reason):
    return codec_pb2.Status(code=code.value[0], message="images[0]: told to fail", reason=reason)


@pytest.fixture
def serve():
    """Starts a small server, at an address if one is given, with credentials if there are any."""
    running = []

    def start(servicer, port=0, credentials=None):
        server = grpc.server(
            futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 2**20)]
        )
        codec_pb2_grpc.add_CodecServiceServicer_to_server(servicer, server)
        address = f"127.0.0.1:{port}"
        bound = (
            server.add_insecure_port(address)
            if credentials is None
            else server.add_secure_port(address, credentials)
        )
        server.start()
        running.append(server)
        servicer.address = f"127.0.0.1:{bound}"
        return server

    start.running = running
    yield start
    for server in running:
        server.stop(None)


@pytest.fixture
def small(serve):
    """A small server that runs."""
    servicer = SmallServer()
    serve(servicer)
    return servicer


FAST = Retry(attempts=4, first_delay=0.01, greatest_delay=0.05, seed=1)


def ask_blocking(address, method, *arguments, settings=None, **options):
    """A method of `Client`; all results of a stream."""
    with Client(address, **{"retry": FAST, **(settings or {})}) as client:
        found = getattr(client, method)(*arguments, **options)
        return list(found) if method.endswith("_stream") else found


def ask_loop(address, method, *arguments, settings=None, **options):
    """The same method of `AsyncClient`."""

    async def ask():
        async with AsyncClient(address, **{"retry": FAST, **(settings or {})}) as client:
            found = getattr(client, method)(*arguments, **options)
            if method.endswith("_stream"):
                return [result async for result in found]
            return await found

    return asyncio.run(ask())


@pytest.fixture(params=[ask_blocking, ask_loop], ids=["Client", "AsyncClient"])
def ask(request):
    """Asks a server by either client."""
    return request.param


@pytest.fixture(scope="session")
def pictures():
    """23 grey pictures of 4x4 pixels, all different."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (4, 4), dtype=np.uint8) for _ in range(23)]


@pytest.fixture(scope="session")
def hashes(pictures):
    """What the small server answers for them."""
    return [hashlib.sha256(picture.tobytes()).digest() for picture in pictures]


class RealServer:
    """A server of the codec in a process of its own; `start` may be called again once it ended."""

    def __init__(self, folder):
        self._port_file, self._log = folder / "port", folder / "log"
        self.process = None
        self.port = 0

    def start(self):
        self._port_file.unlink(missing_ok=True)
        words = ["--port", str(self.port), "--port-file", str(self._port_file)]
        self.process = processes.start_forked(words, self._log)
        deadline = time.monotonic() + START_SECONDS
        while not self._port_file.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not start:\n{self.log}")
            time.sleep(0.02)
        self.port = int(self._port_file.read_text())

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def log(self):
        return self._log.read_text()

    def end(self):
        """Stop it if it still runs."""
        self.process.terminate()
        try:
            self.process.wait(timeout=120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """Address of a server of the codec, which must outlive the tests."""
    server = RealServer(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        yield server.address
        assert server.process.poll() is None, f"the server died:\n{server.log}"
        assert "Traceback" not in server.log, server.log
    finally:
        server.end()


@pytest.fixture
def mortal(tmp_path):
    """A server of the codec that a test may end, and start again where it was."""
    server = RealServer(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.end()


@pytest.fixture(scope="session")
def failing():
    """Makes statuses for `SmallServer.failures`."""
    return failure


@pytest.fixture(scope="session")
def small_server():
    """Makes small servers that do not run yet."""
    return SmallServer


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory):
    """A folder with the Node program of tests/node and what it needs; for tests marked `node`."""
    folder = tmp_path_factory.mktemp("node")
    for source in (ROOT / "tests" / "node").iterdir():
        if source.is_file():
            shutil.copy(source, folder)
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return folder

"""One real server process for these tests, and the same codec in this process to compare with."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch

import hvae_codec
from hvae_codec import Codec, ModelInfo
from hvae_codec.client import Client
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests import processes
from tests.server.token_tables import token_table

START_SECONDS = 240

BEHIND_PROXY = {
    **dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://127.0.0.1:9"),
    **dict.fromkeys(("no_proxy", "no_grpc_proxy"), ""),
}
"""An environment whose proxy does not answer."""


class ServerProcess:
    """A server in its own process, on a free port."""

    def __init__(
        self, directory: Path, *flags: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.port_file = directory / "port"
        self._lines: list[str] = []
        self._log = directory / "log"
        words = ["--port", "0", "--port-file", str(self.port_file), *flags]
        self.process = processes.start(words, self._log, environment)
        processes.register(self.process)
        deadline = time.monotonic() + START_SECONDS
        while not self.port_file.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                pytest.fail(f"the server did not start:\n{self._log.read_text()}")
            time.sleep(0.02)
        self.address = f"127.0.0.1:{self.port_file.read_text().strip()}"

    @property
    def log(self) -> str:
        return self._log.read_text()

    @cached_property
    def page(self) -> str:
        """URL of the status page, of a server with --metrics-port."""
        return self._announced(" status page on ")

    @cached_property
    def http(self) -> str:
        """URL of HTTP's paths, of a server with --http-port."""
        return self._announced(" HTTP on ")

    def _announced(self, words: str) -> str:
        """The last word of the line with these words that the server has written."""
        assert self.process.stdout is not None
        while not (found := [line for line in self._lines if words in line]):
            self._lines.append(self.process.stdout.readline())
            assert self._lines[-1], f"the server wrote no line with{words}"
        return found[0].split()[-1]

    def terminate(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and wait; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=120)


StartServer = Callable[..., ServerProcess]


def _starting(folders: pytest.TempPathFactory) -> Iterator[StartServer]:
    """What starts servers with the flags given; they end when this iterator does."""
    servers = []

    def start(*flags: str, **how: Any) -> ServerProcess:
        servers.append(ServerProcess(folders.mktemp("server"), *flags, **how))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.communicate()


@pytest.fixture(scope="session")
def start_lasting_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts servers that many files of tests share."""
    yield from _starting(tmp_path_factory)


@pytest.fixture(scope="module")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Starts servers that end with the file of tests: they take 0.7 GB each."""
    yield from _starting(tmp_path_factory)


@pytest.fixture(scope="session")
def server(start_lasting_server: StartServer) -> Iterator[ServerProcess]:
    """The server that most tests share; it must live through all of them without a traceback."""
    shared = start_lasting_server()
    yield shared
    assert shared.process.poll() is None, f"the server died:\n{shared.log}"
    assert "Traceback" not in shared.log, shared.log


@pytest.fixture(scope="session")
def watched(start_lasting_server: StartServer) -> Iterator[ServerProcess]:
    """A server with HTTP, metrics, and logs in JSON."""
    flags = ("--metrics-port", "0", "--http-port", "0")
    server = start_lasting_server(*flags, "--log-format", "json", "--preload", "mnist")
    yield server
    assert "Traceback" not in server.log, server.log


TOKENS = {
    "alice": "alice-0123456789abcdef0123456789",
    "bob": "bob+0123456789abcdef0123456789/==",
    "carol": "carol~0123456789abcdef0123456789",
}


@pytest.fixture(scope="session")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TOKENS in a file: bob may have 4 items in flight, carol begin 2 requests a second."""
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    limits: dict[str, dict[str, int]] = {"bob": {"items": 4}, "carol": {"requests": 2}}
    tables = [token_table(name, TOKENS[name], **limits.get(name, {})) for name in TOKENS]
    path.write_text("".join(tables))
    path.chmod(0o600)
    return path


@pytest.fixture(scope="session")
def guarded(start_lasting_server: StartServer, token_file: Path) -> Iterator[ServerProcess]:
    """A server that wants these tokens, with HTTP and a status page."""
    ports = ("--metrics-port", "0", "--http-port", "0")
    server = start_lasting_server("--token-file", str(token_file), *ports)
    yield server
    assert "Traceback" not in server.log, server.log
    assert not any(token in server.log for token in TOKENS.values())


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


@pytest.fixture(scope="session")
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    """For what the typed client cannot say."""
    with grpc.insecure_channel(server.address) as connected:
        yield connected


@pytest.fixture(scope="session")
def rung() -> ModelInfo:
    """The middle of the CIFAR-10 ladder."""
    ladder = sorted(
        (info for info in hvae_codec.models() if info.name == "cifar10"),
        key=lambda info: info.quality,
    )
    return ladder[len(ladder) // 2]


@pytest.fixture(scope="session")
def other_rung(rung: ModelInfo) -> ModelInfo:
    """Another model."""
    return next(info for info in hvae_codec.models() if info.model_id != rung.model_id)


@pytest.fixture(scope="session")
def model(rung: ModelInfo) -> dict[str, str | int]:
    """The model's keyword arguments of the client's methods."""
    return {"model": rung.name, "quality": rung.quality}


@pytest.fixture
def selector(model: dict[str, str | int]) -> codec_pb2.ModelSelector:
    """The model, as requests name it."""
    return codec_pb2.ModelSelector(name=model["model"], quality=model["quality"])


@pytest.fixture(scope="session")
def stub(channel: grpc.Channel) -> codec_pb2_grpc.CodecServiceStub:
    """The contract's calls without a client."""
    return codec_pb2_grpc.CodecServiceStub(channel)


@pytest.fixture
def codec(rung: ModelInfo) -> Iterator[Codec]:
    """The same model in this process, on one thread as in the server's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield hvae_codec.load(rung.name, quality=rung.quality)
    torch.set_num_threads(threads)


SmoothPicture = Callable[..., np.ndarray]


@pytest.fixture(scope="session")
def smooth_picture() -> SmoothPicture:
    """Makes pictures of slow waves, which a model trained on photographs codes without effort."""

    def make(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[0:height, 0:width] / 32
        waves = [np.sin(a * y + b * x + c) for a, b, c in rng.uniform(-4, 4, (channels, 3))]
        return (127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def tiles(smooth_picture: SmoothPicture) -> np.ndarray:
    """40 pictures of the model's own size, uint8 [40, 32, 32, 3]."""
    return np.stack([smooth_picture(32, 32, seed=seed) for seed in range(40)])

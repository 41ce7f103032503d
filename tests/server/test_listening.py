"""Addresses that cannot be had are found out before anything is loaded."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import hvae_codec
from hvae_codec.client import Client
from hvae_codec.server import main
from hvae_codec.server.listening import (
    AddressError,
    check_address,
    check_file,
    check_host,
    close_connection,
    close_path,
)

BEFORE_IMPORTS = """
import sys
from hvae_codec.server import main
code = main(sys.argv[1:])
assert "torch" not in sys.modules and "grpc" not in sys.modules
sys.exit(code)
"""


@pytest.fixture
def taken():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.mark.parametrize("flags", [["--port"], ["--http-port"], ["--metrics-port"]])
def test_a_taken_port_is_found_before_the_imports(flags, taken):
    done = subprocess.run(
        [sys.executable, "-c", BEFORE_IMPORTS, "--port", "0", *flags, str(taken)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 1
    reason = f"hvae-codec server: cannot listen on 127.0.0.1:{taken}: Address already in use\n"
    assert done.stderr == reason


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--port-file", "{0}/none/port"], 1, "the port file {0}/none/port: No such file or dir"),
        (["--port-file", "{0}"], 1, "cannot write the port file {0}: Is a directory"),
        (["--port-file", "/proc/port"], 1, "cannot write the port file /proc/port: No such file"),
        (["--host", "127.0.0.1:5000"], 2, "--host is a name or an address without a port, or unix"),
        (["--host", "unix-abstract:name"], 2, "or unix:PATH, not 'unix-abstract:name'"),
        (["--host", "UNIX:{0}/socket"], 2, "or unix:PATH, not 'UNIX:{0}/socket'"),
        (["--host", "unix:"], 2, "or unix:PATH, not 'unix:'"),
        (["--host", "[::1]"], 2, "without a port, or unix:PATH, not '[::1]'"),
        (["--port", "47113", "--metrics-port", "47113"], 2, "are both 47113 on 127.0.0.1"),
        (
            ["--port", "47113", "--metrics-port", "47113", "--metrics-host", "localhost"],
            2,
            "are both 47113 on localhost: give different ports, or 0 for any free one",
        ),
        (
            ["--http-port", "47113", "--metrics-port", "47113"],
            2,
            "--http-port and --metrics-port are",
        ),
        (
            ["--http-port", "0", "--http-host", "unix:{0}/s"],
            2,
            "a name or an address without a port",
        ),
        (["--host", ""], 2, "or unix:PATH, not ''"),
        (
            ["--metrics-port", "0", "--metrics-host", "localhost:1"],
            2,
            "without a port, not 'localh",
        ),
    ],
)
def test_flags_that_cannot_be_are_found_before_the_imports(flags, code, words, tmp_path):
    flags = [flag.format(tmp_path) for flag in flags]
    done = subprocess.run(
        [sys.executable, "-c", BEFORE_IMPORTS, "--port", "0", *flags],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code
    assert words.format(tmp_path) in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "a-b.c.", "::1", "fe80:0:0:0:0:0:0:1%lo", "unix:a", "unix:///a"],
)
def test_hosts_that_there_may_be(host):
    check_host("--host", host)


def test_a_port_file_that_can_be_written(tmp_path):
    (tmp_path / "old").write_text("before")
    for name in ("old", "new"):
        check_file(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "before"


def test_addresses(taken):
    check_address("127.0.0.1", 0)
    check_address("localhost", 0)
    for host, port, words in [
        ("127.0.0.1", taken, "127.0.0.1:.*: Address already in use"),
        ("0.0.0.0", taken, "Address already in use"),
        ("192.0.2.1", 0, "192.0.2.1:0: Cannot assign requested address"),
        ("nowhere.invalid", 0, "nowhere.invalid:0: no such host"),
    ]:
        with pytest.raises(AddressError, match=f"^cannot listen on .*{words}"):
            check_address(host, port)


def test_a_port_that_is_shared():
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        check_address("127.0.0.1", port, reuse_port=True)
        with pytest.raises(AddressError, match="already in use"):
            check_address("127.0.0.1", port)


def test_a_socket_in_the_file_system(start_server, tiles, tmp_path):
    """Whatever is left over of a server that was killed; one that is in use is not taken over."""
    path = tmp_path / "socket"
    host = f"unix:{path}"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    server = start_server("--host", host, "--preload", "mnist")
    assert server.port_file.read_text() == f"{host}\n"
    with Client(host, token="any-token-may-travel-so") as client:
        (file,) = client.encode([tiles[0]], model="cifar10", quality=3)
    assert file == hvae_codec.load("cifar10", 3).encode(tiles[0])
    command = [sys.executable, "-m", "hvae_codec.server", "--host", host]
    second = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert second.returncode == 1
    assert second.stderr == f"hvae-codec server: cannot listen on {host}: Address already in use\n"
    assert server.terminate() == 0
    assert server.process.stdout.read() == f"hvae-codec server listening on {host}\n"
    assert not path.exists()


def test_paths_where_no_socket_can_be(tmp_path, capsys):
    (tmp_path / "file").touch()
    for path, reason in [
        (tmp_path / "file", "it is there and no socket"),
        (tmp_path / "none" / "socket", "No such file or directory"),
        (tmp_path / ("a" * 120), "AF_UNIX path too long"),
        ("", ""),
    ]:
        with pytest.raises(AddressError, match=f"^cannot listen on unix:{path}: .*{reason}"):
            check_address(f"unix:{path}", 0)
    assert main(["--port", "0", "--metrics-port", "0", "--metrics-host", f"unix:{tmp_path}/s"]) == 2
    assert "--metrics-host is a name or an address" in capsys.readouterr().err
    assert (tmp_path / "file").read_bytes() == b""


def _descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def _connections(listening, count):
    """So many connections to a listening socket: their far and near ends."""
    pairs = []
    for _ in range(count):
        far = socket.socket(listening.family)
        far.settimeout(5)
        far.connect(listening.getsockname())
        pairs.append((far, listening.accept()[0]))
    return pairs


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system lists no descriptors")
def test_one_connection_is_closed_and_no_descriptor_is_left():
    with socket.create_server(("127.0.0.1", 0)) as listening, Path(os.devnull).open():
        port = listening.getsockname()[1]
        (closed, _), (other, near) = pairs = _connections(listening, 2)
        before = _descriptors()
        peer = f"ipv4:127.0.0.1:{closed.getsockname()[1]}"
        assert close_connection(port, peer)
        for _ in range(10):
            close_connection(port, "ipv4:127.0.0.1:1")
        assert _descriptors() == before
        assert closed.recv(1) == b""
        near.send(b"x")
        assert other.recv(1) == b"x"
        for each in (*pairs[0], *pairs[1]):
            each.close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system lists no descriptors")
@pytest.mark.parametrize("lead", ["", "//"])
def test_the_connections_of_a_path_are_closed_and_no_others(tmp_path, lead):
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as elsewhere:
        for each, name in ((listening, "here"), (elsewhere, "there")):
            each.bind(str(tmp_path / name))
            each.listen()
        first, second = _connections(listening, 2)
        (far, near), pair = _connections(elsewhere, 1)[0], socket.socketpair()
        assert close_path(f"unix:{lead}{tmp_path / 'here'}")
        assert [end.recv(1) for end, _ in (first, second)] == [b"", b""]
        for one, other in ((near, far), pair):
            one.send(b"x")
            assert other.recv(1) == b"x"
        more = _connections(listening, 1)[0]  # it listens still
        for each in (*first, *second, far, near, *pair, *more):
            each.close()

"""Addresses that cannot be had are found out before anything is loaded."""

import socket
import subprocess
import sys

import pytest

from hvae_codec.server.listening import AddressError, check_address

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


@pytest.mark.parametrize("flags", [["--port"], ["--port", "0", "--metrics-port"]])
def test_a_taken_port_is_found_before_the_imports(flags, taken):
    done = subprocess.run(
        [sys.executable, "-c", BEFORE_IMPORTS, *flags, str(taken)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    reason = f"hvae-codec server: cannot listen on 127.0.0.1:{taken}: Address already in use\n"
    assert done.stderr == reason


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
        check_address("127.0.0.1", port, share_port=True)
        with pytest.raises(AddressError, match="already in use"):
            check_address("127.0.0.1", port)

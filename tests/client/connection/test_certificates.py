"""Certificates and keys that cannot be used: each client says which, and what is wrong."""

import grpc
import pytest

from hvae_codec.cli import main
from hvae_codec.client import Retry, ServiceError
from hvae_codec.client.connection.hints import of_target
from hvae_codec.errors import HvaeCodecError
from tests.client.connection.test_connections import certified

ONCE = Retry(attempts=1)
IN_GRPC_WORDS = ("SSL", "handshake", "Socket closed", "failed to connect", "backends")


@pytest.fixture(scope="module")
def authority():
    """PEM of an authority, its key, and its certificate."""
    _, pem, key, certificate = certified("authority")
    return pem, key, certificate


@pytest.mark.parametrize(
    ("hours", "words"),
    [((-2, -1), "its certificate has expired"), ((1, 2), "its certificate is not valid yet")],
)
def test_a_servers_certificate_out_of_its_time(ask, serve, small_server, authority, hours, words):
    pem, key, certificate = authority
    pair = certified("server", certificate, key, hours)[:2]
    servicer = small_server()
    serve(servicer, credentials=grpc.ssl_server_credentials([pair]))
    with pytest.raises(ServiceError, match=words) as raised:
        ask(servicer.address, "models", settings={"retry": ONCE, "root_certificates": pem})
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE
    assert not any(word in str(raised.value) for word in IN_GRPC_WORDS)


def test_a_certificate_that_the_server_does_not_take(ask, serve, small_server, authority):
    pem, key, certificate = authority
    server = certified("server", certificate, key)[:2]
    late_key, late = certified("client", certificate, key, (-2, -1))[:2]
    servicer = small_server()
    serve(servicer, credentials=grpc.ssl_server_credentials([server], pem, True))
    own = {"root_certificates": pem, "certificate": late, "private_key": late_key}
    with pytest.raises(ServiceError, match="do not take the certificate shown") as raised:
        ask(servicer.address, "models", settings={"retry": ONCE, **own})
    assert not any(word in str(raised.value) for word in IN_GRPC_WORDS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"root_certificates": "key"}, "root_certificates hold no PEM of a certificate"),
        ({"root_certificates": "nothing"}, "root_certificates hold no PEM of a certificate"),
        ({"root_certificates": "text"}, "root_certificates hold no PEM of a certificate"),
        ({"private_key": "other key"}, "private_key is that of another certificate"),
        ({"certificate": "key", "private_key": "own"}, "hold no PEM of a certificate and of its"),
        ({"private_key": "text"}, "hold no PEM of a certificate and of its key"),
    ],
)
@pytest.mark.parametrize("as_files", [False, True])
def test_what_is_no_certificate_or_key(ask, authority, tmp_path, change, words, as_files):
    """Before anything is sent."""
    key, own = certified("client")[:2]
    known = {
        **{"root": authority[0], "key": key, "own": own, "other key": certified("other")[0]},
        **{"nothing": b"", "text": "no PEM, but \u00e9".encode("latin-1")},
    }
    named = {"root_certificates": "root", "certificate": "own", "private_key": "key", **change}
    settings = {name: known[value] for name, value in named.items()}
    if as_files:
        for name, content in settings.items():
            (tmp_path / name).write_bytes(content)
        settings = {name: tmp_path / name for name in settings}
    with pytest.raises(HvaeCodecError, match=words):
        ask("127.0.0.1:9", "models", settings={"retry": ONCE, **settings})


def test_certificates_among_comments_are_taken(ask, serve, small_server, authority):
    pem, key, certificate = authority
    server = certified("server", certificate, key)[:2]
    servicer = small_server()
    serve(servicer, credentials=grpc.ssl_server_credentials([server]))
    bundle = "Autorit\u00e9\n".encode() + certified("other")[1] + b"# this one\n" + pem
    ask(servicer.address, "models", settings={"retry": ONCE, "root_certificates": bundle})


def test_a_file_of_no_token(tmp_path, capsys):
    file = tmp_path / "token"
    file.write_bytes(b"\xff\xfe\x00")
    words = ["models", "--server", "127.0.0.1:9", "--token-file", str(file)]
    assert main(words) == 1
    expected = f"hvae-codec: error: {file} holds no token: that is printable ASCII text\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("lead", ["unix:", "unix://"])
def test_paths_of_sockets_that_are_too_long(lead):
    assert of_target(f"{lead}/{'x' * 106}") is None
    assert "at most 107 bytes" in of_target(f"{lead}/{'x' * 107}")

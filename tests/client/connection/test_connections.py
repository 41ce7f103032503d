"""Encryption, who one is, and what never leaves this machine in clear."""

import datetime
import ipaddress

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes as digests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hvae_codec.client import Client, ServiceError
from hvae_codec.client.connection.channel import Connection, is_loopback
from hvae_codec.errors import HvaeCodecError


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.9.10:1", True),
        ("localhost:50051", True),
        ("LocalHost:50051", True),
        ("[::1]:50051", True),
        ("::1", True),
        ("unix:/run/codec.sock", True),
        ("unix-abstract:codec", True),
        ("dns:///localhost:50051", True),
        ("ipv4:127.0.0.1:1,127.0.0.2:1", True),
        ("ipv6:[::1]:50051", True),
        ("ipv4:127.0.0.1:1,10.0.0.1:1", False),
        ("10.0.0.1:50051", False),
        ("0.0.0.0:50051", False),
        ("[::]:50051", False),
        ("codec.example:443", False),
        ("localhost.example:443", False),
        ("127.0.0.1.example:443", False),
        ("dns:///codec.example:443", False),
        ("dns://127.0.0.1/codec.example:443", False),
        ("xds:///localhost", False),
        ("", False),
    ],
)
def test_loopback(target, local):
    assert is_loopback(target) is local


def certified(name, issuer=None, issuer_key=None, hours=(-1, 1)):
    """Key and certificate, PEM each, and the objects behind them; signed by itself by default.
    hours: from now, between which it is valid.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(hours=hours[0]))
        .not_valid_after(now + datetime.timedelta(hours=hours[1]))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key if issuer_key is None else issuer_key, digests.SHA256())
    )
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return key_pem, certificate.public_bytes(serialization.Encoding.PEM), key, certificate


@pytest.fixture(scope="module")
def authority():
    """PEM of an authority, and what it certified: a server and a client."""
    _, pem, key, certificate = certified("authority")
    server, client = (certified(name, certificate, key)[:2] for name in ("server", "client"))
    return pem, server, client


def test_an_encrypted_call_with_a_token(ask, serve, small_server, authority, pictures, hashes):
    root, pair, _ = authority
    servicer = small_server()
    serve(servicer, credentials=grpc.ssl_server_credentials([pair]))
    settings = {"root_certificates": root, "token": "open-sesame"}
    for method in ("encode", "encode_stream"):
        found = ask(servicer.address, method, pictures[:7], model="m", settings=settings)
        assert found == hashes[:7]
    assert len(servicer.metadata) == 6  # both ask for the limits, then send two messages
    assert {seen["authorization"] for seen in servicer.metadata} == {"Bearer open-sesame"}


def test_both_sides_show_certificates_from_files(
    ask, serve, small_server, authority, pictures, hashes, tmp_path
):
    root, pair, (key, certificate) = authority
    servicer = small_server()
    serve(servicer, credentials=grpc.ssl_server_credentials([pair], root, True))
    contents = {"root_certificates": root, "certificate": certificate, "private_key": key}
    paths = {name: tmp_path / name for name in contents}
    for name, path in paths.items():
        path.write_bytes(contents[name])
    assert ask(servicer.address, "encode", pictures[:1], model="m", settings=paths) == hashes[:1]
    for unknown in ({"root_certificates": root}, {"tls": True}, {}):
        with pytest.raises(ServiceError) as raised:
            ask(servicer.address, "encode", pictures[:1], model="m", settings=unknown)
        assert raised.value.code is grpc.StatusCode.UNAVAILABLE


def test_a_token_stays_here_in_clear(ask, small, pictures, hashes):
    settings = {"token": "secret"}
    assert ask(small.address, "encode", pictures[:1], model="m", settings=settings) == hashes[:1]
    assert small.metadata[-1]["authorization"] == "Bearer secret"
    for target in ("codec.example:443", "10.0.0.1:50051"):
        with pytest.raises(HvaeCodecError, match="unencrypted to " + target):
            Client(target, token="secret")
        Client(target, token="secret", insecure=True).close()
        Client(target, token="secret", tls=True).close()
        Client(target).close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"certificate": b"x"}, "go together"),
        ({"private_key": b"x"}, "go together"),
        ({"token": ""}, "printable"),
        ({"token": " "}, "printable"),
        ({"token": "a\nb"}, "printable"),
        ({"token": "schlüssel"}, "printable"),
        ({"root_certificates": "/nowhere/ca.pem"}, "cannot read /nowhere/ca.pem: No such file"),
    ],
)
def test_secrets_that_do_not_fit(settings, words):
    with pytest.raises(HvaeCodecError, match=words):
        Client("127.0.0.1:1", **settings)


def test_secrets_are_not_shown():
    shown = repr(Connection("127.0.0.1:1", 1, token="secret", certificate=b"c", private_key=b"KEY"))
    assert "secret" not in shown
    assert "KEY" not in shown

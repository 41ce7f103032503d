"""TLS, mutual TLS, addresses, and calls that want too much of the server."""

import datetime
import ipaddress
import re
import socket
import ssl
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import grpc
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import hvae_codec.server
from hvae_codec.server.auth.tls import Tls
from hvae_codec.server.settings import TlsFiles
from hvae_codec.v1 import codec_pb2, codec_pb2_grpc
from tests.server.http.asking import ask

SECONDS = 60


class Authority:
    """A certificate authority of a test; `issue` writes NAME.pem and NAME.key."""

    def __init__(self, directory):
        self._directory = directory
        directory.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, directory.name)])
        self._ca = self._signed(self._name, self._key, x509.BasicConstraints(True, None))
        self.ca = self._write("ca.pem", self._ca)

    def _signed(self, name, key, *extensions, hours=1):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder(self._name, name, key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=2))
            .not_valid_after(now + datetime.timedelta(hours=hours))
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _write(self, name, certificate):
        path = self._directory / name
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return path

    def issue(self, name, password=None, hours=1):
        """One that is valid for so many hours more."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        names = x509.SubjectAlternativeName(hosts)
        signed = self._signed(subject, key, names, hours=hours)
        protection = (
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption()
        )
        key_path = self._directory / f"{name}.key"
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection
            )
        )
        return self._write(f"{name}.pem", signed), key_path


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.issue("server")


@pytest.fixture(scope="module")
def mutual(start_server, authority, certificate):
    """A server that wants certificates of its callers."""
    flags = ["--tls-certificate", certificate[0], "--tls-key", certificate[1]]
    flags += ["--client-ca", authority.ca, "--metrics-port", "0", "--preload", "mnist"]
    flags += ["--http-port", "0"]
    return start_server(*map(str, flags))


def models(address, credentials=None):
    """The models that a server lists."""
    if credentials is None:
        channel = grpc.insecure_channel(address)
    else:
        channel = grpc.secure_channel(address, credentials)
    with channel:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        return stub.ListModels(codec_pb2.ListModelsRequest(), timeout=SECONDS).models


def credentials(ca, pair=None):
    """What a client needs to trust `ca` and show the certificate and key of `pair`."""
    certificate, key = (None, None) if pair is None else (path.read_bytes() for path in pair)
    return grpc.ssl_channel_credentials(ca.read_bytes(), key, certificate)


def test_tls_is_for_those_who_trust_its_certificate(
    start_server, authority, other_authority, certificate
):
    """It may be bound where other machines reach it."""
    flags = ["--host", "0.0.0.0", "--tls-certificate", certificate[0], "--tls-key", certificate[1]]
    server = start_server(*map(str, flags), "--preload", "mnist")
    assert models(server.address, credentials(authority.ca))
    for wrong in (None, credentials(other_authority.ca)):
        with pytest.raises(grpc.RpcError) as raised:
            models(server.address, wrong)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert models(server.address, credentials(authority.ca))
    assert server.terminate() == 0


def test_mutual_tls_wants_a_certificate_that_its_authority_signed(
    mutual, authority, other_authority
):
    ours = credentials(authority.ca, authority.issue("client"))
    assert models(mutual.address, ours)
    for wrong in (
        credentials(authority.ca),
        credentials(authority.ca, other_authority.issue("client")),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            models(mutual.address, wrong)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    assert models(mutual.address, ours)


def test_metrics_are_under_tls_too_and_pictures_want_the_certificate(mutual, authority):
    assert mutual.page.startswith("https://")
    trusting = ssl.create_default_context(cafile=authority.ca)

    def ask(path, context, data=None):
        request = urllib.request.Request(mutual.page + path, data)
        request.add_header("Content-Type", "application/octet-stream")
        try:
            with urllib.request.urlopen(request, context=context, timeout=SECONDS) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    assert ask("metrics", trusting) == 200, "scrapers seldom have one"
    assert ask("evaluate", trusting, b"no picture") == 403
    known = ssl.create_default_context(cafile=authority.ca)
    known.load_cert_chain(*authority.issue("operator"))
    assert ask("evaluate", known, b"no picture") == 400


def test_http_wants_the_certificates_that_grpc_wants(mutual, authority):
    trusting = ssl.create_default_context(cafile=authority.ca)
    found = ask(mutual, "models", context=trusting)
    assert (found.status, found.json["message"]) == (403, "this server wants a client certificate")
    trusting.load_cert_chain(*authority.issue("browser"))
    assert ask(mutual, "models", context=trusting).json["models"]


@pytest.mark.parametrize(("port", "most"), [("http", 256), ("page", 64)])
def test_handshakes_that_do_not_end_are_bounded(mutual, authority, port, most):
    """The oldest are closed where they are too many, the others after ten seconds."""
    url = urlsplit(getattr(mutual, port))
    with ExitStack() as kept:
        silent = []
        for _ in range(most + 3):
            each = socket.create_connection((url.hostname, url.port), SECONDS)
            silent.append(kept.enter_context(each))
            each.sendall(b"\x16\x03\x01")
        began = time.monotonic()
        for each in silent[:3]:
            with suppress(ConnectionError):
                assert each.recv(1) == b""
        assert time.monotonic() - began < 8
        trusting = ssl.create_default_context(cafile=authority.ca)
        trusting.load_cert_chain(*authority.issue("browser"))
        assert ask(mutual, "models", context=trusting).json["models"]
        with suppress(ConnectionError):
            assert silent[-1].recv(1) == b""
        assert time.monotonic() - began < 30


def test_certificates_that_change_hold_for_new_connections(
    start_server, authority, other_authority, tmp_path
):
    """Half of a change is waited out, and connections that are open go on."""
    paths = [tmp_path / "server.pem", tmp_path / "server.key"]

    def replace(new, old):
        made = old.with_suffix(".new")
        made.write_bytes(new.read_bytes())
        made.replace(old)

    for new, old in zip(authority.issue("first"), paths, strict=True):
        replace(new, old)
    flags = ["--tls-certificate", str(paths[0]), "--tls-key", str(paths[1])]
    server = start_server(*flags, "--metrics-port", "0", "--preload", "mnist")
    trusting_new = ssl.create_default_context(cafile=other_authority.ca)

    def wait_for(words):
        deadline = time.monotonic() + SECONDS
        while words not in server.log:
            assert time.monotonic() < deadline, server.log
            time.sleep(0.05)

    with grpc.secure_channel(server.address, credentials(authority.ca)) as channel:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        request = codec_pb2.ListModelsRequest()
        assert stub.ListModels(request, timeout=SECONDS).models
        certificate, key = other_authority.issue("second")
        replace(certificate, paths[0])
        wait_for("certificates stay as they are")
        assert models(server.address, credentials(authority.ca))
        replace(key, paths[1])
        wait_for("certificates read from")
        assert stub.ListModels(request, timeout=SECONDS).models
    assert models(server.address, credentials(other_authority.ca))
    with pytest.raises(grpc.RpcError):
        models(server.address, credentials(authority.ca))
    with urllib.request.urlopen(
        server.page + "healthz", context=trusting_new, timeout=SECONDS
    ) as a:
        assert a.status == 200


@pytest.mark.parametrize(("hours", "expected"), [(1, None), (-1, "certificate has expired")])
def test_a_certificate_that_has_expired_is_named(authority, caplog, hours, expected):
    certificate, key = authority.issue("dated", hours=hours)
    Tls(TlsFiles(certificate, key, None))
    said = [record.getMessage() for record in caplog.records]
    name = f"--tls-certificate {certificate}"
    assert said == ([f"{name}: clients will refuse it: {expected}"] if expected else [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--tls-key": None}, "belong together"),
        ({"--tls-certificate": None}, "belong together"),
        ({"--tls-certificate": None, "--tls-key": None, "--client-ca": "ca"}, "needs both"),
        ({"--tls-key": "missing"}, "--tls-key .*missing: No such file"),
        ({"--tls-key": "another"}, "the key is that of another certificate"),
        ({"--tls-key": "encrypted"}, "encrypted"),
        ({"--tls-key": "text"}, "no PEM of the kind"),
        ({"--tls-certificate": "text"}, "no PEM of the kind"),
        ({"--client-ca": "missing"}, "--client-ca .*missing: No such file"),
        ({"--client-ca": "text"}, "--client-ca .* holds no certificates"),
    ],
)
def test_files_that_do_not_fit_end_the_start(
    authority, certificate, tmp_path, capfd, change, words
):
    text = tmp_path / "text"
    text.write_text("no certificate")
    paths = {
        "ca": authority.ca,
        "missing": tmp_path / "missing",
        "text": text,
        "another": authority.issue("another")[1],
        "encrypted": authority.issue("encrypted", b"word")[1],
    }
    if change.get("--tls-key") == "encrypted":
        certificate = (authority._directory / "encrypted.pem", None)
    flags = {"--tls-certificate": certificate[0], "--tls-key": certificate[1]}
    flags |= {flag: paths.get(name) for flag, name in change.items()}
    given = [word for flag, path in flags.items() if path for word in (flag, str(path))]
    assert hvae_codec.server.main(["--port", "0", *given]) in {1, 2}
    message = capfd.readouterr().err
    assert message.count("\n") == 1
    assert re.search(words, message), message


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
@pytest.mark.parametrize(
    "flags",
    [["--host"], ["--http-port", "0", "--http-host"], ["--metrics-port", "0", "--metrics-host"]],
)
def test_an_open_address_wants_tls_or_consent(host, flags, capsys):
    assert hvae_codec.server.main([*flags, host]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"hvae-codec server: {flags[-1]} {host} can be reached")
    assert "--tls-certificate" in message
    assert "--insecure" in message


def resident(server):
    return psutil.Process(server.process.pid).memory_info().rss


def test_a_flood_of_metadata_is_refused_and_leaves_nothing(server, channel):
    stub = codec_pb2_grpc.CodecServiceStub(channel)
    request = codec_pb2.ListModelsRequest()
    assert stub.ListModels(request, metadata=[("x-note", "n" * 4_000)], timeout=SECONDS).models
    before = resident(server)
    flood = [("x-note", "n" * 60_000), ("x-more", "m" * 60_000)]

    def call(_):
        with grpc.insecure_channel(server.address) as own:
            try:
                codec_pb2_grpc.CodecServiceStub(own).ListModels(
                    request, metadata=flood, timeout=SECONDS
                )
            except grpc.RpcError as error:
                return error.code()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(call, range(100))) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert resident(server) - before < 32 * 2**20
    assert stub.ListModels(request, timeout=SECONDS).models


def frame(kind, flags, stream, payload):
    """A frame of HTTP/2."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def test_headers_that_never_end_are_not_kept(server, channel):
    """HTTP/2 lets a header go on in any number of frames; here 512 MiB of them. What goes through
    gRPC leaves tens of MiB of free memory behind, however much it is."""
    before = resident(server)
    host, _, port = server.address.rpartition(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    # Literal fields of 1,000 bytes, not indexed.
    field = b"\x00\x01x\x7f\xe9\x06" + b"v" * 1_000
    more = frame(9, 0, 1, field * 16)
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        connection.sendall(preface + frame(1, 0, 1, b"\x83\x86\x84"))
        try:
            for _ in range(33_200):
                connection.sendall(more)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert resident(server) - before < 256 * 2**20
    stub = codec_pb2_grpc.CodecServiceStub(channel)
    assert stub.ListModels(codec_pb2.ListModelsRequest(), timeout=SECONDS).models


def test_giant_messages_are_refused_unread(server, channel):
    stub = codec_pb2_grpc.CodecServiceStub(channel)
    giant = codec_pb2.DecodeRequest(encoded=[bytes(64 * 2**20)])
    before = resident(server)
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.address, options) as wide:
        for _ in range(4):
            with pytest.raises(grpc.RpcError) as raised:
                codec_pb2_grpc.CodecServiceStub(wide).Decode(giant, timeout=SECONDS)
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "larger than max" in raised.value.details()
    assert resident(server) - before < 32 * 2**20
    assert stub.ListModels(codec_pb2.ListModelsRequest(), timeout=SECONDS).models


def test_a_caller_that_stops_in_the_middle_of_a_message_holds_up_nobody(server, channel):
    """Twenty connections, each with the beginning of a call on it and silence after."""
    host, _, port = server.address.rpartition(":")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    idle = [socket.create_connection((host, int(port)), timeout=SECONDS) for _ in range(20)]
    try:
        for connection in idle:
            connection.sendall(preface + frame(1, 0, 1, b"\x83\x86\x84"))
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        for _ in range(20):
            assert stub.ListModels(codec_pb2.ListModelsRequest(), timeout=SECONDS).models
    finally:
        for connection in idle:
            connection.close()

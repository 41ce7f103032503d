"""Who may connect: which addresses may be bound, and the certificates of TLS and mutual TLS."""

import logging
import ssl
from pathlib import Path
from typing import Any

import grpc

from ..errors import SecurityError
from ..settings import TlsFiles
from .file_watcher import WatchedFiles

_logger = logging.getLogger(__name__)


class Tls(WatchedFiles["_Loaded"]):
    """Certificates that were read and found to fit, for both ports of the server. Connections that
    are open keep those with which they began.
    """

    what = "certificates"

    def __init__(self, files: TlsFiles) -> None:
        """Read and check the files.

        Raises:
            SecurityError: a file is missing, no PEM of its kind, or the key of another certificate.
        """
        self._files = files
        paths = (files.certificate, files.key, files.client_ca)
        super().__init__([path for path in paths if path is not None])
        self._offered = self.value

    def _read(self) -> "_Loaded":
        return _Loaded(self._files)

    @property
    def wants_client_certificate(self) -> bool:
        """Whether this is mutual TLS."""
        return self._files.client_ca is not None

    def credentials(self) -> grpc.ServerCredentials:
        """For a port of gRPC."""

        def newer() -> Any:
            """What changed since gRPC asked last, at every connection: None for nothing."""
            if self._offered is self.value:
                return None
            self._offered = self.value
            return self._offered.configuration()

        return grpc.dynamic_ssl_server_credentials(
            self._offered.configuration(), newer, self.wants_client_certificate
        )

    def http_context(self) -> ssl.SSLContext:
        """For the port of metrics and the status page.

        A client's certificate is verified where there is one and not required: probes and scrapers
        seldom have one. What computes asks for it.
        """
        front = _Loaded(self._files).context

        def newest(socket: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            socket.context = self.value.context

        front.sni_callback = newest  # called for every connection, whether it names a server or not
        return front


class _Loaded:
    """One reading of the files. Raises SecurityError."""

    def __init__(self, files: TlsFiles) -> None:
        assert files.certificate is not None
        assert files.key is not None
        self._certificate = _read("--tls-certificate", files.certificate)
        self._key = _read("--tls-key", files.key)
        self._client_ca = None
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            # The callback is asked where a key is encrypted; without it OpenSSL asks the terminal.
            self.context.load_cert_chain(files.certificate, files.key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            raise SecurityError(
                f"--tls-certificate {files.certificate} and --tls-key {files.key} cannot be used "
                f"together: {_reason(error)}"
            ) from error
        if (doubt := _doubt(self.context, self._certificate)) is not None:
            _logger.warning(
                "--tls-certificate %s: clients will refuse it: %s", files.certificate, doubt
            )
        if files.client_ca is None:
            return
        self._client_ca = _read("--client-ca", files.client_ca)
        try:
            self.context.load_verify_locations(cadata=self._client_ca.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise SecurityError(
                f"--client-ca {files.client_ca} holds no certificates: {_reason(error)}"
            ) from error
        self.context.verify_mode = ssl.CERT_OPTIONAL

    def configuration(self) -> Any:
        """For gRPC."""
        return grpc.ssl_server_certificate_configuration(
            [(self._key, self._certificate)], self._client_ca
        )


def _doubt(server: ssl.SSLContext, certificate: bytes) -> str | None:
    """Why clients that trust a certificate's authority will refuse it: mostly that it has expired.

    OpenSSL tells it to a client alone, so one that trusts this very certificate greets the server
    in memory.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(cadata=certificate.decode("ascii", "ignore"))
    except ssl.SSLError:
        return None  # a kind of PEM that is fit for servers alone
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for end in (*ends, *ends):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        except ssl.SSLError:
            return None  # about something else, which whoever connects will see
    return None


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a password, readable by the server")


def _read(flag: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SecurityError(f"{flag} {path}: {error.strerror or error}") from error


def _reason(error: Exception) -> str:
    """What went wrong, in words where OpenSSL has a bare name for it."""
    match getattr(error, "reason", None):
        case "KEY_VALUES_MISMATCH":
            return "the key is that of another certificate"
        case "NO_START_LINE" | None if isinstance(error, ssl.SSLError):
            return "no PEM of the kind that is needed was found"
        case str(name):
            return name.lower().replace("_", " ")
        case _:
            return str(error)

"""PEM files of an encrypted connection, checked before gRPC takes them: where it cannot use them it
says nothing of them, and names an address that refuses.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hvae_codec.errors import HvaeCodecError

Secret = bytes | str | os.PathLike[str]
"""The contents of a PEM file, or the path of one."""


def check_certificates(
    root_certificates: Secret | None, certificate: Secret | None, private_key: Secret | None
) -> None:
    """Check what a connection is to use.

    Raises:
        HvaeCodecError: a file cannot be read, the first holds no certificate, or the others are no
            certificate and its key without a password.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if (roots := contents_of(root_certificates)) is not None:
        try:
            # Comments between certificates may be in any language.
            context.load_verify_locations(cadata=roots.decode("ascii", "ignore"))
        except (ssl.SSLError, ValueError) as error:
            if not context.cert_store_stats()["x509"]:
                raise HvaeCodecError("root_certificates hold no PEM of a certificate") from error
    shown, key = contents_of(certificate), contents_of(private_key)
    if shown is None or key is None or not hasattr(os, "memfd_create"):
        return
    with _in_memory(shown) as shown_path, _in_memory(key) as key_path:
        try:
            context.load_cert_chain(shown_path, key_path, password=_no_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise HvaeCodecError("private_key is that of another certificate") from error
            raise HvaeCodecError(
                "certificate and private_key hold no PEM of a certificate and of its key"
            ) from error


def contents_of(secret: Secret | None) -> bytes | None:
    """What a file holds, or the contents that are given. Raises HvaeCodecError."""
    if secret is None or isinstance(secret, bytes):
        return secret
    try:
        return Path(secret).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = error.strerror if isinstance(error, OSError) else error
        raise HvaeCodecError(f"cannot read {os.fspath(secret)}: {reason}") from error


def _no_password() -> str:
    raise HvaeCodecError("private_key is encrypted: give one without a password")


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A path that the ssl module can read, of a file that is on no disk."""
    number = os.memfd_create("pem")
    with os.fdopen(number, "wb") as file:
        file.write(data)
        file.flush()
        yield f"/proc/self/fd/{number}"

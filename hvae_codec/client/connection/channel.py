"""How a client reaches its server: encryption, what it shows of itself, and gRPC's settings."""

import ipaddress
import os
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

import grpc

from hvae_codec.client.connection import hints
from hvae_codec.client.connection.certificates import Secret, check_certificates, contents_of
from hvae_codec.errors import HvaeCodecError
from hvae_codec.utils.arguments import shown, whole

Balancing = Literal["round_robin", "pick_first"]
"""Which of a server's addresses calls go to: each in turn, or the first that answers."""

_MOST_MESSAGE_BYTES: Final = 2**31 - 1
"""gRPC's numbers have 32 bits."""

_KEEPALIVE_SECONDS: Final = 300
"""Servers with gRPC's defaults hang up on clients that ask more often whether they are there."""


@dataclass(frozen=True)
class Connection:
    """The server, how to reach it, and what to send with every call.

    Args:
        target: HOST:PORT, or another name that gRPC resolves, such as "unix:PATH".
        max_message_bytes: largest message either way.
        tls: encrypt; implied by `root_certificates` and `certificate`.
        root_certificates: PEM of the authorities trusted; None for gRPC's own list.
        certificate: PEM of what the client shows of itself, with `private_key`.
        token: sent with every call as `authorization: Bearer TOKEN`.
        insecure: let the token travel unencrypted to another machine.
        balancing: which addresses of the target calls go to.

    Raises:
        HvaeCodecError: another balancing, a target that `hints.of_target` refuses, such as one with
            https:// or a port above 65,535, a certificate without its key or a key without its
            certificate, a file that cannot be read or that `check_certificates` refuses, a token
            that no header can hold, or one that would travel unencrypted to another machine, a
            size below 1, or another type.
    """

    target: str
    max_message_bytes: int
    tls: bool = False
    root_certificates: Secret | None = None
    certificate: Secret | None = None
    private_key: Secret | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    insecure: bool = False
    balancing: Balancing = "round_robin"

    def __post_init__(self) -> None:
        if self.balancing not in get_args(Balancing):
            allowed = " or ".join(map(repr, get_args(Balancing)))
            raise HvaeCodecError(f"balancing must be {allowed}, got {self.balancing!r}")
        if (wrong := hints.of_target(self.target)) is not None:
            raise HvaeCodecError(wrong)
        if not 1 <= whole("max_message_bytes", self.max_message_bytes) <= _MOST_MESSAGE_BYTES:
            raise HvaeCodecError(
                f"max_message_bytes must be 1 to {_MOST_MESSAGE_BYTES}, "
                f"got {shown(self.max_message_bytes)}"
            )
        for name in ("root_certificates", "certificate", "private_key"):
            secret = getattr(self, name)
            if secret is not None and not isinstance(secret, bytes | str | os.PathLike):
                kind = type(secret).__name__
                raise HvaeCodecError(f"{name} must be PEM as bytes, or a path; got {kind}")
        if (self.certificate is None) != (self.private_key is None):
            raise HvaeCodecError("certificate and private_key go together: one of them is missing")
        if self.token is None:
            return
        if not isinstance(self.token, str):
            raise HvaeCodecError(f"a token must be text (str); got {type(self.token).__name__}")
        if not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise HvaeCodecError("a token must be of printable ASCII characters, and not empty")
        if not (self.encrypted or self.insecure or is_loopback(self.target)):
            raise HvaeCodecError(
                f"the token would travel unencrypted to {self.target}: give root_certificates or "
                "tls=True, or insecure=True where the way there is safe"
            )

    @property
    def encrypted(self) -> bool:
        """Whether the connection is."""
        return self.tls or self.root_certificates is not None or self.certificate is not None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)

    @property
    def options(self) -> list[tuple[str, int | str]]:
        """gRPC's channel arguments."""
        return [
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.max_send_message_length", self.max_message_bytes),
            ("grpc.lb_policy_name", self.balancing),
            # Channels of a process would share one connection, and the calls that it may have.
            ("grpc.use_local_subchannel_pool", 1),
            # A proxy from the environment would be asked for loopback addresses too.
            ("grpc.enable_http_proxy", 0),
            # A server that starts again is found soon: this client's own waits space its calls.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 2_000),
            # A machine that vanished without a word ends calls that have no deadline.
            ("grpc.keepalive_time_ms", 1_000 * _KEEPALIVE_SECONDS),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.ping_timeout_ms", 20_000),  # what gRPC heeds of the two
        ]

    def hint(self, details: str) -> str | None:
        """What a failed call's details mean for this connection, if more than they say."""
        certificate = self.certificate is not None
        hint = hints.of_failure(details, encrypted=self.encrypted, certificate=certificate)
        if hints.has_port(self.target):
            return hint
        return f"{hint or details} (the target names no port, so 443 is asked: give HOST:PORT)"

    def credentials(self) -> grpc.ChannelCredentials:
        """Those of an encrypted connection."""
        parts = (self.root_certificates, self.private_key, self.certificate)
        check_certificates(self.root_certificates, self.certificate, self.private_key)
        return grpc.ssl_channel_credentials(*map(contents_of, parts))

    def channel(self) -> grpc.Channel:
        """A channel for calls that block."""
        if self.encrypted:
            return grpc.secure_channel(self.target, self.credentials(), self.options)
        return grpc.insecure_channel(self.target, self.options)

    def async_channel(self) -> grpc.aio.Channel:
        """A channel for the running event loop."""
        if self.encrypted:
            return grpc.aio.secure_channel(self.target, self.credentials(), self.options)
        return grpc.aio.insecure_channel(self.target, self.options)


def is_loopback(target: str) -> bool:
    """Whether a target of gRPC's naming stays on this machine, as far as its text says."""
    scheme, colon, rest = target.partition(":")
    if colon and scheme in ("unix", "unix-abstract"):
        return True
    if colon and scheme in ("dns", "ipv4", "ipv6"):
        target = rest.removeprefix("//").removeprefix("/")
    return all(map(_is_loopback_address, target.split(",")))


def _is_loopback_address(address: str) -> bool:
    host = address if address.count(":") > 1 and "]" not in address else address.rpartition(":")[0]
    host = (host or address).strip("[]")
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""What gRPC itself bounds, so that no caller can hold more of the server than it should."""

from dataclasses import dataclass
from typing import Final

from hvae_codec.utils.options import option

from .flag_types import parse_seconds

_MOST_PENDING: Final = 65_536

_MOST_AGE_SECONDS: Final = 1_000_000

AGE_SPREAD: Final = 1.15
"""gRPC lets connections become up to a tenth older than they may."""

_SHARED_AGE_SECONDS: Final = 10.0


def shared_age(grace_seconds: float) -> float:
    """Greatest age, in seconds, of connections to a port that servers share, where nothing else is
    said: the system spreads connections, not calls, so that one that is added or stops waits for
    new ones. One that stops waits for them no longer than its grace.
    """
    return max(1.0, min(_SHARED_AGE_SECONDS, grace_seconds / AGE_SPREAD))


@dataclass(frozen=True)
class ConnectionAge:
    """How old connections may become before their client is sent away (GOAWAY); gRPC varies it by a
    tenth, lest all end at once. None: any age, or any grace.
    """

    seconds: float | None = option(
        None,
        "send clients away from connections that are older, so that their next calls may "
        "reach a server that was added (default: 10 with --reuse-port, less where "
        "--shutdown-grace-seconds is, else any age)",
        flag="max-connection-age",
        type=parse_seconds,
        metavar="SECONDS",
    )
    grace_seconds: float | None = option(
        None,
        "cancel calls that are still on their way on such a connection after so long "
        "(default: never)",
        flag="max-connection-age-grace",
        type=parse_seconds,
        metavar="SECONDS",
    )

    def __post_init__(self) -> None:
        for name, value in (("age", self.seconds), ("its grace", self.grace_seconds)):
            if value is not None and not 1 <= value <= _MOST_AGE_SECONDS:
                raise ValueError(
                    f"of connections {name} is 1 to {_MOST_AGE_SECONDS:,} seconds, got {value:g}"
                )

    @property
    def options(self) -> list[tuple[str, int]]:
        """Of gRPC's server."""
        given = {
            "grpc.max_connection_age_ms": self.seconds,
            "grpc.max_connection_age_grace_ms": self.grace_seconds,
        }
        return [(name, int(1_000 * value)) for name, value in given.items() if value is not None]


def server_options(
    message_bytes: int, *, reuse_port: bool = False, age: ConnectionAge | None = None
) -> list[tuple[str, int]]:
    """Options of a gRPC server: the most bytes of a message, either way; whether others may listen
    on its port, too; the age of its connections.
    """
    return [
        *(age or ConnectionAge()).options,
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", message_bytes),
        # Metadata of a call: a token, a request id and a trace are some 500 bytes. Above the first
        # number calls are refused more and more often, above the second always.
        ("grpc.max_metadata_size", 8 * 1024),
        ("grpc.absolute_max_metadata_size", 16 * 1024),
        # Calls at once of one connection; a client's gRPC keeps the others until one of these has
        # ended. Without the second line those count as well that have ended but are not cleared
        # away yet, of which no client can know: some calls of busy ones were refused, with
        # UNAVAILABLE.
        ("grpc.max_concurrent_streams", 100),
        ("grpc.http.overload_protection", 0),
        # An unread message fills 64 KiB of its call at most, then its sender waits. By default
        # gRPC grows that to megabytes on fast networks, and calls that wait unread hold all of it:
        # tried once, at ten times the capacity, 1.5 GiB instead of 1.1.
        ("grpc.http2.bdp_probe", 0),
        # Calls that wait to be looked at, of all connections; beyond, gRPC cancels them, which no
        # contract names. They wait unread, a few KiB each.
        ("grpc.server.max_pending_requests", _MOST_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING),
        # A peer that is gone without a word, behind a firewall that forgot it or on a machine that
        # lost power, is found after a minute, and its calls are cancelled.
        ("grpc.keepalive_time_ms", 45_000),
        ("grpc.keepalive_timeout_ms", 15_000),
        # By this one alone gRPC closes a connection, after 60 s by default
        # (findings/grpcio_keepalive_timeout.sh).
        ("grpc.http2.ping_timeout_ms", 15_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # How often clients may ping in turn, with or without calls, before they are sent away.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 3),
        # A connection that does not finish its handshake in time is closed, and so is one that has
        # had no call for a while: clients connect again by themselves.
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", 5 * 60_000),
        # gRPC shares by default: a second server on a busy port would silently get half its calls.
        ("grpc.so_reuseport", int(reuse_port)),
    ]

"""What gRPC itself bounds, so that no caller can hold more of the server than it should."""

from typing import Final

MOST_CALLS: Final = 4_096
"""Calls at once, over all connections; beyond, gRPC answers RESOURCE_EXHAUSTED unread. Each may
hold one message, so this bounds what waits before the engine's own bounds are asked."""


def server_options(message_bytes: int) -> list[tuple[str, int]]:
    """Options of a gRPC server whose messages have at most so many bytes, either way."""
    return [
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", message_bytes),
        # Metadata of a call: a token, a request id and a trace are some 500 bytes. Above the first
        # number calls are refused more and more often, above the second always.
        ("grpc.max_metadata_size", 8 * 1024),
        ("grpc.absolute_max_metadata_size", 16 * 1024),
        # Calls at once of one connection; beyond, gRPC refuses them unread, with UNAVAILABLE. Ended
        # ones count until it is done with them: at 100, some calls of 64 callers were refused. At
        # 2,000, ten times the capacity took 1.7 GiB of messages that waited, and was cancelled.
        ("grpc.max_concurrent_streams", 250),
        # More than a thousand that wait to be looked at gRPC would cancel, which no contract names.
        ("grpc.server.max_pending_requests", MOST_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", MOST_CALLS),
        # A peer that is gone without a word, behind a firewall that forgot it or on a machine that
        # lost power, is found after a minute, its calls cancelled and their places freed.
        ("grpc.keepalive_time_ms", 45_000),
        ("grpc.keepalive_timeout_ms", 15_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # How often clients may ping in turn, with or without calls, before they are sent away.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 3),
        # A connection that does not finish its handshake in time is closed, and so is one that has
        # had no call for a while: clients connect again by themselves.
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", 15 * 60_000),
        # Without this a second server on a busy port would silently share its calls.
        ("grpc.so_reuseport", 0),
    ]

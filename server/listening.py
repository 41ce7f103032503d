"""Addresses that can be listened on, found out before anything slow is loaded."""

import os
import socket
from typing import Any


class AddressError(Exception):
    """An address is taken or not of this machine; the message says which and why."""


def check_address(host: str, port: int, *, share_port: bool = False) -> None:
    """Try to listen on an address as the server will, and let go of it.

    Raises AddressError where none of the host's addresses can be had.
    """
    address = f"{in_address(host)}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise AddressError(f"cannot listen on {address}: no such host") from error
    errors = []
    for family, kind, protocol, _, each in found:
        try:
            with socket.socket(family, kind, protocol) as tried:
                _bind(tried, each, share_port=share_port)
        except OSError as error:
            errors.append(error)
        else:
            return
    raise AddressError(cannot_listen(address, errors[0])) from errors[0]


def _bind(tried: socket.socket, address: Any, *, share_port: bool) -> None:
    tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share_port and hasattr(socket, "SO_REUSEPORT"):
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if tried.family == socket.AF_INET6:  # or it would take the port of IPv4, too
        tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    tried.bind(address)
    tried.listen(1)


def cannot_listen(address: str, error: OSError) -> str:
    """What is said of an address that the system refused."""
    reason = os.strerror(error.errno) if error.errno else error
    return f"cannot listen on {address}: {reason}"


def in_address(host: str) -> str:
    """A host as it stands before ":PORT"."""
    return f"[{host}]" if ":" in host else host

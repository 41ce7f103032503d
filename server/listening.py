"""Addresses to listen on: checked before anything slow is loaded, left before the server ends."""

import errno
import ipaddress
import os
import socket
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

_UNIX: Final = "unix:"
_DESCRIPTORS: Final = Path("/proc/self/fd")


class AddressError(Exception):
    """An address is taken or not of this machine; the message says which and why."""


def check_host(flag: str, host: str, *, unix: bool = True) -> None:
    """Check the form of what a flag names; `unix`: whether it may be a socket in the file system.

    Raises AddressError where it is neither a name nor an address.
    """
    if unix and is_unix(host) and host != _UNIX:
        return
    if (host and not any(each in host for each in ":[]/")) or _is_address(host):
        return
    wanted = "a name or an address without a port" + (", or unix:PATH" if unix else "")
    raise AddressError(f"{flag} is {wanted}, not {host!r}")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def check_file(path: Path) -> None:
    """Check that a file can be written. Raises AddressError where it cannot."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise AddressError(cannot_write(path, error)) from error


def cannot_write(path: Path, error: OSError) -> str:
    """What is said of a port file that the system refused."""
    reason = os.strerror(error.errno) if error.errno else error
    return f"cannot write the port file {path}: {reason}"


def check_address(host: str, port: int, *, reuse_port: bool = False) -> None:
    """Try to listen on an address as the server will, and let go of it.

    Raises AddressError where none of the host's addresses can be had.
    """
    address = address_of(host, port)
    if is_unix(host):
        _check_path(address, Path(host.removeprefix(_UNIX)))
        return
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise AddressError(f"cannot listen on {address}: no such host") from error
    errors = []
    for family, kind, protocol, _, each in found:
        try:
            with socket.socket(family, kind, protocol) as tried:
                _bind(tried, each, reuse_port=reuse_port)
        except OSError as error:
            errors.append(error)
        else:
            return
    raise AddressError(cannot_listen(address, errors[0])) from errors[0]


def check_ports_differ(addresses: Mapping[str, tuple[str, int]]) -> None:
    """Check that no two flags ask for the same address; `addresses` has host and port by flag.

    Raises AddressError where two do. A port of 0 is any free one.
    """
    for (flag, (host, port)), (other_flag, (other_host, other_port)) in combinations(
        addresses.items(), 2
    ):
        if port != other_port or port == 0 or is_unix(host):
            continue
        hosts, other_hosts = _addresses(host), _addresses(other_host)
        if hosts & other_hosts or any(map(_is_any, hosts | other_hosts)):
            raise AddressError(
                f"{flag} and {other_flag} are both {port} on {other_host}: "
                "give different ports, or 0 for any free one"
            )


def _addresses(host: str) -> set[str]:
    """The addresses of a host; itself where it is not known."""
    try:
        return {str(each[4][0]) for each in socket.getaddrinfo(host, None)}
    except (socket.gaierror, UnicodeError):
        return {host}


def _is_any(address: str) -> bool:
    return _is_address(address) and ipaddress.ip_address(address).is_unspecified


def _bind(tried: socket.socket, address: Any, *, reuse_port: bool) -> None:
    tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port and hasattr(socket, "SO_REUSEPORT"):
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if tried.family == socket.AF_INET6:  # or it would take the port of IPv4, too
        tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    tried.bind(address)
    tried.listen(1)


def cannot_listen(address: str, error: OSError) -> str:
    """What is said of an address that the system refused."""
    reason = os.strerror(error.errno) if error.errno else error
    return f"cannot listen on {address}: {reason}"


def is_loopback(host: str) -> bool:
    """Whether `host` can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def is_unix(host: str) -> bool:
    """Whether a host is "unix:PATH", a socket in the file system, which has no port."""
    return host.startswith(_UNIX)


def address_of(host: str, port: int) -> str:
    """A host and its port as gRPC and people write them."""
    if is_unix(host):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_path(address: str, path: Path) -> None:
    """Raises AddressError where no socket can be made at a path; a stale one is
    replaced by gRPC, but so would be one in use.
    """
    try:
        with socket.socket(socket.AF_UNIX) as tried:
            if not path.exists():
                tried.bind(str(path))
                path.unlink()
                return
            tried.connect(str(path))
    except ConnectionRefusedError:
        if path.is_socket():
            return
        raise AddressError(f"cannot listen on {address}: it is there and no socket") from None
    except ValueError as error:  # of a name that holds a zero byte
        raise AddressError(f"cannot listen on {address}: {error}") from error
    except OSError as error:
        raise AddressError(cannot_listen(address, error)) from error
    raise AddressError(cannot_listen(address, OSError(errno.EADDRINUSE, "")))


def close_connection(port: int, peer: str) -> bool:
    """Close the connection of a peer, as gRPC names it, to this port of TCP of this process.

    gRPC cancels its calls. Returns whether there was one; as for `stop_listening`.
    """
    address = _address(unquote(peer).partition(":")[2])
    found = False
    if address is None:
        return found
    for tried in _sockets():
        with suppress(OSError, ValueError):
            if tried.family not in (socket.AF_INET, socket.AF_INET6):
                continue
            host, number = tried.getpeername()[:2]
            if tried.getsockname()[1] == port and _address(f"[{host}]:{number}") == address:
                tried.shutdown(socket.SHUT_RDWR)
                found = True
    return found


def close_path(address: str) -> bool:
    """Close all connections to "unix:PATH" of this process: nothing tells which caller has which.

    Returns whether there was one; as for `stop_listening`.
    """
    path = _plain(address.removeprefix(_UNIX))
    found = False
    for tried in _sockets():
        with suppress(OSError):
            listens = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            unix = tried.family == socket.AF_UNIX
            if unix and not listens and _plain(tried.getsockname()) == path:
                tried.shutdown(socket.SHUT_RDWR)
                found = True
    return found


def _plain(path: object) -> str | None:
    """A path as the system has it of gRPC, which takes several leading slashes for one."""
    if not isinstance(path, str):
        return None
    return "/" + path.lstrip("/") if path[:1] == "/" else path


def _sockets() -> Iterator[socket.socket]:
    """The sockets of this process, each a copy that is closed afterwards."""
    if not _DESCRIPTORS.is_dir():
        return
    for name in os.listdir(_DESCRIPTORS):
        with suppress(OSError):
            copied = os.dup(int(name))
            if not stat.S_ISSOCK(os.fstat(copied).st_mode):
                os.close(copied)
                continue
            with socket.socket(fileno=copied) as found:
                yield found


def _address(text: str) -> tuple[str, int] | None:
    """Host and port of "HOST:PORT", the host as IPv6 writes it; None of anything else."""
    host, _, port = text.rpartition(":")
    try:
        given = ipaddress.ip_address(host.strip("[]").partition("%")[0])
        mapped = given if given.version == 6 else ipaddress.ip_address(f"::ffff:{given}")
        return str(mapped), int(port)
    except ValueError:
        return None


def stop_listening(port: int) -> bool:
    """Take no more connections on this port of TCP, in this process; those that are there stay.

    gRPC closes its listening sockets together with its server, which cancels calls that it has not
    looked at. Where another server listens on the port, its connections are to go there before.

    Returns whether there was a socket that listened. Where the system does not list a process's
    sockets there is none.
    """
    found = False
    for tried in _sockets():
        with suppress(OSError):
            listens = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            internet = tried.family in (socket.AF_INET, socket.AF_INET6)
            if listens and internet and tried.getsockname()[1] == port:
                tried.shutdown(socket.SHUT_RDWR)
                found = True
    return found

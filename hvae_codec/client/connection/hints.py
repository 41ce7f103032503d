"""What is probably wrong where a connection cannot be made, in place of gRPC's words."""

import ipaddress
import os
import re
from typing import Final

_SCHEMES: Final = {
    *("dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "passthrough"),
    *("xds", "google-c2p", "google"),
}
"""Those of gRPC's names."""

_ADDRESS: Final = re.compile(r"(\[[^\]\[]+\]|[^:\[\]@,]+)(?::([^:]+))?")
"""A name, an address of IPv4 or one of IPv6 in brackets; and its port."""

_NAMED_PORTS: Final = {"http", "https"}
"""Those that gRPC takes by their names."""

_MOST_PORT: Final = 65_535

_MOST_PATH: Final = 107
"""Bytes of a socket's name in the file system."""

_CLOSED: Final = re.compile(
    r"(failed to connect|connections to all backends failing).*"
    r"(Socket closed|reset by peer|End of|EOF|Broken)"
)
"""gRPC's words by its balancing, pick_first and round_robin."""


_IPV6_REFUSED: Final = re.compile(r"last error: .*ipv6:(?:%5B|\[)::1(?:%5D|\]):.*refused", re.I)
"""gRPC's words where the last address that it tried is this machine's of IPv6."""


def of_target(target: str) -> str | None:
    """What is wrong with the text of a target, if anything is."""
    if not isinstance(target, str) or not target.strip():
        return f"a target is HOST:PORT or unix:PATH, not {target!r}"
    kind, _, named = target.partition(":")
    if kind.lower() in _SCHEMES:
        return _of_named(kind.lower(), named, target)
    scheme, found, rest = target.partition("://")
    if not found:
        return _of_address(target, target)
    address = rest.partition("/")[0] or "HOST:PORT"
    tls = " with tls=True or root_certificates" if scheme.lower() in ("https", "grpcs") else ""
    return f"a target has no {scheme}:// before it: give {address!r}{tls}, not {target!r}"


def has_port(target: str) -> bool:
    """Whether a target that `of_target` finds nothing wrong with names a port, or needs none."""
    scheme, colon, named = target.partition(":")
    if colon and scheme.lower() in _SCHEMES:
        if scheme.lower() != "dns":
            return True
        target = _without_authority(named)
    address = _ADDRESS.fullmatch(target)
    return address is not None and address[2] is not None


def _of_named(scheme: str, named: str, target: str) -> str | None:
    """What is wrong with what stands behind a scheme of gRPC's."""
    if scheme == "dns":
        return _of_address(_without_authority(named), target)
    if scheme == "unix" and len(os.fsencode(named.removeprefix("//"))) > _MOST_PATH:
        return f"the path of a socket has at most {_MOST_PATH} bytes; got {target!r}"
    if scheme not in ("ipv4", "ipv6"):
        return None if named else f"a target is HOST:PORT or unix:PATH, not {target!r}"
    for each in _without_authority(named).split(","):
        address = _ADDRESS.fullmatch(each)
        if address is None or address[2] is None:
            form = "ADDRESS:PORT" if scheme == "ipv4" else "[ADDRESS]:PORT"
            return f"a target of {scheme} is {scheme}:{form}, more behind commas; got {target!r}"
        if (wrong := _of_address(each, target)) is not None:
            return wrong
    return None


def _without_authority(named: str) -> str:
    """A name of gRPC's URIs without the server that is to resolve it."""
    return named.rpartition("/")[2] if named.startswith("/") else named


def _of_address(address: str, target: str) -> str | None:
    """What is wrong with HOST:PORT; gRPC takes ports modulo 65,536."""
    if not address or any(each.isspace() or each == "/" for each in address):
        return f"a target is HOST:PORT or unix:PATH, not {target!r}"
    if "@" in address:
        return f"a target names no user: give HOST:PORT, and a token apart; got {target!r}"
    if "," in address:
        return f"a target is one HOST:PORT, or ipv4:ADDRESS:PORT,ADDRESS:PORT; got {target!r}"
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        return None if _is_ipv6(address) else _advice(address, target)
    port = parts[2]
    if port is None or port in _NAMED_PORTS:
        return None
    if not (port.isascii() and port.isdigit()):
        return f"a target's port is a number, as in HOST:PORT or [IPV6]:PORT; got {target!r}"
    if int(port[-9:]) > _MOST_PORT or len(port) > 9:
        return f"a target's port is at most {_MOST_PORT}, got {target!r}"
    return None if int(port) else f"a target's port is at least 1, got {target!r}"


def _advice(address: str, target: str) -> str:
    """What to give instead of an address of too many parts, or with an empty port."""
    host, _, port = address.rpartition(":")
    if _is_ipv6(host):
        bracketed = f"[{host}]:{port}"
        return f"an address of IPv6 with a port has brackets: give {bracketed!r}, not {target!r}"
    return f"a target is HOST:PORT, [IPV6]:PORT or unix:PATH, not {target!r}"


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def of_failure(details: str, *, encrypted: bool, certificate: bool) -> str | None:
    """What a failed call's details mean for a client that encrypts or not, and shows a certificate
    or not; None where they say enough.
    """
    if "WRONG_VERSION_NUMBER" in details:
        return "it does not speak TLS: leave out tls and root_certificates"
    if "Failed parsing HTTP/2" in details:
        return (
            "it does not speak HTTP/2, as gRPC does: this may be the port of the metrics and the "
            "status page, or of another program; give the server's own port"
        )
    if "certificate has expired" in details:
        return "its certificate has expired: the server needs a newer one"
    if "certificate is not yet valid" in details:
        return "its certificate is not valid yet, by the clock of this machine"
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return "no authority that this client trusts signed its certificate: give root_certificates"
    if "Hostname Verification Check failed" in details or "peer name" in details.lower():
        return "its certificate is of another name than that of the target"
    if _IPV6_REFUSED.search(details) is not None:
        # Of the other addresses gRPC does not tell: there a server may want TLS.
        tls = "" if encrypted else "; if it has TLS, give root_certificates or tls=True"
        return (
            "nothing listens on [::1], the last of its addresses that was tried: start the server, "
            f"or name the address that it listens on, such as 127.0.0.1{tls}"
        )
    if _CLOSED.search(details) is None:
        return None
    if not encrypted:
        return (
            "it closed the connection before the first call, as servers with TLS do to clients "
            "without: give root_certificates or tls=True"
        )
    if not certificate:
        return (
            "it closed the connection before the first call, as servers do that want a client's "
            "certificate: give certificate and private_key"
        )
    return (
        "it closed the connection before the first call, as servers do that do not take the "
        "certificate shown: give one that their authority signed and that has not expired"
    )

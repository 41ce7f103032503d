"""What is probably wrong where a connection cannot be made, in place of gRPC's words."""

import re
from typing import Final

_SCHEMES: Final = {
    *("dns", "ipv4", "ipv6", "unix", "unix-abstract", "vsock", "passthrough"),
    *("xds", "google-c2p", "google"),
}
"""Those of gRPC's names."""

_PORT: Final = re.compile(r"(?:^[^:]*|\]):(\d+)$", re.ASCII)
"""That of a name, an address of IPv4 or one of IPv6 in brackets."""

_MOST_PORT: Final = 65_535

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
    if target.partition(":")[0].lower() in _SCHEMES:
        return None
    scheme, found, rest = target.partition("://")
    if not found:
        return _of_address(target)
    address = rest.partition("/")[0] or "HOST:PORT"
    tls = " with tls=True or root_certificates" if scheme.lower() in ("https", "grpcs") else ""
    return f"a target has no {scheme}:// before it: give {address!r}{tls}, not {target!r}"


def _of_address(target: str) -> str | None:
    """What is wrong with HOST:PORT; gRPC takes ports modulo 65,536."""
    if any(each.isspace() or each == "/" for each in target):
        return f"a target is HOST:PORT or unix:PATH, not {target!r}"
    port = _PORT.search(target)
    if port is not None and int(port[1]) > _MOST_PORT:
        return f"a target's port is at most {_MOST_PORT}, got {target!r}"
    return None


def of_failure(details: str, *, encrypted: bool, certificate: bool) -> str | None:
    """What a failed call's details mean for a client that encrypts or not, and shows a certificate
    or not; None where they say enough.
    """
    if "WRONG_VERSION_NUMBER" in details:
        return "it does not speak TLS: leave out tls and root_certificates"
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return "no authority that this client trusts signed its certificate: give root_certificates"
    if "Hostname Verification Check failed" in details or "peer name" in details.lower():
        return "its certificate is of another name than that of the target"
    if _IPV6_REFUSED.search(details) is not None:
        return (
            "nothing listens on [::1], the last of its addresses that was tried: start the server, "
            "or name the address that it listens on, such as 127.0.0.1"
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
    return None

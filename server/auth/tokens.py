"""Bearer tokens: the form of the file that lists them, and finding one without telling others.

The file is TOML, with a table for each token:

    [[token]]
    name = "alice"
    sha256 = "5eb7..."  # of the token, in hexadecimal digits
    items = 512         # limits, all optional
    requests = 50
    streams = 8

`items` bounds the items of the token's calls in flight, `requests` those begun a second, `streams`
its open streams (by default a quarter of those of all). docs/guides/service.md makes one.
"""

import hashlib
import hmac
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Self

from ..errors import SecurityError

LIMITS: Final = ("items", "requests", "streams")
MOST: Final = 999_999_999
NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")


class TokenFileError(SecurityError):
    """The token file cannot be read, is open to others, or wrong."""


@dataclass(frozen=True)
class Token:
    """One token of the file; `digest` is its SHA-256."""

    name: str
    digest: bytes = field(repr=False)
    max_items: int | None = None
    max_requests: int | None = None
    max_streams: int | None = None


class Tokens:
    """The tokens of one reading of the file."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)

    @classmethod
    def of(cls, tokens: Iterable[tuple[Token, str]], source: str) -> Self:
        """Tokens, each with its position in `source`.

        Raises:
            TokenFileError: a name or token comes twice, or there is none.
        """
        names: dict[str, Token] = {}
        positions: dict[bytes, str] = {}
        for token, position in tokens:
            if token.name in names:
                raise TokenFileError(f"{source} {position}: the name {token.name!r} comes twice")
            if token.digest in positions:
                first = positions[token.digest]
                raise TokenFileError(f"{source} {position}: the same token as {first}")
            names[token.name] = token
            positions[token.digest] = position
        if not names:
            raise TokenFileError(f"{source} has no token, so no call could be made")
        return cls(names.values())

    def __len__(self) -> int:
        return len(self._tokens)

    def find(self, presented: str) -> Token | None:
        """The token that was presented, or None. Takes the same time whichever it is, if any."""
        digest = digest_of(presented)
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found


def digest_of(token: str) -> bytes:
    """The SHA-256 of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def parse_tokens(text: str, source: str) -> Tokens:
    """The tokens of a file's text; `source` names it in errors.

    Raises:
        TokenFileError: a table is wrong, a name or hash comes twice, or there is none.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TokenFileError(f"{source} is not TOML: {error}") from None
    tables = document.get("token", [])
    if document.keys() - {"token"} or not isinstance(tables, list):
        raise TokenFileError(f"{source}: a file of tokens has [[token]] tables, and nothing else")
    numbered = enumerate(tables, 1)
    return Tokens.of(
        ((_parse_table(each, f"{source} token {n}"), f"token {n}") for n, each in numbered), source
    )


def _parse_table(table: Any, where: str) -> Token:
    fields = dict(table) if isinstance(table, dict) else {}
    name, sha256 = fields.pop("name", None), fields.pop("sha256", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise TokenFileError(f"{where}: name is a string of 1 to 64 letters, digits and ._@-")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise TokenFileError(f"{where}: sha256 of {name!r} is the token's hash, 64 hex digits")
    for limit, most in fields.items():
        if limit not in LIMITS:
            known = ", ".join(("name", "sha256", *LIMITS))
            raise TokenFileError(f"{where}: {name!r} has the key {limit!r}; known are {known}")
        if type(most) is not int or not 1 <= most <= MOST:
            raise TokenFileError(f"{where}: {limit} of {name!r} is an integer, 1 to {MOST:,}")
    return Token(name, bytes.fromhex(sha256), **{f"max_{what}": n for what, n in fields.items()})

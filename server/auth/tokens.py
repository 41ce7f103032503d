"""Bearer tokens: the file that lists them, finding one without telling others, and reloading.

One token a line, `#` begins a comment:

    # name  token (32 to 256 letters, digits and -._~+/=)   limits, all optional
    alice   c7mBvK0gq2nXo3R8s1Yd5tUw9zEfHjLp                items=512 requests=50 streams=8

`items` bounds the items of the token's calls in flight, `requests` those begun a second, `streams`
its open streams (by default a quarter of those of all). A token is made with
`python -c "import secrets; print(secrets.token_urlsafe(32))"`.
"""

import hashlib
import hmac
import logging
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .file_watcher import FileVersion
from .tls import SecurityError

_logger = logging.getLogger(__name__)

SHORTEST_TOKEN: Final = 32
LONGEST_TOKEN: Final = 256
_MAX_FILE_BYTES: Final = 1024 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_LIMIT: Final = re.compile(r"(items|requests|streams)=([0-9]{1,9})")


class TokenFileError(SecurityError):
    """The token file cannot be read, is open to others, or a line of it is wrong."""


@dataclass(frozen=True)
class Token:
    """One line of the file; the token itself is not kept, only its SHA-256."""

    name: str
    digest: bytes = field(repr=False)
    max_items: int | None = None
    max_requests: int | None = None
    max_streams: int | None = None


class Tokens:
    """The tokens of one reading of the file."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def find(self, presented: str) -> Token | None:
        """The token that was presented, or None. Takes the same time whichever it is, if any."""
        digest = _digest(presented)
        found = None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def parse_tokens(text: str, source: str) -> Tokens:
    """The tokens of a file's text; `source` names it in errors, which never show a token.

    Raises:
        TokenFileError: a line is wrong, a name or token comes twice, or there is none.
    """
    tokens: dict[str, Token] = {}
    digests: dict[bytes, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        where = f"{source} line {number}"
        token = _parse_line(words, where)
        if token.name in tokens:
            raise TokenFileError(f"{where}: the name {token.name!r} stands on an earlier line too")
        if token.digest in digests:
            raise TokenFileError(f"{where}: the same token as on line {digests[token.digest]}")
        tokens[token.name] = token
        digests[token.digest] = number
    if not tokens:
        raise TokenFileError(f"{source} has no token, so nobody could call")
    return Tokens(tokens.values())


def _parse_line(words: list[str], where: str) -> Token:
    # A message shows no word but the name, and that only where it looks like one: the token may
    # stand in any place of a line that is wrong.
    if len(words) < 2:
        raise TokenFileError(f"{where}: a line is `name token`, this one has a single word")
    name, token, *limits = words
    if not _NAME.fullmatch(name) or len(name) >= SHORTEST_TOKEN:
        raise TokenFileError(
            f"{where}: the name comes first, at most {SHORTEST_TOKEN - 1} letters, digits and ._@-"
        )
    if not SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN:
        raise TokenFileError(
            f"{where}: the token of {name!r} has {len(token)} characters, allowed are "
            f"{SHORTEST_TOKEN} to {LONGEST_TOKEN}"
        )
    if not _TOKEN.fullmatch(token):
        raise TokenFileError(
            f"{where}: the token of {name!r} has other characters than letters, digits and -._~+/="
        )
    bounds: dict[str, int] = {}
    for word in limits:
        limit = _LIMIT.fullmatch(word)
        if limit is None or limit[1] in bounds or int(limit[2]) < 1:
            raise TokenFileError(
                f"{where}: after the token of {name!r} come items=N, requests=N and "
                "streams=N, once each, from 1"
            )
        bounds[limit[1]] = int(limit[2])
    return Token(name, _digest(token), **{f"max_{what}": most for what, most in bounds.items()})


class TokenFile:
    """The tokens of a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            TokenFileError: it cannot be read, others could read it, or a line is wrong.
        """
        self._path = path
        self._version: FileVersion | None = None
        self.tokens = self._read()

    def _read(self) -> Tokens:
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                self._version = FileVersion.of(status)
                _check_mode(self._path, status)
                content = file.read(_MAX_FILE_BYTES + 1)
        except OSError as error:
            raise TokenFileError(f"{self._path}: {error.strerror or error}") from error
        if len(content) > _MAX_FILE_BYTES:
            raise TokenFileError(f"{self._path} has more than {_MAX_FILE_BYTES:,} bytes")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            # The error itself holds the file's bytes, so it is not passed on.
            raise TokenFileError(f"{self._path} is not UTF-8 text") from None
        return parse_tokens(text, str(self._path))

    def refresh(self) -> None:
        """Read the file again if it changed; one that is wrong is logged and the old tokens stay.

        So does a file that is gone: what removes it by mistake should not lock everybody out, and
        who wants that stops the server.
        """
        version = FileVersion.at(self._path)
        if version == self._version:
            return
        try:
            self.tokens = self._read()
        except TokenFileError as error:
            self._version = version
            _logger.error("tokens stay as they are: %s", error)
        else:
            _logger.info("%d tokens read from %s", len(self.tokens), self._path)


def _check_mode(path: Path, status: os.stat_result) -> None:
    """Refuse a file that others may read: as ssh does, its group too where it is this user's.

    A secret that an orchestrator mounts for the group of a process belongs to root.
    """
    if os.name != "posix":
        return
    forbidden = stat.S_IRWXO | (stat.S_IRWXG if status.st_uid == os.geteuid() else 0)
    mode = stat.S_IMODE(status.st_mode)
    if mode & forbidden:
        raise TokenFileError(
            f"{path} has mode {mode:04o}, so other users may read or write the tokens; "
            f"chmod 600 {path}"
        )

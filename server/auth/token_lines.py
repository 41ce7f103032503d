"""The old form of the token file, read for one more release: a line for each token,
`NAME TOKEN [items=N] [requests=N] [streams=N]`, and comments that `#` begins.
"""

import re
import tomllib
from typing import Final

from .tokens import NAME, Token, TokenFileError, Tokens, digest_of

SHORTEST_TOKEN: Final = 32
LONGEST_TOKEN: Final = 256
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_LIMIT: Final = re.compile(r"(items|requests|streams)=([0-9]{1,9})")
_TABLE: Final = re.compile(r"^\s*\[", re.MULTILINE)


def is_old_form(text: str) -> bool:
    """Whether a file's text is of lines: no table, and not TOML."""
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return _TABLE.search(text) is None
    return False


def parse_lines(text: str, source: str) -> Tokens:
    """The tokens of a file's text; `source` names it in errors, which never show a token.

    Raises:
        TokenFileError: a line is wrong, a name or token comes twice, or there is none.
    """
    numbered = ((n, line.split("#", 1)[0].split()) for n, line in enumerate(text.splitlines(), 1))
    lines = [(n, words) for n, words in numbered if words]
    return Tokens.of(
        ((_parse_line(words, f"{source} line {n}"), f"line {n}") for n, words in lines), source
    )


def _parse_line(words: list[str], where: str) -> Token:
    # A message shows no word but the name, and that only where it looks like one: the token may
    # stand in any place of a line that is wrong.
    if len(words) < 2:
        raise TokenFileError(f"{where}: a line is `name token`, this one has a single word")
    name, token, *limits = words
    if not NAME.fullmatch(name) or len(name) >= SHORTEST_TOKEN:
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
    return Token(name, digest_of(token), **{f"max_{what}": most for what, most in bounds.items()})

"""Reads the sections Raises and Warns of docstrings as this project writes them.

Several entries may share a line: "ImageError: as `encode`. ValueError: no such layer." The site's
parser expects one entry per line, with its continued lines indented further.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_NAME = r"[A-Z]\w*(?:Error|Warning)"
_NAMES = rf"{_NAME}(?:,\s+{_NAME})*:"
_SECTION = re.compile(r"^(?P<title>Raises|Warns):\n(?P<body>(?: +.*(?:\n|$))+)", re.MULTILINE)
_NEXT_ENTRY = re.compile(rf"(?:(?<=[.)])\s+|\n {{4}})(?={_NAMES})")


def one_entry_per_line(docstring: str) -> str:
    """The docstring with one line per entry of its sections Raises and Warns."""

    def rewritten(section: re.Match[str]) -> str:
        entries = _NEXT_ENTRY.split(section["body"].strip())
        lines = ["    " + " ".join(entry.split()) for entry in entries]
        return "\n".join([f"{section['title']}:", *lines, ""])

    return _SECTION.sub(rewritten, docstring)


class Docstrings(Extension):
    """Rewrites every docstring that is loaded."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = one_entry_per_line(obj.docstring.value)

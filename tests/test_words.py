"""Docstrings and comments use the field's terms: words that were given up do not come back."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    path
    for folder in ("hvae_codec", "server", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "v1" not in path.parts
]

GIVEN_UP = {
    "picture": "image",
    "pictures": "images",
    "rung": "quality level",
    "rungs": "quality levels",
    "ladder": "model family",
    "at hand": "available",
    "turned away": "rejected",
}
"""Each with the term that stands for it."""


def prose_of(source):
    """The docstrings and comments of a source, without names: in backquotes, or led by a colon."""
    for node in ast.walk(ast.parse(source)):
        constant = node.value if isinstance(node, ast.Expr) else None
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
            yield constant.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def given_up(source):
    """The words of GIVEN_UP in a source's prose."""
    paths = r"--?[a-z-]+|[\w./-]*[/_.=][\w./-]+"
    names = re.compile(rf"`[^`]*`|^\s*[a-z_]\w*(?:, [a-z_]\w*)*:|{paths}", re.MULTILINE)
    text = " ".join(names.sub(" ", prose) for prose in prose_of(source))
    words = re.compile(rf"\b({'|'.join(GIVEN_UP)})\b", re.IGNORECASE)
    return sorted({found.lower() for found in words.findall(text)})


def test_a_word_that_was_given_up_is_found():
    source = '"""What a picture is.\n\nrung: of `ladder`, see docs/pictures.png.\n"""\n# at hand\n'
    assert given_up(source) == ["at hand", "picture"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_that_were_given_up_stay_away(path):
    found = given_up(path.read_text())
    assert not found, ", ".join(f"{word!r}: write {GIVEN_UP[word]!r}" for word in found)

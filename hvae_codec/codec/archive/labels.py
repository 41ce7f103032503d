"""The labels of an archive's images: which are allowed, and how a block stores them.

A label is a whole number, as classifiers take them, or a JSON object. A small number costs a byte.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from hvae_codec.codec.bitstream.varint import read_varint, write_varint
from hvae_codec.errors import ArchiveError, CorruptError
from hvae_codec.utils.arguments import shown

Label = int | dict[str, Any]
"""A whole number from -2^31 to 2^31 - 1, or what JSON writes as an object."""

MAX_LABEL_BYTES = 1 << 16
"""Longest JSON text of a label, in UTF-8."""

MAX_BLOCK_LABEL_BYTES = 1 << 24
"""From how many bytes of labels on a writer begins another block."""

MOST = (1 << 31) - 1
"""Greatest number; the least one is -MOST - 1."""

_KIND = ".hvaa archive"
_MOST_CODE = max(2 * (2 * MOST + 1) + 1, 2 * (MAX_LABEL_BYTES + 1))


def encode_label(label: Label | None) -> bytes:
    """One label, or that there is none. Raises ArchiveError if an archive cannot hold it."""
    if label is None:
        return write_varint(0)
    if isinstance(label, int | np.integer) and not isinstance(label, bool):
        number = int(label)
        if not -MOST - 1 <= number <= MOST:
            raise ArchiveError(f"a label lies in {-MOST - 1}..{MOST}, not {shown(label)}")
        # 0, -1, 1, -2, ... become 0, 1, 2, 3, ...: small numbers of either sign are short.
        return write_varint(2 * (2 * number if number >= 0 else -2 * number - 1) + 1)
    if not isinstance(label, dict):
        kind = f"{type(label).__name__} {shown(label)}"
        raise ArchiveError(f"a label is a whole number, a JSON object (a dict) or None, not {kind}")
    text = _json_text(label)
    return write_varint(2 * (len(text) + 1)) + text


def encode_labels(labels: Sequence[Label | None]) -> bytes:
    """The labels of a block's images; nothing if none has one.

    Raises:
        ArchiveError: as `encode_label`.
    """
    if all(label is None for label in labels):
        return b""
    return b"".join(map(encode_label, labels))


def decode_labels(data: bytes, count: int) -> tuple[Label | None, ...]:
    """The inverse of `encode_labels`: the labels of `count` images. Raises CorruptError."""
    if not data:
        return (None,) * count
    labels: list[Label | None] = []
    at = 0
    for _ in range(count):
        code, at = read_varint(data, at, 0, _MOST_CODE, name="label", kind=_KIND)
        if code == 0:
            labels.append(None)
        elif code % 2:
            number = code // 2
            labels.append(number // 2 if number % 2 == 0 else -(number + 1) // 2)
        else:
            end = at + code // 2 - 1
            if end - at > MAX_LABEL_BYTES:
                raise CorruptError(f"damaged {_KIND}: a label of {end - at} bytes")
            labels.append(_object(data[at:end]))
            at = end
    if at != len(data) or all(label is None for label in labels):
        raise CorruptError(f"damaged {_KIND}: the labels of a block do not fit its length")
    return tuple(labels)


def _json_text(label: dict[str, Any]) -> bytes:
    """The shortest JSON text of an object. Raises ArchiveError."""
    try:
        text = json.dumps(label, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        encoded = text.encode()
        same = json.loads(text) == label
    except (TypeError, ValueError, RecursionError) as error:
        raise ArchiveError(f"the label {shown(label)} cannot be written as JSON: {error}") from None
    if not same:
        raise ArchiveError(
            f"the label {shown(label)} would not be read as it is: JSON has text as keys and lists "
            "in place of tuples"
        )
    if len(encoded) > MAX_LABEL_BYTES:
        raise ArchiveError(
            f"a label has at most {MAX_LABEL_BYTES} bytes as JSON; this one has {len(encoded)}"
        )
    return encoded


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CorruptError(f"damaged {_KIND}: a label is no JSON object")
    return found


def _no_number(text: str) -> float:
    """Refuse what Python reads beyond JSON: NaN and infinities."""
    raise ValueError(text)

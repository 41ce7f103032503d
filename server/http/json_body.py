"""JSON of a message before protobuf takes it, which is lenient and unclear about some of it."""

import json
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

_MOST_DIGITS: Final = 4_000
_BASE64: Final = (
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"  # of URLs as well
    b"= \t\r\n"
)


def parse_object(body: bytes, message: Descriptor) -> dict[str, Any]:
    """The JSON of a message, whose fields of bytes are base64; protobuf checks all else.

    Raises ValueError for other JSON, and RecursionError.
    """
    text = body.decode("utf-8")
    found = json.loads(text, object_pairs_hook=_unique, parse_int=_int)
    _check(found, message, "")
    assert isinstance(found, dict)
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice in one object")
    return found


def _int(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _check(value: Any, message: Descriptor, path: str) -> None:
    """Check the objects and the base64 in a message, which is at `path` in the body."""
    if not isinstance(value, dict):
        raise ValueError(f"{path + ': ' if path else ''}an object is expected, got {_kind(value)}")
    for name, given in value.items():
        field = message.fields_by_camelcase_name.get(name) or message.fields_by_name.get(name)
        if field is None or given is None:
            continue
        for one, where in _values(given, field, f"{path}.{name}" if path else name):
            if field.message_type is not None:
                _check(one, field.message_type, where)
            elif field.type == FieldDescriptor.TYPE_BYTES:
                _check_bytes(one, where)


def _values(given: Any, field: FieldDescriptor, path: str) -> Iterator[tuple[Any, str]]:
    """The values of a field, and where they are."""
    if not field.is_repeated:
        yield given, path
        return
    if not isinstance(given, list):
        raise ValueError(f"{path}: a list is expected, got {_kind(given)}")
    for number, each in enumerate(given):
        yield each, f"{path}[{number}]"


def _check_bytes(value: Any, path: str) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{path}: a string of base64 is expected, got {_kind(value)}")
    wrong = value.encode("utf-8", "replace").translate(None, _BASE64)
    if wrong:
        hint = ", without the data URL's head" if value.startswith("data:") else ""
        raise ValueError(f"{path}: base64 is expected{hint}")


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a string", type(None): "null"}
    if isinstance(value, bool):
        return "true or false"
    return kinds.get(type(value), "a number")

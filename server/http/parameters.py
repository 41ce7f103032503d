"""The parameters of a query, by name the fields of a request: `quality=40`, `model=photo`."""

import re
from collections.abc import Collection, Iterator
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from hvae_codec.v1 import codec_pb2

from ..errors import InvalidRequestError

_SELECTOR: Final = codec_pb2.ModelSelector.DESCRIPTOR
_MOST_SHOWN: Final = 40
_DIGITS: Final = re.compile(r"[0-9]{1,20}")
_BOOLS: Final = {"true": True, "false": False}


class Parameters:
    """What a query may say of one type of request: every field with one value, and of the
    ModelSelector its own; its name is `model`.
    """

    def __init__(self, request: Descriptor, given_by_path: Collection[str] = ()) -> None:
        """given_by_path: fields that are none, as "model.name"."""
        paths = _paths(request)
        self._fields = {name: path for name, path in paths if ".".join(path) not in given_by_path}

    def set_in(self, request: Message, query: Any) -> None:
        """Set the fields that a query gives.

        Raises InvalidRequestError for a parameter that is unknown, repeated, malformed or excluded
        by another.
        """
        for name in dict.fromkeys(query):
            path = self._fields.get(name)
            if path is None:
                known = ", ".join(sorted(self._fields)) or "none"
                raise InvalidRequestError(f"unknown parameter {_shown(name)}; allowed: {known}")
            values = query.getall(name)
            if len(values) > 1:
                raise InvalidRequestError(f"{name}: given {len(values)} times, once is allowed")
            _set(_within(request, path[:-1]), path[-1], values[0], name)

    def set_path(self, request: Message, field: str, value: str) -> None:
        """Set a field that the path gives."""
        *above, last = field.split(".")
        _set(_within(request, above), last, value, field)


def _paths(request: Descriptor) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name and path of every parameter."""
    for field in request.fields:
        if field.message_type is _SELECTOR:
            for inner in _SELECTOR.fields:
                name = field.name if inner.name == "name" else inner.name
                yield name, (field.name, inner.name)
        elif field.message_type is None and not field.is_repeated:
            yield field.name, (field.name,)


def _within(request: Message, path: Collection[str]) -> Any:
    for name in path:
        request = getattr(request, name)
    return request


def _set(target: Any, name: str, text: str, shown: str) -> None:
    """Set a field of a message."""
    field = target.DESCRIPTOR.fields_by_name[name]
    if field.containing_oneof is not None:
        other = target.WhichOneof(field.containing_oneof.name)
        if other not in (None, name):
            raise InvalidRequestError(f"{shown}: not together with {other}; give one of them")
    value = _value(field, text)
    try:
        if value is not None:
            setattr(target, name, value)
            return
    except ValueError:  # out of the type's range, or no UTF-8
        pass
    raise InvalidRequestError(f"{shown}: {_shown(text)} is not {_kind(field)}")


def _value(field: FieldDescriptor, text: str) -> Any:
    """A field's value; None where the text is none of its kind."""
    if field.enum_type is not None:
        return _choices(field).get(text)
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return text
        case FieldDescriptor.CPPTYPE_BOOL:
            return _BOOLS.get(text)
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            try:
                return float(text)
            except ValueError:
                return None
        case _:
            return int(text) if _DIGITS.fullmatch(text) else None


def _choices(field: FieldDescriptor) -> dict[str, int]:
    """The values of an enumeration by short names: `png` of IMAGE_FORMAT_PNG."""
    assert field.enum_type is not None
    values = field.enum_type.values
    prefix = values[0].name.removesuffix("UNSPECIFIED")
    return {each.name.removeprefix(prefix).lower(): each.number for each in values[1:]}


def _kind(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        return f"one of {', '.join(_choices(field))}"
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return "text"
        case FieldDescriptor.CPPTYPE_BOOL:
            return "true or false"
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return "a number"
        case _:
            return "a whole number of its range"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}...")

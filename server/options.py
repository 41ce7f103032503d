"""Options that are declared once, as fields of dataclasses; flags and values derive from them.

A field made by `option` is one; a field that holds such a dataclass by default is a part of it.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints
from urllib.parse import urlsplit

Settings = TypeVar("Settings")


def parse_port(text: str) -> int:
    """A port, as a flag names it."""
    number = int(text)
    if not 0 <= number <= 65_535:
        raise argparse.ArgumentTypeError(f"a port is 0 to 65535, got {number}")
    return number


def parse_positive(text: str) -> int:
    """An integer from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def parse_count(text: str) -> int:
    """An integer from 0."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {number}")
    return number


def parse_seconds(text: str) -> float:
    """A finite duration."""
    duration = float(text)
    if not 0 <= duration < float("inf"):
        raise argparse.ArgumentTypeError(f"seconds must be finite and at least 0, got {text}")
    return duration


def parse_directory(text: str) -> Path:
    """A directory that exists."""
    path = Path(text).expanduser()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a directory")
    return path


def parse_collector(text: str) -> str:
    """A URL that OTLP over gRPC takes."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        valid = valid and not any(each.isspace() for each in text)
    except ValueError:  # of a port that is no number or above 65,535
        valid = False
    if not valid:
        raise argparse.ArgumentTypeError(
            f"a collector is http://HOST:PORT or https://HOST:PORT, with a port of 1 to 65535, "
            f"got {text!r}"
        )
    return text


class _Option(NamedTuple):
    """How a field is given from outside; `name` is its flag's, as Python writes it, and `old` that
    of the last release, "" where there was no other.
    """

    name: str
    old: str
    section: str
    per_unit: float | None
    convert: Callable[[Any], Any]
    keywords: dict[str, Any]


def option(
    default: Any,
    text: str,
    *,
    flag: str = "",
    old: str = "",
    section: str = "",
    per_unit: float | None = None,
    convert: Callable[[Any], Any] = lambda given: given,
    **keywords: Any,
) -> Any:
    """A field of a dataclass that is an option.

    Args:
        default: of the field, or a function that makes it.
        text: the flag's help.
        flag: its name; "": that of the field.
        old: the flag's spelling of the last release, which works on but is not in the help.
        section: the heading in the help that begins with this option.
        per_unit: units of the flag in one of the field.
        convert: makes the field's value of what the flag gives, unless that is None.
        keywords: of `argparse`'s `add_argument`; `type` checks the range.
    """
    declared = _Option(flag, old, section, per_unit, convert, {"help": text, **keywords})
    kind = {"default_factory": default} if callable(default) else {"default": default}
    made: Any = field(metadata={"option": declared}, **kind)
    return made


def _declared(settings: type[Any]) -> Iterator[tuple[str, "_Option | type[Any]"]]:
    """The fields of a dataclass that are given from outside: options, and their dataclasses."""
    for each in fields(settings):
        made: Any = each.default_factory
        if isinstance(made, type) and is_dataclass(made):
            yield each.name, made
        elif (found := each.metadata.get("option")) is not None:
            name = found.name or each.name
            default = made() if callable(made) else each.default
            if found.per_unit is not None:
                default *= found.per_unit
            keywords = {"default": default, **found.keywords}
            name, old = name.replace("-", "_"), found.old.replace("-", "_")
            yield each.name, found._replace(name=name, old=old, keywords=keywords)


def add_flags(parser: argparse.ArgumentParser, settings: type[Any]) -> None:
    """Add a flag for each option of a dataclass to `parser`."""
    group: argparse._ActionsContainer = parser
    for _, found in _options(settings):
        if found.section:
            group = parser.add_argument_group(found.section)
        group.add_argument(_flag(found.name), **found.keywords)
        if found.old:
            hidden = {"dest": found.name, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
            group.add_argument(_flag(found.old), **{**found.keywords, **hidden})


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _options(settings: type[Any]) -> Iterator[tuple[Any, _Option]]:
    """All options of a dataclass and of those in it, each with the type of its field."""
    types = get_type_hints(settings)
    for name, found in _declared(settings):
        if isinstance(found, _Option):
            yield types[name], found
        else:
            yield from _options(found)


class Argument(NamedTuple):
    """An option as a value from outside: its type, default, and name of the last release."""

    kind: Any
    default: Any
    old: str


def arguments_of(settings: type[Any]) -> dict[str, Argument]:
    """All options, by their flags' names as Python writes them."""
    return {
        found.name: Argument(
            list[str] if found.keywords.get("action") == "append" else kind,
            found.keywords["default"],
            found.old,
        )
        for kind, found in _options(settings)
    }


def build(settings: type[Settings], given: Mapping[str, Any]) -> Settings:
    """A dataclass of options from values as its flags give them, by the names of `arguments_of`;
    those that are not given have their default. Raises what the dataclass raises.
    """
    values: dict[str, Any] = {}
    for name, found in _declared(settings):
        if not isinstance(found, _Option):
            values[name] = build(found, given)
        elif found.name in given:
            value = given[found.name]
            if found.per_unit is not None:
                value /= found.per_unit
            values[name] = None if value is None else found.convert(value)
    return settings(**values)

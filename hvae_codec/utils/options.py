"""Options that are declared once, as fields of dataclasses; flags and values derive from them.

A field made by `option` is one; a field that holds such a dataclass by default is a part of it.
"""

import argparse
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import field, fields, is_dataclass
from functools import partial
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

Settings = TypeVar("Settings")


def parse_whole(least: int, text: str) -> int:
    """A whole number of at least `least`, as a flag gives it."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"{text} is not at least {least}")
    return number


class _Option(NamedTuple):
    """How a field is given from outside; `name` is its flag's, as Python writes it, `old` that of
    the last release, "" where there was no other, and `kind` the field's type.
    """

    name: str
    old: str
    section: str
    per_unit: float | None
    convert: Callable[[Any], Any]
    least: int | None
    keywords: dict[str, Any]
    kind: Any = None


def option(
    default: Any,
    text: str,
    *,
    flag: str = "",
    old: str = "",
    section: str = "",
    per_unit: float | None = None,
    convert: Callable[[Any], Any] = lambda given: given,
    least: int | None = None,
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
        least: the least value of a whole number.
        keywords: of `argparse`'s `add_argument`; without `type`, `choices` and `action` the
            field's type says what the flag takes.
    """
    declared = _Option(flag, old, section, per_unit, convert, least, {"help": text, **keywords})
    kind = {"default_factory": default} if callable(default) else {"default": default}
    made: Any = field(metadata={"option": declared}, **kind)
    return made


def _declared(settings: type[Any]) -> Iterator[tuple[str, "_Option | type[Any]"]]:
    """The fields of a dataclass that are given from outside: options, and their dataclasses."""
    kinds = get_type_hints(settings)
    for each in fields(settings):
        made: Any = each.default_factory
        if isinstance(made, type) and is_dataclass(made):
            yield each.name, made
        elif (found := each.metadata.get("option")) is not None:
            kind = kinds[each.name]
            default = made() if callable(made) else each.default
            if found.per_unit is not None:
                default *= found.per_unit
            yield (
                each.name,
                found._replace(
                    name=(found.name or each.name).replace("-", "_"),
                    old=found.old.replace("-", "_"),
                    keywords={"default": default, **_taken(kind, found), **found.keywords},
                    kind=kind,
                ),
            )


def _taken(kind: Any, declared: _Option) -> dict[str, Any]:
    """What a flag takes by its field's type, where the option does not say it."""
    if not declared.keywords.keys().isdisjoint({"type", "choices", "action"}):
        return {}
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind), "type": type(get_args(kind)[0])}
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": partial(parse_whole, declared.least or 0) if kind is int else kind}


def add_flags(
    parser: argparse.ArgumentParser, settings: type[Any], *, without: Collection[str] = ()
) -> None:
    """Add a flag for each option of a dataclass to `parser`, but for the fields `without`."""
    group: argparse._ActionsContainer = parser
    for field_name, found in _options(settings):
        if field_name in without:
            continue
        if found.section:
            group = parser.add_argument_group(found.section)
        group.add_argument(flag_of(found.name), **found.keywords)
        if found.old:
            hidden = {"dest": found.name, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
            group.add_argument(flag_of(found.old), **{**found.keywords, **hidden})


def flag_of(name: str) -> str:
    """The flag of an argument that argparse has parsed."""
    return f"--{name.replace('_', '-')}"


def _options(settings: type[Any]) -> Iterator[tuple[str, _Option]]:
    """All options of a dataclass and of those in it, each with the name of its field."""
    for name, found in _declared(settings):
        if isinstance(found, _Option):
            yield name, found
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
            list[str] if found.keywords.get("action") == "append" else found.kind,
            found.keywords["default"],
            found.old,
        )
        for _, found in _options(settings)
    }


def given_fields(settings: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a dataclass, by name, from values as its flags give them, by the names of
    `arguments_of`; without those that are not given.
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
    return values


def build(settings: type[Settings], given: Mapping[str, Any]) -> Settings:
    """A dataclass of options from `given_fields`; the others have their default. Raises what the
    dataclass raises.
    """
    return settings(**given_fields(settings, given))


def check_options(settings: Any, error: type[Exception]) -> None:
    """Check the options of a dataclass's object against their least values and choices.

    Raises:
        Exception: `error`, of a value that is not allowed; it names field, value and what is.
    """
    for name, found in _declared(type(settings)):
        if not isinstance(found, _Option):
            continue
        value, choices = getattr(settings, name), found.keywords.get("choices")
        if None not in (value, found.least) and value < found.least:
            raise error(f"{name} {value}; at least {found.least} is allowed")
        if choices is not None and value not in choices:
            raise error(f"{name} {value!r}; allowed: {', '.join(map(str, choices))}")

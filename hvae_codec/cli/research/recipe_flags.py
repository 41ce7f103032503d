"""Flags of `train` and `sweep` that the fields of a `Recipe` declare."""

from __future__ import annotations

import argparse
from dataclasses import fields
from functools import partial
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from hvae_codec.cli.common import int_from
from hvae_codec.training.recipe import Recipe, recipe_options

ONE_MODEL = ("noise_index", "average", "quality_rate", "crops")
"""Fields that a sweep does not take."""


_RENAMED = {"bins": "--beta-groups"}


def add_recipe_flags(parser: argparse.ArgumentParser, *, without: tuple[str, ...] = ()) -> None:
    """Add a flag for each field of a recipe that declares one, but for those `without`.

    The spelling by the field's name stays beside one that differs.
    """
    defaults = {own.name: own.default for own in fields(Recipe)}
    for name, (hint, option) in recipe_options().items():
        if name in without:
            continue
        kind, flag, by_name = _kind(hint, option.least), flag_of(name), _by_name(name)
        if "choices" not in kind:
            kind["metavar"] = flag.lstrip("-").replace("-", "_").upper()
        parser.add_argument(flag, dest=name, default=defaults[name], help=option.help, **kind)
        if flag != by_name:
            hidden: dict[str, Any] = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
            parser.add_argument(by_name, dest=name, **hidden, **kind)


def recipe_fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """The fields of a recipe that parsed flags hold."""
    given = vars(arguments)
    return {name: given[name] for name in recipe_options() if name in given}


def flag_of(name: str) -> str:
    """The flag of a parsed argument."""
    declared = recipe_options().get(name)
    return (declared and declared[1].flag) or _RENAMED.get(name) or _by_name(name)


def _by_name(name: str) -> str:
    return "--" + name.replace("_", "-")


def _kind(hint: Any, least: int | None) -> dict[str, Any]:
    """What argparse needs to know of a field's type."""
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    members = [member for member in get_args(hint) if member is not NoneType] or [hint]
    return {"type": float if members == [float] else partial(int_from, least or 0)}

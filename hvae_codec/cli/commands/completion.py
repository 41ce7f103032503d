"""`hvae-codec completion`: the script that completes commands and flags in a shell."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from hvae_codec.cli.common import CommandParser, Commands, add_command, path
from hvae_codec.errors import MissingDependencyError

SHELLS = ("bash", "zsh", "tcsh")


def add_commands(commands: Commands, parser: argparse.ArgumentParser) -> None:
    """Add the subcommand, which completes all subcommands of `parser`."""
    add_command(
        commands,
        "completion",
        partial(_completion, parser),
        _arguments,
        summary="print a script that completes commands and flags in a shell",
        example="hvae-codec completion bash > ~/.bash_completion.d/hvae-codec",
        json_output=False,
    )


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads the script")


def _completion(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    try:
        import shtab
    except ImportError as error:
        raise MissingDependencyError(
            "completion needs shtab: pip install hvae-codec[completion]"
        ) from error
    _declare_all(parser, shtab.FILE)
    print(shtab.complete(parser, shell=arguments.shell))
    return 0


def _declare_all(parser: argparse.ArgumentParser, files: Any) -> None:
    """Declare the arguments of a parser and its subcommands; those that are paths take `files`."""
    if isinstance(parser, CommandParser) and parser.declare is not None:
        declare, parser.declare = parser.declare, None
        declare(parser)
    for action in parser._actions:
        if action.type is path:
            action.complete = files  # type: ignore[attr-defined]  # shtab reads it
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _declare_all(command, files)

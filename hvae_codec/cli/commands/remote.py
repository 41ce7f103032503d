"""`hvae-codec remote COMMAND`: the commands that take --server, as the last release spelt them."""

from __future__ import annotations

import argparse

from hvae_codec.cli.commands import encode_decode, features_sample, info
from hvae_codec.cli.common import CommandParser, Commands, add_command


def add_commands(commands: Commands) -> None:
    """Add the subcommand, which has subcommands of its own."""
    add_command(
        commands,
        "remote",
        _nothing,
        _remote_arguments,
        summary="the same as encode, decode, features, sample and models with --server",
        example="hvae-codec encode thumbnails/ --server 127.0.0.1:50051 --output encoded/",
        json_output=False,
    )


def _nothing(arguments: argparse.Namespace) -> int:
    raise AssertionError("a subcommand is required")


def _remote_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    parser.set_defaults(remote=True)
    encode_decode.add_commands(commands)
    features_sample.add_commands(commands)
    info.add_models(commands)

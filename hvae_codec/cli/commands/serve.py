"""`hvae-codec serve`: the gRPC server, when the extra [server] is installed."""

from __future__ import annotations

import argparse

from hvae_codec.cli.common import Commands, add_command


def add_commands(commands: Commands) -> None:
    """Add the subcommand; its options are the server's own."""
    add_command(
        commands,
        "serve",
        _serve,
        _serve_arguments,
        summary="serve encode, decode, features and sampling over gRPC",
        example="hvae-codec serve --port 50051",
        json_output=False,
    )


def _serve_arguments(parser: argparse.ArgumentParser) -> None:
    from hvae_codec.server import add_arguments

    add_arguments(parser)


def _serve(arguments: argparse.Namespace) -> int:
    from hvae_codec.server import run

    return int(run(arguments))

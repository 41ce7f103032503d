"""The command `hvae-codec`: parse, run one subcommand, map what went wrong to an exit code.

Exit codes: 0 done; 1 failed, with one line on standard error; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from hvae_codec.cli import coding, info, latents, serving, training
from hvae_codec.errors import HvaeCodecError


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands; each sets `run`, a function from the parsed arguments to an
    exit code.
    """
    parser = argparse.ArgumentParser(
        prog="hvae-codec",
        description="Hierarchical VAEs as an image codec, a feature extractor and a sampler.",
        epilog="'hvae-codec COMMAND --help' shows the command's options and an example.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (coding, info, latents, training, serving):
        module.add_commands(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (sys.argv's by default) and return the exit code."""
    parsed = build_parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (HvaeCodecError, OSError) as error:
        print(f"hvae-codec: error: {error}", file=sys.stderr)
        return 1

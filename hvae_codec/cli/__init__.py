"""The command `hvae-codec`: parse, run one subcommand, map what went wrong to an exit code.

Exit codes: 0 done; 1 failed, with one line on standard error; 2 wrong usage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hvae_codec
from hvae_codec.cli.commands import (
    archive,
    completion,
    encode_decode,
    features_sample,
    info,
    remote,
    serve,
)
from hvae_codec.cli.common import CommandParser, describe, print_error, print_warning
from hvae_codec.cli.research import (
    benchmark,
    calibrate,
    evaluate,
    quantise,
    report,
    sweep,
    train,
    train_classifier,
)
from hvae_codec.errors import HvaeCodecError, InputWarning
from hvae_codec.utils.malloc import keep_freed_memory

DEBUG_VARIABLE = "HVAE_DEBUG"
"""Environment variable that, when set, lets an unexpected error show its traceback."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands; each sets `run`, a function from the parsed arguments to an
    exit code.
    """
    parser = argparse.ArgumentParser(
        prog="hvae-codec",
        description="Hierarchical VAEs as an image codec, a feature extractor and a sampler.",
        epilog="'hvae-codec COMMAND --help' shows the command's options and an example.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {hvae_codec.__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    for module in (
        encode_decode,
        archive,
        info,
        features_sample,
        train,
        sweep,
        calibrate,
        quantise,
        train_classifier,
        evaluate,
        report,
        benchmark,
        serve,
        remote,
    ):
        module.add_commands(commands)
    completion.add_commands(commands, parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (sys.argv's by default) and return the exit code."""
    keep_freed_memory()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold what it cannot encode
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        parsed = build_parser().parse_args(arguments)
        with _warnings_shown():
            code = int(parsed.run(parsed))
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print_error("interrupted")
        return 130
    except (HvaeCodecError, OSError) as error:
        print_error(describe(error))
        return 1
    except MemoryError:
        print_error("not enough memory")
        return 1
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        kind = type(error).__name__
        print_error(f"unexpected {kind}: {error} ({DEBUG_VARIABLE}=1 shows where)")
        return 1
    return code


@contextmanager
def _warnings_shown() -> Iterator[None]:
    """This library's warnings of inputs as lines on standard error; others as usual."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, InputWarning):
                print_warning(str(message))
            else:
                usual(message, category, *rest, **more)

        vars(warnings)["showwarning"] = show
        yield

"""The command that a benchmark is: its arguments, its tables on the terminal, its JSON file.

A module declares `BENCHMARK = Benchmark(...)` and runs it at its end. `python -m` that module then
measures and prints the tables; with --json it writes the result, the machine it was measured on,
and a figure beside it where the benchmark draws one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import write_json
from benchmarks.tables import Result, Table
from hvae_codec.errors import HvaeCodecError
from hvae_codec.evaluation.environment import environment

FAILED, MISUSED = 1, 2
"""Exit codes: something was measured and is wrong; nothing could be measured."""


class Argument:
    """An argument of a benchmark, as `argparse.ArgumentParser.add_argument` takes it."""

    def __init__(self, *names: str, **options: Any) -> None:
        self.names, self.options = names, options

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Let the parser take it."""
        parser.add_argument(*self.names, **self.options)


DEVICE = Argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Benchmark:
    """A question that is answered by measuring.

    text: docstring of its module; the first line is the question. measure: from the arguments to
    the result: what JSON takes, and under names with a leading "_" what only figures are drawn of;
    its `environment`, if any, is added to the machine's. tables: those that pages have markers for
    stand there, too. packages: further ones whose versions count. draw: writes figures, of the
    result, to a path that ends in .png. failed: whether a result is one to end with code 1.
    """

    text: str | None
    measure: Callable[[argparse.Namespace], Result]
    tables: Sequence[Table]
    arguments: Sequence[Argument] = ()
    packages: Sequence[str] = ()
    draw: Callable[[Result, Path], object] | None = None
    failed: Callable[[Result], bool] = lambda _: False

    def parser(self) -> argparse.ArgumentParser:
        """The parser of the command."""
        spec = sys.modules["__main__"].__spec__
        parser = argparse.ArgumentParser(
            prog=None if spec is None else f"python -m {spec.name.removesuffix('.__main__')}",
            description=self.text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for argument in self.arguments:
            argument.add_to(parser)
        beside = "" if self.draw is None else ", and figures beside it"
        parser.add_argument("--json", type=Path, help=f"write the result here{beside}")
        return parser

    def main(self, words: Sequence[str] | None = None) -> int:
        """Measure, write and print: what was measured is kept, whatever fails afterwards.

        Returns:
            0; 1 for a result that is `failed`; 2 where data are missing or unfit.
        """
        parser = self.parser()
        arguments = parser.parse_args(words)
        try:
            result = self.measure(arguments)
        except HvaeCodecError as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return MISUSED
        machine = environment(*self.packages) | result.get("environment", {})
        result |= {"environment": machine}
        if arguments.json is not None:
            kept = {key: value for key, value in result.items() if not key.startswith("_")}
            write_json(arguments.json, kept)
            if self.draw is not None:
                self.draw(result, arguments.json.with_suffix(".png"))
        print("\n\n".join(text for table in self.tables if (text := table.text(result))))
        return FAILED if self.failed(result) else 0

"""What several subcommands share: parsers with examples, output, folders of files."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

import hvae_codec
from hvae_codec.errors import HvaeCodecError

Commands = Any
"""argparse's unnamed type of what `add_subparsers` returns."""

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
ENCODED_SUFFIX = ".hvae"


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    summary: str,
    example: str,
    json_output: bool = True,
) -> argparse.ArgumentParser:
    """A subcommand's parser whose help ends in an example."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    if json_output:
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """--model and --quality, as `hvae_codec.load` takes them."""
    parser.add_argument("--model", default="cifar10", help="a name that 'hvae-codec models' lists")
    parser.add_argument("--quality", type=int, default=None, help="its rung; default: a middle one")


def load(arguments: argparse.Namespace) -> hvae_codec.Codec:
    """The codec that --model and --quality name."""
    return hvae_codec.load(arguments.model, quality=arguments.quality)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2))


def positive_int(text: str) -> int:
    """argparse type: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def pairs(
    inputs: Iterable[Path], output: Path | None, suffixes: tuple[str, ...], new_suffix: str
) -> list[tuple[Path, Path]]:
    """Input files and where each one's result goes.

    A folder stands for the files below it with one of `suffixes`; results keep their place below
    the `output` folder (beside the input by default). One input file may name its output file.

    Raises:
        HvaeCodecError: an input is missing, a folder holds no such file, or two results would share
        a path.
    """
    found: list[tuple[Path, Path]] = []
    inputs = list(inputs)
    for path in inputs:
        if path.is_dir():
            files = sorted(
                f for f in path.rglob("*") if f.suffix.lower() in suffixes and f.is_file()
            )
            if not files:
                raise HvaeCodecError(f"{path} holds no file ending in {', '.join(suffixes)}")
            root = path if output is None else output
            found += [(f, (root / f.relative_to(path)).with_suffix(new_suffix)) for f in files]
        elif not path.exists():
            raise HvaeCodecError(f"{path} does not exist")
        elif output is None:
            found.append((path, path.with_suffix(new_suffix)))
        elif len(inputs) == 1 and not output.is_dir():
            found.append((path, output))
        else:
            found.append((path, output / path.with_suffix(new_suffix).name))
    targets = [target for _, target in found]
    if len(set(targets)) != len(targets):
        clash = next(target for target in targets if targets.count(target) > 1)
        raise HvaeCodecError(
            f"several inputs would be written to {clash}; give them another --output"
        )
    return found


def progress(work: list[tuple[Path, Path]], label: str) -> Iterator[tuple[Path, Path]]:
    """`work` behind a progress bar, when there is more than one file and somebody to see it."""
    yield from tqdm(work, desc=label, unit="file", disable=True if len(work) == 1 else None)

"""What several subcommands share: parsers with examples, types of arguments, output.

Modules of the command line import the library inside the functions that run: torch takes longer to
import than `--help` and a usage error should.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import hvae_codec
from hvae_codec.errors import HvaeCodecError, ImageError, UnknownQualityError
from hvae_codec.utils.atomic_files import replacing
from hvae_codec.utils.options import parse_whole

if TYPE_CHECKING:
    from hvae_codec.codec.images.conversions import Conversions

Commands = Any
"""argparse's unnamed type of what `add_subparsers` returns."""

KNOWN_SUFFIXES = frozenset(
    (
        *(".avif", ".bmp", ".gif", ".heic", ".jp2", ".jpeg", ".jpg", ".jxl", ".pgm", ".png"),
        *(".ppm", ".tif", ".tiff", ".webp"),
        *(".hvaa", ".hvae", ".npy", ".npz", ".pt", ".safetensors"),
        *(".csv", ".gz", ".json", ".jsonl", ".tar", ".tgz", ".zip"),
    )
)
"""Suffixes that say a format: a file with one of them holds nothing else."""

Declare = Callable[[argparse.ArgumentParser], None]


class CommandParser(argparse.ArgumentParser):
    """A subcommand's parser. Its arguments are declared when it is the one that is used, so that
    what one command's choices need to import costs the others nothing.
    """

    declare: Declare | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, after declaring the arguments."""
        if self.declare is not None:
            declare, self.declare = self.declare, None
            declare(self)
        return super().parse_known_args(args, namespace)


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    declare: Declare,
    *,
    summary: str,
    example: str,
    json_output: bool = True,
) -> None:
    """Add a subcommand whose help ends in an example; `declare` adds its arguments."""
    parser: CommandParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.declare = declare
    # For what the parser cannot see by itself: which arguments go together.
    parser.set_defaults(run=run, usage_error=parser.error)
    if json_output:
        parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_renamed(
    parser: argparse.ArgumentParser, flag: str, old: str, dest: str, **options: Any
) -> None:
    """Add a flag; its spelling of the last release, `old`, works on but is not in the help."""
    parser.add_argument(flag, dest=dest, **options)
    hidden = {**options, "default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    parser.add_argument(old, dest=dest, **hidden)


def add_model_arguments(parser: argparse.ArgumentParser, *, auto: bool = False) -> None:
    """--model and --quality, as `hvae_codec.load` takes them; `auto`: the model may be "auto"."""
    by_size = "photo for images of more than 64x64 pixels, cifar10 for smaller ones"
    parser.add_argument(
        "--model",
        default="auto" if auto else "cifar10",
        help="a name that 'hvae-codec models' lists; "
        + (f"default: {by_size}" if auto else "default: %(default)s"),
    )
    parser.add_argument(
        "--quality",
        type=quality,
        default=None,
        help="quality level of a model family, such as 3, or a point between two, such as 2.5; "
        "default: the middle one. Of the model photo 1 to 100; default: 50",
    )


def add_effort_argument(parser: argparse.ArgumentParser) -> None:
    """--effort, as `hvae_codec.load` takes it."""
    parser.add_argument(
        "--effort",
        type=int,
        choices=(0, 1, 2),
        help="encoder search of a model family: 0 none, 1 and 2 fewer bytes for more time; "
        "default: 0, or 1 where a size or a quality between levels is asked for",
    )


def add_conversion_arguments(parser: argparse.ArgumentParser) -> None:
    """--background and --convert-cmyk, for images that are refused otherwise."""
    parser.add_argument(
        "--background",
        metavar="COLOUR",
        help="lay images with alpha over an opaque colour instead of refusing them: white, "
        "'#rrggbb'",
    )
    parser.add_argument(
        "--convert-cmyk",
        action="store_true",
        help="convert CMYK images to sRGB, by their ICC profile if they have one, instead of "
        "refusing them",
    )


def conversions_of(arguments: argparse.Namespace) -> Conversions:
    """What `add_conversion_arguments` gave; a colour that is none is wrong usage."""
    from hvae_codec.codec.images.conversions import Conversions, parse_colour

    background = None
    if arguments.background is not None:
        try:
            background = parse_colour(arguments.background)
        except ImageError as error:
            arguments.usage_error(f"--background {error}")
    return Conversions(background, arguments.convert_cmyk)


def load(arguments: argparse.Namespace, model: str | None = None) -> hvae_codec.Codec:
    """The codec that --model, --quality and, where there is one, --effort name; or of `model`."""
    effort: int | None = getattr(arguments, "effort", None)
    name = arguments.model if model is None else model
    many = continuous(name)
    if effort and many:
        raise HvaeCodecError(
            f"model {name!r} has no --effort but 0; for other sizes give --quality, 1 to 100"
        )
    if effort == 0 and isinstance(arguments.quality, float) and not many:
        raise UnknownQualityError(
            f"quality {arguments.quality:g} lies between quality levels: effort 1 or 2"
        )
    return hvae_codec.load(name, quality=arguments.quality, effort=effort)


def continuous(model: str) -> bool:
    """Whether a model available of this name has all qualities from 1 to 100, and no effort."""
    return any(info.name == model and info.continuous for info in hvae_codec.models())


def path(text: str) -> Path:
    """argparse type: a path. An empty one, as of an unset shell variable, would be this folder."""
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty")
    return Path(text)


def positive_int(text: str) -> int:
    """argparse type: an integer of at least 1."""
    return parse_whole(1, text)


def positive_float(text: str) -> float:
    """argparse type: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a finite number above 0")
    return value


def quality(text: str) -> float:
    """argparse type: a quality level, int, or a number between two quality levels."""
    value = positive_float(text)
    return int(value) if value.is_integer() else value


def seed(text: str) -> int:
    """argparse type: a seed, 0 to 2^63 - 1."""
    value = parse_whole(0, text)
    if value >= 2**63:
        raise argparse.ArgumentTypeError(f"{text} is over 2^63 - 1")
    return value


def device(text: str) -> str:
    """argparse type: a device that PyTorch can compute on here."""
    import torch

    try:
        found = torch.device(text)
    except RuntimeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no device; allowed: cpu, cuda, cuda:1, ..."
        ) from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise argparse.ArgumentTypeError(
            f"no device {text} here: PyTorch sees {torch.cuda.device_count()}"
        )
    return text


def describe(error: Exception) -> str:
    """One line about an error: the file and the reason where the system refused one."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error) or type(error).__name__


def print_error(message: str) -> None:
    """One line on standard error, whatever line breaks the message has."""
    print(f"hvae-codec: error: {' '.join(message.splitlines())}", file=sys.stderr)


def print_warning(message: str) -> None:
    """As `print_error`, of what does not keep a command from doing its work."""
    print(f"hvae-codec: warning: {' '.join(message.splitlines())}", file=sys.stderr)


def print_json(value: Any) -> None:
    """One JSON document on standard output; numbers that are not finite become null."""
    print(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def require_file_path(output: Path) -> None:
    """Refuse, before any work is done, an output file that is a folder."""
    if output.is_dir():
        raise HvaeCodecError(f"{output} is a folder; --output must name a file")


def require_suffix(
    output: Path,
    allowed: Sequence[str],
    content: str,
    *,
    unknown: bool = False,
    otherwise: str = "",
) -> None:
    """Refuse, before any work is done, an output file whose name says another format.

    A name without a suffix says none, nor does that of a pipe, device or folder, nor, where
    `unknown` ones are taken, a suffix of no known format. `otherwise`: what else there may be.
    """
    suffix = output.suffix.lower()
    if suffix in (*allowed, "") or (unknown and suffix not in KNOWN_SUFFIXES):
        return
    if output.exists() and not output.is_file():
        return
    names = " or ".join(allowed)
    raise HvaeCodecError(f"{output}: {content} written as {names}{otherwise}; name --output so")


def require_folder_name(output: Path, content: str) -> None:
    """Refuse, before any work is done, a folder to make whose name says a file's format."""
    if output.suffix.lower() in KNOWN_SUFFIXES and not output.exists():
        raise HvaeCodecError(
            f"{output}: {content} written into a folder; name --output without {output.suffix}"
        )


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file as `output_file` does.

    Raises:
        HvaeCodecError: it cannot be written; the message says why.
    """
    with output_file(path) as file:
        file.write(data)


@contextmanager
def output_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that appears whole or not at all; makes the folders above it.

    A pipe or device is written to, not replaced; so is the file that a link leads to.

    Raises:
        HvaeCodecError: it cannot be written; the message says why.
    """
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        target = path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        # Not waiting for the disk: a folder may have very many small files.
        with replacing(target, durable=False) as file:
            yield file
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        reason = error.strerror if isinstance(error, OSError) else error
        raise HvaeCodecError(f"{path} cannot be written: {reason}") from error

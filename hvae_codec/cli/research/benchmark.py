"""`hvae-codec benchmark`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hvae_codec.cli.common import (
    Commands,
    add_command,
    path,
    positive_int,
    print_json,
    print_warning,
    require_folder_name,
)
from hvae_codec.utils.cores import available_cores

RESULT, PAGE = "result.json", "benchmark.html"


def add_commands(commands: Commands) -> None:
    """Add the subcommand."""
    add_command(
        commands,
        "benchmark",
        _benchmark,
        _benchmark_arguments,
        summary="measure bytes, quality and time against JPEG, WebP, AVIF, JPEG XL and JPEG 2000; "
        "run again, it goes on where it was",
        example="hvae-codec benchmark photos/ --count 24 --output runs/benchmark",
    )


def _benchmark_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        metavar="FOLDER|DATASET",
        help="folder of PNG, JPEG and WebP images, a pattern such as 'photos/a_*.jpg', or a data "
        "set, of which the test images are taken: cifar10, mnist, svhn",
    )
    parser.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="a name that 'hvae-codec models' lists, or auto; may be given several times; default: "
        "auto, photo, or cifar10 and cifar10-maps if no side is above 64 pixels",
    )
    parser.add_argument("--count", type=positive_int, help="only the first so many images")
    parser.add_argument(
        "--thorough",
        action="store_true",
        help="all settings, and the slowest efforts of AVIF and JPEG XL: hours for photographs",
    )
    parser.add_argument("--root", type=path, help="directory of the data")
    parser.add_argument(
        "--skip-bad-images",
        action="store_true",
        help="name and leave out images that cannot be read, have alpha or are too small",
    )
    parser.add_argument(
        "--workers", type=positive_int, help="processes, of one thread each; default: one a core"
    )
    parser.add_argument(
        "-o",
        "--output",
        dest="out",
        metavar="DIR",
        type=path,
        default=Path("benchmark"),
        help="folder of the points, the result and the page; default: %(default)s",
    )


def _benchmark(arguments: argparse.Namespace) -> int:
    require_folder_name(arguments.out, "a benchmark is")
    from hvae_codec.errors import EvaluationError
    from hvae_codec.evaluation.rate_distortion.comparison import Order, run_benchmark
    from hvae_codec.evaluation.rate_distortion.equal_bytes import views
    from hvae_codec.evaluation.rate_distortion.image_set import load_image_set
    from hvae_codec.reporting.rate_distortion import tables
    from hvae_codec.reporting.rate_distortion.page import make_page
    from hvae_codec.utils.atomic_files import locked, write_atomically

    if arguments.out.exists() and not arguments.out.is_dir():
        raise EvaluationError(f"{arguments.out} is a file; --output must name a folder")
    images = load_image_set(
        arguments.images,
        arguments.count,
        arguments.root,
        skip=print_warning if arguments.skip_bad_images else None,
    )
    workers = arguments.workers or available_cores()
    order = Order(tuple(arguments.model or ("auto",)), arguments.thorough, workers)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with locked(arguments.out, EvaluationError):
        result, curves = run_benchmark(images, order, arguments.out, _say)
        shown = views(images, curves, arguments.out, workers=workers)
        text = json.dumps(result, indent=2, allow_nan=False) + "\n"
        write_atomically(arguments.out / RESULT, text.encode())
        write_atomically(arguments.out / PAGE, make_page(result, shown).encode())
    if arguments.json:
        print_json(result | {"page": str(arguments.out / PAGE)})
        return 0
    print(tables.summary(result))
    for table in (tables.bd_rate_table(result), *tables.equal_psnr_tables(result)):
        if table.rows:
            print("\n" + tables.as_text(table))
    print()
    for name, why in result["left_out"].items():
        print(f"left out: {name}: {why}")
    print(f"all points: {arguments.out / RESULT}; open {arguments.out / PAGE}")
    return 0


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)

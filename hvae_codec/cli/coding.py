"""`hvae-codec encode` and `hvae-codec decode`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hvae_codec
from hvae_codec.cli.common import (
    ENCODED_SUFFIX,
    PICTURE_SUFFIXES,
    Commands,
    add_command,
    add_model_arguments,
    load,
    pairs,
    print_json,
    progress,
    write_bytes,
)
from hvae_codec.codec.images import as_uint8, encode_png
from hvae_codec.errors import HvaeCodecError
from hvae_codec.evaluation.quality import psnr_db


def add_commands(commands: Commands) -> None:
    """Add both subcommands."""
    encode = add_command(
        commands,
        "encode",
        _encode,
        summary="encode pictures into .hvae files",
        example="hvae-codec encode photo.png thumbnails/ --quality 4 --output encoded/",
    )
    encode.add_argument("inputs", nargs="+", type=Path, help="pictures, or folders of pictures")
    encode.add_argument(
        "-o", "--output", type=Path, help="file or folder; default: beside the input"
    )
    encode.add_argument("--psnr", action="store_true", help="decode again and report the PSNR")
    add_model_arguments(encode)
    decode = add_command(
        commands,
        "decode",
        _decode,
        summary="decode .hvae files into PNG pictures",
        example="hvae-codec decode encoded/ --output decoded/",
    )
    decode.add_argument("inputs", nargs="+", type=Path, help=".hvae files, or folders of them")
    decode.add_argument(
        "-o", "--output", type=Path, help="file or folder; default: beside the input"
    )
    decode.add_argument("--preview", action="store_true", help="decode z2 alone")


def _encode(arguments: argparse.Namespace) -> int:
    codec = load(arguments)
    work = pairs(arguments.inputs, arguments.output, PICTURE_SUFFIXES, ENCODED_SUFFIX)

    def encode_one(source: Path, target: Path) -> dict[str, Any]:
        picture = as_uint8(source)
        blob = codec.encode(picture)
        write_bytes(target, blob)
        height, width = picture.shape[:2]
        row: dict[str, Any] = {
            "input": str(source),
            "output": str(target),
            "width": width,
            "height": height,
            "file_bytes": len(blob),
            "bits_per_pixel": round(8 * len(blob) / (width * height), 4),
        }
        if arguments.psnr:
            row["psnr_db"] = round(psnr_db(codec.reference(picture), codec.decode(blob)), 3)
        return row

    return _each(work, "encoding", encode_one, _encode_line, arguments.json)


def _encode_line(row: dict[str, Any]) -> str:
    line = f"{row['input']} -> {row['output']}: {row['width']}x{row['height']}, "
    line += f"{row['file_bytes']} bytes, {row['bits_per_pixel']:.3f} bits/pixel"
    return line + (f", {row['psnr_db']:.2f} dB" if "psnr_db" in row else "")


def _decode(arguments: argparse.Namespace) -> int:
    work = pairs(arguments.inputs, arguments.output, (ENCODED_SUFFIX,), ".png")

    def decode_one(source: Path, target: Path) -> dict[str, Any]:
        blob = source.read_bytes()
        codec = hvae_codec.codec_for(blob)
        picture = codec.preview(blob) if arguments.preview else codec.decode(blob)
        write_bytes(target, encode_png(picture))
        height, width = picture.shape[:2]
        return {"input": str(source), "output": str(target), "width": width, "height": height}

    return _each(work, "decoding", decode_one, _decode_line, arguments.json)


def _decode_line(row: dict[str, Any]) -> str:
    return f"{row['input']} -> {row['output']}: {row['width']}x{row['height']}"


def _each(
    work: list[tuple[Path, Path]],
    label: str,
    one: Callable[[Path, Path], dict[str, Any]],
    line: Callable[[dict[str, Any]], str],
    as_json: bool,
) -> int:
    """Run `one` on every pair; a bad file is reported and the others are still done."""
    rows: list[dict[str, Any]] = []
    failures = 0
    start = time.perf_counter()
    for source, target in progress(work, label):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            rows.append(one(source, target))
        except (HvaeCodecError, OSError) as error:
            failures += 1
            print(f"hvae-codec: error: {source}: {error}", file=sys.stderr)
    if as_json:
        print_json(rows)
    elif len(work) == 1:
        for row in rows:
            print(line(row))
    else:
        total = sum(row.get("file_bytes", 0) for row in rows)
        size = f", {total} bytes" if total else ""
        print(f"{len(rows)} files{size} in {time.perf_counter() - start:.1f} s, {failures} failed")
    return 1 if failures else 0

"""`hvae-codec pack`: images into a `.hvaa` archive, on this machine or on a Ray cluster."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import hvae_codec
from hvae_codec.cli.common import (
    Commands,
    add_command,
    add_conversion_arguments,
    add_effort_argument,
    add_model_arguments,
    conversions_of,
    load,
    path,
    positive_int,
    print_json,
    require_suffix,
)
from hvae_codec.cli.jobs.archive_files import open_archive, open_writer
from hvae_codec.cli.jobs.models import one_model
from hvae_codec.cli.jobs.pack_progress import Bar, Failure
from hvae_codec.cli.jobs.pack_sources import (
    Source,
    array_sources,
    find_pictures,
    folder_classes,
    picture_sources,
)
from hvae_codec.errors import HvaeCodecError

if TYPE_CHECKING:
    from hvae_codec.utils.executors.ray import RayExecutor


def add_pack(commands: Commands) -> None:
    """Add the subcommand."""
    add_command(
        commands,
        "pack",
        _pack,
        _pack_arguments,
        summary="pack images into a .hvaa archive",
        example="hvae-codec pack thumbnails/ --output pictures.hvaa",
    )


def _pack_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs",
        nargs="*",
        type=path,
        help="images, folders of them, patterns such as 'a/*.png', or .npy arrays uint8 "
        "[N, H, W, C]",
    )
    parser.add_argument("--data", help="a data set by name, for example cifar10 or folder:PATH")
    parser.add_argument("--split", default="test", help="of the data set; default: %(default)s")
    parser.add_argument("-o", "--output", type=path, required=True, help="the archive to write")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--append", action="store_true", help="add to the archive that is there")
    existing.add_argument("--replace", action="store_true", help="replace a file that is there")
    parser.add_argument(
        "--no-names", action="store_true", help="do not store the names of files: fewer bytes"
    )
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument(
        "--no-labels",
        action="store_true",
        help="do not store the labels of --data: a byte less per image",
    )
    labels.add_argument(
        "--folder-labels",
        action="store_true",
        help="label images with the numbers of their class folders, a/cat/x.png, in the order of "
        "their names, as torchvision's ImageFolder does",
    )
    parser.add_argument(
        "--shards",
        type=positive_int,
        metavar="N",
        help="write N archives with equal shares of the images, in order: a.hvaa becomes "
        "a-00000-of-00004.hvaa and so on",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="where images are coded: in this process, or, the same bytes, on the Ray cluster of "
        "RAY_ADDRESS, whose machines see the files under the same paths; without RAY_ADDRESS "
        "on one that is started here",
    )
    add_conversion_arguments(parser)
    add_model_arguments(parser, auto=True)
    add_effort_argument(parser)


def _pack(arguments: argparse.Namespace) -> int:
    output: Path = arguments.output
    # What is appended to is an archive or not, whatever its name.
    if not (arguments.append and _shard_path(output, 0, arguments.shards or 1).exists()):
        require_suffix(output, (".hvaa",), "archives are", unknown=True)
    conversions = conversions_of(arguments)
    if arguments.folder_labels and arguments.append:
        arguments.usage_error("--folder-labels numbers the folders of one run: without --append")
    found = find_pictures(arguments.inputs)
    classes = folder_classes(found, arguments.inputs) if arguments.folder_labels else None
    named = not arguments.no_names
    sources = picture_sources(found, conversions, named=named, classes=classes)
    if arguments.data is not None:
        from hvae_codec.data import load_dataset

        data = load_dataset(arguments.data, arguments.split)
        labels = None if arguments.no_labels else data.labels
        sources += array_sources(data.images, labels=labels)
    if not sources:
        raise HvaeCodecError("nothing to pack: give images or --data")
    shards = arguments.shards or 1
    if shards > len(sources):
        raise HvaeCodecError(f"--shards {shards}: there are {len(sources)} images alone")
    codec = _codec(arguments, sources, shards)
    mode = "append" if arguments.append else "replace" if arguments.replace else "new"
    rows = []
    with _executor(arguments.engine) as executor:
        for number in range(shards):
            share = slice(len(sources) * number // shards, len(sources) * (number + 1) // shards)
            output = _shard_path(arguments.output, number, shards)
            rows.append(_pack_one(arguments, codec, sources[share], output, mode, executor))
    more = {} if classes is None else {"classes": list(classes)}
    if arguments.json:
        print_json((rows[0] if arguments.shards is None else {"archives": rows}) | more)
    elif classes is not None:
        print(f"labels: {', '.join(f'{number} {name}' for name, number in classes.items())}")
    return 1 if any(row["failed"] for row in rows) else 0


def _codec(
    arguments: argparse.Namespace, sources: Sequence[Source], shards: int
) -> hvae_codec.Codec:
    """The codec of all images: named, of the archive that is appended to, or by their sizes.

    The model and quality that it is of are noted in `arguments`.
    """
    from hvae_codec.codec.model_choice import AUTO
    from hvae_codec.codec.registry import info_of

    existing = _shard_path(arguments.output, 0, shards)
    if arguments.append and arguments.model == AUTO and existing.exists():
        with open_archive(existing) as archive:
            info = info_of(bytes.fromhex(archive.info.model_id))
        arguments.model = info.name
        if arguments.quality is None:
            arguments.quality = info.quality
    arguments.model = one_model(arguments, (source.size() for source in sources))
    return load(arguments)


def _executor(engine: str) -> AbstractContextManager[RayExecutor | None]:
    """For all shards together: joining or starting a cluster takes seconds."""
    if engine == "local":
        return nullcontext()
    from hvae_codec.utils.executors.ray import RayExecutor

    return RayExecutor()


def _pack_one(
    arguments: argparse.Namespace,
    codec: hvae_codec.Codec,
    sources: Sequence[Source],
    output: Path,
    mode: str,
    executor: RayExecutor | None,
) -> dict[str, object]:
    """Write one archive; what it holds then."""
    # What a cluster codes is no work of this process that its death should spare.
    whole = executor is not None and mode == "new"
    labels = any(source.label is not None for source in sources)
    with open_writer(output, codec, mode, labels=labels, whole=whole) as writer:
        before = len(writer)
        if executor is not None:
            from hvae_codec.cli.jobs.pack_ray import pack_on_ray

            wanted = (arguments.model, arguments.quality, arguments.effort)
            failed = pack_on_ray(writer, sources, codec, wanted, executor)
        else:
            failed = _add_all(writer, sources)
        added = len(writer) - before
    with open_archive(output) as archive:
        info = archive.info
    if not arguments.json:
        each = f", {info.file_bytes / info.pictures:.1f} each" if info.pictures else ""
        total = f"{info.pictures} images in {info.file_bytes} bytes{each}"
        print(f"{output}: {added} added, {len(failed)} failed; {total}")
    return {
        "output": str(output),
        "added": added,
        "failed": [{"input": one.label, "error": one.message} for one in failed],
        "pictures": info.pictures,
        "file_bytes": info.file_bytes,
        "block_file_bytes": info.block_file_bytes,
        "model_id": info.model_id,
    }


def _shard_path(output: Path, number: int, shards: int) -> Path:
    if shards == 1:
        return output
    return output.with_name(f"{output.stem}-{number:05}-of-{shards:05}{output.suffix}")


def _add_all(writer: hvae_codec.ArchiveWriter, sources: Sequence[Source]) -> list[Failure]:
    """Add every image; say which could not be, and why."""
    with Bar(len(sources)) as bar:
        for source in sources:
            try:
                writer.add(source.picture(), source.name, source.label)
            except HvaeCodecError as error:
                bar.fail(Failure.of(source.shown, error))
            bar.update()
    return bar.failed

"""Writes the golden files of models that have none yet; never changes one that is there.

    python tests/golden/write.py

For each shipped model: a file of one tile and one of a tiled picture, cut from scikit-learn's china
photograph, the symbols they must decode to and the pictures they decoded to when they were written.
(The pictures of tiled files are of the seam softening of today, which is no part of the format.)
A change of format or checkpoint needs a new version or name, and so new files beside the old ones.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

import hvae_codec

HERE = Path(__file__).parent
TILED = (40, 70)
ARCHIVES = {1: HERE / "archive-v1", 2: HERE / "archive-v2"}
ARCHIVE_NAMES = ["sky.png", "roof/1.png", None, "roof/2.png", "grau-ä.png"]
ARCHIVE_LABELS = [3, None, -70_000, {"class": "grau-ä", "box": [0, 1.5]}, 0]


def symbols_hash(symbols):
    """SHA-256 of the symbols as little-endian int32, layer after layer, tile after tile."""
    digest = hashlib.sha256()
    for layer in symbols:
        digest.update(np.ascontiguousarray(layer, dtype="<i4").tobytes())
    return digest.hexdigest()


def picture_symbols(archive):
    """The hash of the symbols of every picture of an archive, by number."""
    found = {}
    wanted = archive._index.by_entry(archive.path, np.arange(len(archive)))
    for batch in (batch for some in archive._batches(wanted, None) for batch in some):
        for row, number in enumerate(batch.numbers):
            found[int(number)] = symbols_hash(batch.select([row]).rows())
    return [found[number] for number in sorted(found)]


def write_archive(china, version):
    """An archive of three blocks, the last of two sizes, one of them grey and tiled; version 2 is
    of the same images, with labels.
    """
    path = ARCHIVES[version].with_suffix(".hvaa")
    labels = ARCHIVE_LABELS if version == 2 else [None] * len(ARCHIVE_NAMES)
    pictures = [china[y : y + 32, 300:332] for y in (0, 200, 230, 260)]
    pictures.append(china[200:240, 300:370, :1])
    codec = hvae_codec.load("cifar10", quality=1)
    with hvae_codec.ArchiveWriter(path, codec, block_tiles=2, labels=version == 2) as writer:
        writer.extend(pictures[:3], ARCHIVE_NAMES[:3], labels[:3])
        writer.flush()
        writer.extend(pictures[3:], ARCHIVE_NAMES[3:], labels[3:])
    with hvae_codec.Archive(path) as archive:
        for number, picture in enumerate(archive if version == 1 else []):
            Image.fromarray(picture.squeeze()).save(HERE / f"{path.stem}-{number}.png")
        content = {
            "model_id": archive.info.model_id,
            "blocks": [[block.start, block.stop] for block in archive.blocks],
            "pictures": [[p.name, p.height, p.width, p.channels] for p in archive.listing()],
            "symbols_sha256": picture_symbols(archive),
        }
        archive_labels = archive.labels
    if version == 2:
        content["labels"] = archive_labels
    path.with_suffix(".json").write_text(json.dumps(content, ensure_ascii=False) + "\n")
    print(path.name)


def main():
    china = load_sample_image("china.jpg")
    for version, path in ARCHIVES.items():
        if not path.with_suffix(".json").exists():
            write_archive(china, version)
    for info in hvae_codec.models():
        codec = hvae_codec.load(info.name, quality=info.quality)
        channels, height, width = info.image_shape
        for kind, (rows, columns) in {"tile": (height, width), "tiled": TILED}.items():
            stem = HERE / f"{info.name}-q{info.quality}-{info.model_id}-{kind}"
            if stem.with_suffix(".json").exists():
                continue
            picture = np.ascontiguousarray(china[100 : 100 + rows, 300 : 300 + columns, :channels])
            blob = codec.encode(picture)
            symbols = codec.symbols([blob])
            stem.with_suffix(".hvae").write_bytes(blob)
            decoded = codec.decode(blob)
            Image.fromarray(decoded.squeeze()).save(stem.with_suffix(".png"))
            content = {
                "symbols_sha256": symbols_hash(symbols),
                "first_symbols": [layer[0, :8].tolist() for layer in symbols],
            }
            stem.with_suffix(".json").write_text(json.dumps(content) + "\n")
            print(stem.name)


if __name__ == "__main__":
    main()

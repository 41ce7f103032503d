"""Do the golden files decode to the symbols and images that they stand for, with this torch?

    python benchmarks/codec/golden_files.py tests/golden [--json F]

Needs the installed package alone, so that benchmarks/second_torch.sh can run it in an environment
with another version of torch. Exits with 1 if a symbol differs or an image by more than 1 grey
level (2 where seams were softened, which may double it).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import hvae_codec
from hvae_codec import ops


def compare(folder: Path) -> dict[str, Any]:
    """Files decoded, files whose symbols differ, and by how much images differ."""
    names, unequal = [], []
    largest = {"tile": 0, "tiled": 0}
    differing = samples = 0
    for path in sorted(folder.glob("*.hvae")):
        blob = path.read_bytes()
        codec = hvae_codec.codec_for(blob)
        expected = json.loads(path.with_suffix(".json").read_text())
        digest = hashlib.sha256()
        for layer in codec.symbols([blob]):
            digest.update(np.ascontiguousarray(layer, dtype="<i4").tobytes())
        names.append(path.stem)
        if digest.hexdigest() != expected["symbols_sha256"]:
            unequal.append(path.stem)
        picture = np.asarray(Image.open(path.with_suffix(".png"))).astype(int)
        difference = np.abs(codec.decode(blob).squeeze().astype(int) - picture)
        kind = path.stem.rpartition("-")[2]
        largest[kind] = max(largest[kind], int(difference.max()))
        differing += int((difference > 0).sum())
        samples += difference.size
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
        "kernels": "compiled" if ops.extension_available() else "plain PyTorch",
        "files": len(names),
        "files_with_other_symbols": unequal,
        "largest_difference_grey_levels": largest,
        "differing_samples_per_10000": 1e4 * differing / samples,
    }


def main() -> int:
    """Compare, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where the golden files are")
    parser.add_argument("--json", type=Path, help="write the result here")
    arguments = parser.parse_args()
    result = compare(arguments.folder)
    print(json.dumps(result, indent=2))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    largest = result["largest_difference_grey_levels"]
    fine = result["files"] and not result["files_with_other_symbols"]
    return int(not fine or largest["tile"] > 1 or largest["tiled"] > 2)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env bash
# A `map` of Hugging Face's datasets that changes a label and returns the whole row codes its JPEG
# images again, at quality 75.
#
# A column of type Image is decoded for the function of `map`. What it returns is encoded: an image
# that was opened from bytes and is not changed keeps its format, so it is saved as JPEG with Pillow's
# defaults, quality 75 and halved colour, whatever the quality of the original. Nothing is said, and
# the data set that is saved afterwards holds the worse images. A row returned without its image column
# keeps the bytes, as does a column of Image(decode=False).
#
# Seen with datasets 5.2.0, Pillow 13.0.0, a JPEG file of quality 95, {**row, "label": 2} returned:
#   1,675 bytes became 1,301, pixels differ by up to 9; {"label": 2} returned, or decode=False: same bytes
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pillow==13.0.0 numpy==2.3.4
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import io
import sys
from importlib.metadata import version

import datasets
import numpy as np
from PIL import Image

print("datasets", version("datasets"), "Pillow", version("pillow"))
datasets.disable_progress_bars()
x = np.tile(np.linspace(0, 255, 64), (48, 1))[..., None].repeat(3, 2).astype(np.uint8)
x[::2] = 255 - x[::2]
file = io.BytesIO()
Image.fromarray(x).save(file, "JPEG", quality=95)
original = file.getvalue()
rows = datasets.Dataset.from_dict({"image": [{"bytes": original, "path": None}], "label": [1]})
rows = rows.cast_column("image", datasets.Image())
encoded = datasets.Image(decode=False)


def bytes_after(rows, function):
    return rows.map(function).cast_column("image", encoded)[0]["image"]["bytes"]


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


whole = bytes_after(rows, lambda row: {**row, "label": 2})
label = bytes_after(rows, lambda row: {"label": 2})
undecoded = bytes_after(rows.cast_column("image", encoded), lambda row: {**row, "label": 2})
most = np.abs(pixels(whole) - pixels(original)).max()
print(f"whole row: {len(original):,} bytes became {len(whole):,}, pixels differ by up to {most}")
print("label alone: same bytes", label == original)
print("whole row, decode=False: same bytes", undecoded == original)
described = whole != original and most > 0 and label == undecoded == original
print("as described" if described else "the behaviour has changed")
sys.exit(not described)
PYTHON

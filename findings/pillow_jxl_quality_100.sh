#!/usr/bin/env bash
# pillow-jxl-plugin cannot save at quality 100, the top of its own scale.
#
# `save(quality=100)` raises RuntimeError "The encoder API is used in an incorrect way": quality 100
# is distance 0, which libjxl takes only together with its lossless switch. 99.9 works, and so does
# `lossless=True`. `exif` must be bytes: the `Image.Exif` that Pillow's own formats take ends with an
# AttributeError.
#
# Seen with pillow-jxl-plugin 1.3.8, Pillow 13.0.0:
#   quality 99.9: saved, 100: RuntimeError, lossless: saved, exif=Image.Exif(): AttributeError
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow-jxl-plugin==1.3.8 pillow==13.0.0 numpy==2.3.4
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import io
import sys
from importlib.metadata import version

import numpy as np
import pillow_jxl  # noqa: F401
from PIL import Image

print("pillow-jxl-plugin", version("pillow-jxl-plugin"), "Pillow", version("pillow"))
image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
exif = Image.Exif()
exif[0x010F] = "maker"


def outcome(**settings):
    file = io.BytesIO()
    try:
        image.save(file, "JXL", **settings)
    except Exception as error:
        return type(error).__name__
    return "saved"


found = {
    "quality 99.9": outcome(quality=99.9),
    "quality 100": outcome(quality=100),
    "lossless": outcome(lossless=True),
    "exif=Image.Exif()": outcome(exif=exif),
    "exif=bytes": outcome(exif=exif.tobytes()),
}
for what, how in found.items():
    print(f"{what}: {how}")
described = list(found.values()) == ["saved", "RuntimeError", "saved", "AttributeError", "saved"]
print("as described" if described else "the behaviour has changed")
sys.exit(not described)
PYTHON

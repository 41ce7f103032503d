#!/usr/bin/env bash
# pillow-jxl-plugin saves the JPEG file that an image was opened from, not the image.
#
# `save` of an image whose format is JPEG and that has a filename reads that file again and stores
# its recompressed data. Pillow's changes in place keep format and filename: after `thumbnail`, `paste`,
# `putpixel` or a drawing, the .jxl file holds the picture as it was before them, at its full size,
# and `quality` has no effect. There is a warning that the JPEG is reconstructed, none that edits are
# lost. If another program has replaced the JPEG meanwhile, its picture is saved. `lossless_jpeg=False`
# saves the pixels, as does an image that was opened from a file object.
#
# Seen with pillow-jxl-plugin 1.3.8, Pillow 13.0.0:
#   thumbnail of 16x12, by path: 64x48 saved; lossless_jpeg=False: 16x12; opened as a file object: 16x12
#   painted black in place: mean level 127 saved of 0
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow-jxl-plugin==1.3.8 pillow==13.0.0 numpy==2.3.4
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import io
import sys
from importlib.metadata import version

import numpy as np
import pillow_jxl  # noqa: F401
from PIL import Image

print("pillow-jxl-plugin", version("pillow-jxl-plugin"), "Pillow", version("pillow"))
x = np.tile(np.linspace(0, 255, 64), (48, 1))[..., None].repeat(3, 2).astype(np.uint8)
Image.fromarray(x).save("photo.jpg", quality=95)


def saved(image, **settings):
    file = io.BytesIO()
    image.save(file, "JXL", **settings)
    return Image.open(io.BytesIO(file.getvalue()))


def thumbnail(source):
    image = Image.open(source)
    image.thumbnail((16, 12))
    assert image.size == (16, 12)
    return image


by_path = saved(thumbnail("photo.jpg")).size
pixels = saved(thumbnail("photo.jpg"), lossless_jpeg=False).size
with open("photo.jpg", "rb") as file:
    by_object = saved(thumbnail(file)).size
print(f"thumbnail of 16x12: by path {by_path}, lossless_jpeg=False {pixels}, by object {by_object}")
painted = Image.open("photo.jpg")
painted.paste((0, 0, 0), (0, 0, *painted.size))
level = np.asarray(saved(painted)).mean()
print(f"painted black: mean level {np.asarray(painted).mean():.0f} became {level:.0f}")
described = by_path == (64, 48) and pixels == by_object == (16, 12) and level > 100
print("as described" if described else "the behaviour has changed")
sys.exit(not described)
PYTHON

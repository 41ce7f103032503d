#!/usr/bin/env bash
# Pillow's AVIF files have other bytes with one thread than with several, at equal settings.
#
# `Image.save(format="AVIF")` takes the number of processors as `max_threads` unless told. libaom
# makes other decisions with one thread than with several, so one image, quality and speed give files
# of other sizes on a machine of one processor. Two and four threads agree. The difference is below
# 1 % and has both signs. Sizes of AVIF can be compared only where the thread count is stated.
#
# Seen with Pillow 13.0.0, libavif 1.4.2:
#   1024x768: 30170 bytes by 1 thread, 30157 by 2, 30157 by 4
#   512x384: 2962 bytes by 1 thread, 2969 by 2, 2969 by 4
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 numpy==2.3.4
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import numpy as np
from PIL import Image, features

print("Pillow", Image.__version__, "libavif", features.version("avif"))
y, x = np.mgrid[:768, :1024]
noise = np.random.default_rng(0).normal(0, 6, y.shape)
grey = 127 + 60 * np.sin(x / 37) + 40 * np.cos(y / 23) + noise
pixels = (grey[..., None] * np.array([1.0, 0.9, 0.8])).clip(0, 255).astype(np.uint8)
image = Image.fromarray(pixels)


def encode(image, threads):
    file = io.BytesIO()
    image.save(file, "AVIF", quality=50, speed=6, max_threads=threads)
    return file.getvalue()


described = True
for size in ((1024, 768), (512, 384)):
    scaled = image.resize(size)
    one, two, four = (encode(scaled, threads) for threads in (1, 2, 4))
    print(f"{size[0]}x{size[1]}: {len(one)} bytes by 1 thread, {len(two)} by 2, {len(four)} by 4")
    described &= one == encode(scaled, 1) and two == four and one != two
print("as described" if described else "the behaviour has changed")
sys.exit(not described)
PYTHON

#!/usr/bin/env bash
# SSIMULACRA2 of an image with a side below 225 pixels is on another scale: 84 instead of 63.
#
# The score is a sum over 3 channels, 6 scales and 6 values, with 108 trained weights. Scales stop
# where a side gets below 8 pixels, so images with a side below 225 have fewer than 6. The weights
# are taken one after another for the scales that there are: from the second channel on, each value
# meets a weight that was trained for another channel, scale or error. There is no warning. One row
# less changes the score of one and the same distortion by 21 points, more than from "medium" to
# "high" quality on its own scale. At 112 and 56 pixels it jumps again. Scores of such images can be
# compared with none of a larger image, and say little of the quality.
#
# The package follows the C++ of the metric's authors (cloudinary/ssimulacra2), whose loop is alike.
#
# Seen with ssimulacra2 0.3.0 (Python), crops of one image and its JPEG of quality 40:
#   256: 63.3   226: 63.3   225: 62.6   224: 83.9   128: 84.3   112: 72.7   56: 77.8
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ssimulacra2==0.3.0 pillow==13.0.0 numpy==2.3.4
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys
from importlib.metadata import version

import numpy as np
from PIL import Image
from ssimulacra2 import compute_ssimulacra2

print("ssimulacra2", version("ssimulacra2"))
y, x = np.mgrid[:256, :256]
grey = 127 + 60 * np.sin(x / 17) + 40 * np.cos(y / 13)
grey += np.random.default_rng(0).normal(0, 6, y.shape)
image = Image.fromarray((grey[..., None] * [1.0, 0.9, 0.8]).clip(0, 255).astype(np.uint8))


def saved(image, name, **settings):
    file = io.BytesIO()
    image.save(file, name, **settings)
    file.seek(0)
    return file


decoded = Image.open(saved(image, "JPEG", quality=40)).convert("RGB")
scores = {}
for side in (256, 226, 225, 224, 128, 112, 56):
    pair = [saved(whole.crop((0, 0, side, side)), "PNG") for whole in (image, decoded)]
    scores[side] = compute_ssimulacra2(*pair)
    print(f"{side}x{side}: {scores[side]:.1f}")
described = abs(scores[256] - scores[225]) < 2 and scores[224] - scores[225] > 15
described &= scores[128] - scores[112] > 8
print("as described" if described else "the behaviour has changed")
sys.exit(not described)
PYTHON

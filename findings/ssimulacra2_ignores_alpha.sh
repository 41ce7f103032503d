#!/usr/bin/env bash
# The Python package ssimulacra2 ignores alpha: an opaque and an invisible image score 100.
#
# `compute_ssimulacra2_with_alpha` scores an RGBA image before a dark and before a light background
# and returns the worse. But both scores come from `compute_ssimulacra2`, which converts files to RGB
# as it reads them: alpha is dropped, nothing is blended, and the two scores are the same. Two images
# that differ in alpha alone score 100, "mathematically lossless", though no pixel looks alike. An
# RGBA original against an opaque decoded image is scored by colours that nobody sees.
#
# Seen with ssimulacra2 0.3.0:
#   alpha 255 against alpha 0: 100.0, by compute_ssimulacra2_with_alpha
#   the same two images blended before black: -509.6
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ssimulacra2==0.3.0 pillow==13.0.0 numpy==2.3.4
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from PIL import Image
from ssimulacra2 import compute_ssimulacra2_with_alpha

print("ssimulacra2", version("ssimulacra2"))
pixels = np.random.default_rng(0).integers(64, 256, (256, 256, 3), dtype=np.uint8)
opaque = Image.fromarray(pixels).convert("RGBA")
invisible = opaque.copy()
invisible.putalpha(0)
black = Image.new("RGBA", opaque.size, (0, 0, 0, 255))
for name, image in (("opaque", opaque), ("invisible", invisible)):
    image.save(f"{name}.png")
    Image.alpha_composite(black, image).save(f"{name}-blended.png")
raw = compute_ssimulacra2_with_alpha("opaque.png", "invisible.png")
blended = compute_ssimulacra2_with_alpha("opaque-blended.png", "invisible-blended.png")
print(f"alpha 255 against alpha 0: {raw:.1f}; blended before black: {blended:.1f}")
described = raw == 100.0 and blended < 30
print("as described" if described else "the behaviour has changed")
sys.exit(not described)
PYTHON

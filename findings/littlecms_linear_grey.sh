#!/usr/bin/env bash
# LittleCMS, as Pillow calls it, converts 8-bit grey of a linear profile to sRGB far too dark in the
# shadows, unless the transform is built with NOOPTIMIZE.
#
# A grey ICC profile whose tone curve is linear is converted to sRGB. For level 5 of 255 the linear
# value is 0.0196, which is 38 of 255 in sRGB (IEC 61966-2-1). By default the transform gives 31: it
# is optimised by a table too coarse for so steep a curve. With NOOPTIMIZE it gives 38.
#
# Seen with Pillow 13.0.0, LittleCMS 2.19:
#   level 5 becomes 31 by default and 38 with NOOPTIMIZE; largest error 9.7 and 0.5 levels
#
# Exit status 0: as described. 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0
"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct
import sys

from PIL import Image, ImageCms, features

print("Pillow", Image.__version__, "LittleCMS", features.version("littlecms2"))


def grey_profile():
    """ICC version 4: a white point (D50) and a linear curve."""
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"para" + bytes(4) + struct.pack(">HHi", 0, 0, 65536)  # y = x ^ 1.0
    start = 132 + 2 * 12
    tags = struct.pack(">I", 2)
    tags += b"wtpt" + struct.pack(">II", start, len(white))
    tags += b"kTRC" + struct.pack(">II", start + len(white), len(curve))
    head = struct.pack(">I4xI", start + len(white) + len(curve), 0x04300000)
    head += b"mntrGRAYXYZ " + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return head + tags + white + curve


def srgb_level(level):
    """IEC 61966-2-1 of a linear level."""
    linear = level / 255
    encoded = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return 255 * encoded


greys = Image.frombytes("L", (256, 1), bytes(range(256)))
errors = {}
for name, flags in (("by default", 0), ("NOOPTIMIZE", ImageCms.Flags.NOOPTIMIZE)):
    profile = ImageCms.ImageCmsProfile(io.BytesIO(grey_profile()))
    transform = ImageCms.buildTransform(
        profile, ImageCms.createProfile("sRGB"), "L", "RGB", flags=flags
    )
    found = ImageCms.applyTransform(greys, transform).tobytes()[::3]
    errors[name] = max(abs(level - srgb_level(i)) for i, level in enumerate(found))
    print(f"{name}: level 5 becomes {found[5]}, sRGB is {srgb_level(5):.1f}; "
          f"largest error {errors[name]:.1f} levels")
described = errors["by default"] > 5 and errors["NOOPTIMIZE"] <= 1.5
print("as described" if described else "the behaviour has changed")
sys.exit(not described)
PYTHON

"""Writes the golden files of a tiny integer model; never changes those that are there.

    python -m tests.golden.integers.write

The model itself is among them, as its conversion is of floats. A change of arithmetic or format
needs a folder of its own beside this one.
"""

from pathlib import Path

import numpy as np
from PIL import Image

import hvae_codec
from tests.codec.fully_convolutional.models import save_integers, waves

HERE = Path(__file__).parent
MODEL = HERE / "integers.safetensors"
FILES = {"colour-q50": (50, 3), "grey-q1": (1, 1), "colour-q100": (100, 3)}
"""Quality and channels of each."""


def main():
    if MODEL.exists():
        print(f"{MODEL} is there")
        return
    save_integers(HERE / "even.safetensors")
    for suffix in (".safetensors", ".json"):
        (HERE / f"even{suffix}").unlink()
    codec = hvae_codec.load_file(MODEL)
    for seed, (stem, (quality, channels)) in enumerate(FILES.items()):
        picture = waves(77, 45, channels, seed=seed)
        blob = codec.at_quality(quality).encode(picture)
        (HERE / f"{stem}.hvae").write_bytes(blob)
        for kind, pixels in (("source", picture), ("decoded", codec.decode(blob))):
            Image.fromarray(np.squeeze(pixels)).save(HERE / f"{stem}-{kind}.png")


if __name__ == "__main__":
    main()

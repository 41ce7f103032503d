"""Transparency that only a palette states: refused in whatever way the image came by it."""

import io

import numpy as np
import pytest
from PIL import Image

import hvae_codec.pillow_plugin
from hvae_codec.codec.images.load import as_batch, as_uint8
from hvae_codec.errors import AlphaError

assert hvae_codec.pillow_plugin


def rgba(alpha=None):
    y, x = np.mgrid[:32, :32]
    planes = [x * 8, y * 8, x * 0 + 50, (x > 16) * 255 if alpha is None else x * 0 + alpha]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def put(rawmode, entry):
    image = Image.new("P", (8, 8))
    image.putpalette(bytes(entry), rawmode)
    return image


PALETTES = {
    "quantised": rgba().quantize(16),
    "quantised, opaque": rgba(alpha=255).quantize(16),
    "a copy": rgba().quantize(16).copy(),
    "resized": rgba().quantize(16).resize((16, 16)),
    "turned": rgba().quantize(16).rotate(90),
    "of another image": rgba().convert("RGB").quantize(palette=rgba().quantize(4)),
    "put": put("RGBA", (200, 100, 50, 0)),
    "put, other order": put("BGRA", (200, 100, 50, 0)),
    "put, grey": put("LA", (200, 0)),
}


@pytest.mark.parametrize("name", PALETTES)
def test_alpha_of_a_palette_is_refused(tmp_path, name):
    image = PALETTES[name]
    assert image.mode == "P"
    assert image.has_transparency_data
    with pytest.raises(AlphaError, match=r"image of mode P has alpha; .*flatten the image"):
        as_uint8(image)
    with pytest.raises(AlphaError, match="image 1 of the batch"):
        as_batch([image.convert("RGB"), image])
    with pytest.raises(OSError, match="has alpha"):
        image.save(tmp_path / "x.hvae")
    with pytest.raises(OSError, match="has alpha"):
        image.save(tmp_path / "x.hvae", save_all=True, append_images=[image])
    assert list(tmp_path.iterdir()) == []


def test_the_same_palette_in_a_file_is_refused_too(tmp_path):
    rgba().quantize(16).save(tmp_path / "x.png")
    with pytest.raises(AlphaError):
        as_uint8(tmp_path / "x.png")
    with pytest.raises(AlphaError):
        as_uint8(Image.open(tmp_path / "x.png"))


@pytest.mark.parametrize("rawmode", ["RGB", "BGR", "RGBX"])
def test_palettes_without_alpha_are_taken(rawmode):
    colour = (50, 100, 200) if rawmode == "BGR" else (200, 100, 50)
    image = put(rawmode, (*colour, 0)[: len(rawmode)])
    np.testing.assert_array_equal(as_uint8(image), np.full((8, 8, 3), (200, 100, 50)))
    buffer = io.BytesIO()
    image.save(buffer, "GIF")
    np.testing.assert_array_equal(as_uint8(Image.open(buffer)), as_uint8(image))

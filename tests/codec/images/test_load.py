"""Images in: values that another reader agrees on."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import hvae_codec.client
from hvae_codec.codec import images
from hvae_codec.codec.images import load
from hvae_codec.codec.images.load import (
    FORMATS,
    as_batch,
    as_uint8,
    decode_image_bytes,
    encode_png,
    picture_size,
)
from hvae_codec.errors import ImageError
from tests.codec.images.image_files import chunk, grey_png, picture, saved


def test_png_written_from_the_specification_is_read_to_its_values():
    assert decode_image_bytes(grey_png([[0, 127, 255], [1, 2, 3]])).tolist() == [
        [[0], [127], [255]],
        [[1], [2], [3]],
    ]


def test_one_bit_picture_becomes_black_and_white_grey():
    decoded = decode_image_bytes(grey_png([[0b10100000]], bits=1))
    assert decoded[..., 0].tolist() == [[255, 0, 255, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "ppm", "npy"])
def test_the_size_of_a_file_is_that_of_its_picture(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    if suffix == "npy":
        np.save(path, picture())
    else:
        Image.fromarray(picture()).save(path)
    assert picture_size(path) == as_uint8(path).shape[:2] == (20, 30)
    path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="not a PNG"):
        picture_size(path)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (32, 32), (61, 45)])
def test_png_round_trip(size, channels):
    pixels = picture(*size, channels)
    decoded = decode_image_bytes(encode_png(pixels))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, pixels)


def test_lossless_webp_round_trip_and_jpeg_as_pillow_reads_it():
    pixels = picture()
    webp = saved(Image.fromarray(pixels), "WEBP", lossless=True)
    np.testing.assert_array_equal(decode_image_bytes(webp), pixels)
    for options in ({}, {"progressive": True}, {"subsampling": 0}):
        jpeg = saved(Image.fromarray(pixels), "JPEG", quality=90, **options)
        reference = np.asarray(Image.open(io.BytesIO(jpeg)))
        np.testing.assert_array_equal(decode_image_bytes(jpeg), reference)
        assert np.abs(reference.astype(int) - pixels).mean() < 5
    grey = saved(Image.fromarray(pixels[..., 0]), "JPEG")
    assert decode_image_bytes(grey).shape == (20, 30, 1)


def test_every_kind_of_picture_gives_the_same_array(tmp_path):
    pixels = picture()
    path = tmp_path / "picture.png"
    path.write_bytes(encode_png(pixels))
    kinds = [
        pixels,
        np.asfortranarray(pixels),
        Image.fromarray(pixels),
        Image.open(path),
        path,
        str(path),
        torch.from_numpy(pixels.transpose(2, 0, 1).copy()),
    ]
    for kind in kinds:
        taken = as_uint8(kind)
        np.testing.assert_array_equal(taken, pixels)
        assert taken.flags.c_contiguous
    grey = pixels[..., 0]
    for kind in (grey, grey[..., None], Image.fromarray(grey), torch.tensor(grey)[None]):
        np.testing.assert_array_equal(as_uint8(kind), grey[..., None])


def test_palette_becomes_rgb():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decode_image_bytes(saved(image, "PNG")).tolist() == [[[10, 20, 30], [40, 50, 60]]]


# Rows of the picture [[1, 2, 3], [4, 5, 6]] as stored, and as EXIF 2.32 (tag 0x0112) shows it.
ORIENTED = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_exif_orientation_is_applied(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.repeat(np.array(ORIENTED[1], np.uint8)[..., None], 3, 2))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(stored, kind, exif=exif, **options)
    assert decode_image_bytes(data)[..., 0].tolist() == ORIENTED[orientation]


OPERATIONS = {
    "rotate": lambda image: image.rotate(90, expand=True),
    "transpose": lambda image: image.transpose(Image.Transpose.ROTATE_270),
    "flip": ImageOps.mirror,
    "convert": lambda image: image.convert("L"),
    "copy": lambda image: image.copy(),
    "crop": lambda image: image.crop((0, 0, 2, 2)),
    "exif_transpose": ImageOps.exif_transpose,
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_what_pillow_made_of_an_opened_image_is_taken_as_it_is(operation, kind):
    """As Pillow's own `save` writes it: its pixels, and no orientation."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(picture()), kind, exif=exif)
    made = operation(Image.open(io.BytesIO(data)))
    kept = Image.open(io.BytesIO(saved(made, "PNG")))
    assert 0x0112 not in kept.getexif()
    pixels = np.asarray(kept)
    np.testing.assert_array_equal(as_uint8(made).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
def test_what_pillow_opened_is_turned_as_exif_says_once(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(picture()), kind, exif=exif)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert shown.shape == (30, 20, 3)
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(as_uint8(opened), shown)
    ImageOps.exif_transpose(opened, in_place=True)
    np.testing.assert_array_equal(as_uint8(opened), shown)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_is_taken_as_absent():
    body = b"MM\0*\xff\xff\xff\xff"
    data = grey_png([[5, 6]], before=[chunk(b"eXIf", body)])
    assert decode_image_bytes(data)[..., 0].tolist() == [[5, 6]]


def test_batches():
    pixels = np.stack([picture(seed=seed) for seed in range(3)])
    tensor = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    mixed = [pixels[0], Image.fromarray(pixels[1]), torch.from_numpy(pixels[2]).permute(2, 0, 1)]
    for batch in (pixels, tensor, mixed, iter(mixed)):
        np.testing.assert_array_equal(np.stack(as_batch(batch)), pixels)
    assert [p.shape for p in as_batch([pixels[0], pixels[1, :5, :, 0]])] == [
        (20, 30, 3),
        (5, 30, 1),
    ]
    assert as_batch([]) == []


def test_formats_are_stated():
    assert FORMATS == ("PNG", "JPEG", "WEBP")


def test_names_of_the_module_that_was_are_found_in_the_package():
    assert images.decode_image_bytes is load.decode_image_bytes
    assert hvae_codec.client.messages.Pictures is hvae_codec.client.Pictures
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = images.nothing

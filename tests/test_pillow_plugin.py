"""`.hvae` files as Pillow's users open and save them."""

import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, ImageSequence, UnidentifiedImageError

import hvae_codec
import hvae_codec.pillow_plugin
from hvae_codec.errors import (
    ColourWarning,
    HvaeCodecError,
    RateError,
    UnknownModelError,
    UnknownQualityError,
)
from tests.codec.images.test_colour import icc, srgb_from_linear


def waves(height, width, channels, seed=0):
    rng = np.random.default_rng(seed)
    y, x, _ = np.mgrid[:height, :width, :1] / 16.0
    turn, shift = rng.uniform(0, 3, (2, channels)), rng.uniform(0, 6, channels)
    return np.clip(128 + 90 * np.sin(turn[0] * y + turn[1] * x + shift), 0, 255).astype(np.uint8)


def pillow(array):
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


@pytest.fixture(scope="module")
def codec():
    return hvae_codec.load("cifar10", quality=1)


@pytest.mark.parametrize("shape", [(32, 32, 3), (45, 70, 3), (45, 70, 1), (1, 1, 3), (32, 32, 1)])
def test_open_and_save_give_the_librarys_bytes_and_pixels(codec, tmp_path, shape):
    array = waves(*shape)
    pillow(array).save(tmp_path / "x.hvae", quality=1)
    blob = (tmp_path / "x.hvae").read_bytes()
    assert blob == codec.encode(array)
    with Image.open(tmp_path / "x.hvae") as image:
        assert (image.format, image.size) == ("HVAE", (shape[1], shape[0]))
        assert image.mode == ("L" if shape[2] == 1 else "RGB")
        assert (image.n_frames, image.is_animated, image.tell()) == (1, False, 0)
        assert image.info == {"model": "cifar10", "quality": 1}
        np.testing.assert_array_equal(np.asarray(image).reshape(shape), codec.decode(blob))


def test_a_model_of_grey_pictures(tmp_path):
    digit = waves(28, 28, 1)
    pillow(digit).save(tmp_path / "x.hvae", model="mnist", quality=1)
    image = Image.open(tmp_path / "x.hvae")
    assert (image.mode, image.size, image.info["model"]) == ("L", (28, 28), "mnist")
    expected = hvae_codec.decode((tmp_path / "x.hvae").read_bytes())[..., 0]
    np.testing.assert_array_equal(np.asarray(image), expected)
    with pytest.raises(OSError, match=r"cannot write as HVAE: .* codes grey images"):
        pillow(waves(28, 28, 3)).save(tmp_path / "y.hvae", model="mnist")
    assert not (tmp_path / "y.hvae").exists()


def test_the_format_is_registered():
    assert Image.registered_extensions()[".hvae"] == "HVAE"
    assert Image.MIME["HVAE"] == "image/x-hvae"
    blob = hvae_codec.load("cifar10", quality=1).encode(waves(8, 8, 3))
    assert Image.open(io.BytesIO(blob)).get_format_mimetype() == "image/x-hvae"
    assert Image.open(io.BytesIO(blob), formats=["HVAE"]).size == (8, 8)


def test_opening_loads_no_network(tmp_path):
    pillow(waves(64, 40, 3)).save(tmp_path / "x.hvae", quality=1)
    program = f"""
import hvae_codec.pillow_plugin
import sys
assert "torch" not in sys.modules, "registering a format must not cost the import of torch"
from PIL import Image
from hvae_codec.codec import registry
image = Image.open({str(tmp_path / "x.hvae")!r})
assert (image.size, image.mode) == ((40, 64), "RGB")
image.verify()
assert registry._load.cache_info().currsize == 0
Image.open({str(tmp_path / "x.hvae")!r}).load()
assert registry._load.cache_info().currsize == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_arguments_of_save_are_the_librarys(tmp_path):
    array = waves(32, 32, 3)

    def saved(**options):
        buffer = io.BytesIO()
        pillow(array).save(buffer, "HVAE", **options)
        return buffer.getvalue()

    assert saved() == hvae_codec.load("cifar10").encode(array)
    assert saved(quality=2, effort=1) == hvae_codec.load("cifar10", 2, effort=1).encode(array)
    small = saved(max_bytes=45)
    assert small == hvae_codec.encode(array, max_bytes=45)
    assert len(small) <= 45
    with pytest.raises(ValueError, match="quality and max_bytes exclude each other"):
        saved(quality=2, max_bytes=45)
    with pytest.raises(RateError) as refused:
        saved(max_bytes=3)
    assert refused.value.nearest > 3
    with pytest.raises(UnknownQualityError, match="has no quality 75; available: 1, 2"):
        saved(quality=75)
    with pytest.raises(UnknownModelError, match="unknown model 'dogs'"):
        saved(model="dogs")


def test_photographs_take_their_model(tmp_path):
    array, photo = waves(70, 90, 3), hvae_codec.load("photo")
    for options, codec in (({}, photo), ({"quality": 37.5}, photo.at_quality(37.5))):
        pillow(array).save(tmp_path / "x.hvae", **options)
        blob = (tmp_path / "x.hvae").read_bytes()
        assert blob == codec.encode(array)
        with Image.open(tmp_path / "x.hvae") as image:
            assert image.info == {"model": "photo", "quality": codec.quality}
            np.testing.assert_array_equal(np.asarray(image), codec.decode(blob))
    pillow(array).save(tmp_path / "x.hvae", target_psnr=20.0)
    assert (tmp_path / "x.hvae").read_bytes() == hvae_codec.encode(array, "photo", target_psnr=20.0)
    pillow(array).save(tmp_path / "x.hvae", model="cifar10")
    assert Image.open(tmp_path / "x.hvae").info == {"model": "cifar10", "quality": 3}
    with pytest.raises(UnknownQualityError, match=r"1\.\.100, not 101"):
        pillow(array).save(tmp_path / "y.hvae", quality=101)
    with pytest.raises(ValueError, match=r"no effort but 0 .* between 1 and 100 instead"):
        pillow(array).save(tmp_path / "y.hvae", effort=1)
    grey = [pillow(waves(70, 90, 1, seed)) for seed in range(3)]
    grey[0].save(tmp_path / "z.hvae", save_all=True, append_images=grey[1:], quality=20)
    with Image.open(tmp_path / "z.hvae") as image:
        assert (image.n_frames, image.mode, image.info["quality"]) == (3, "L", 20)
        image.seek(2)
        blob = photo.at_quality(20).encode(grey[2])
        np.testing.assert_array_equal(np.asarray(image), photo.decode(blob)[..., 0])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_refused(tmp_path, mode):
    image = Image.new("RGBA" if mode == "RGBA" else mode, (40, 40))
    with pytest.raises(OSError, match=rf"mode {mode} has alpha; .*flatten the image"):
        image.save(tmp_path / "x.hvae")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["CMYK", "I", "F", "HSV", "I;16"])
def test_other_modes_are_refused_with_advice(tmp_path, mode):
    with pytest.raises(OSError, match=f"cannot write as HVAE: image of mode {mode}"):
        Image.new(mode, (40, 40)).save(tmp_path / "x.hvae")


@pytest.mark.parametrize(("mode", "read"), [("P", "RGB"), ("1", "L")])
def test_modes_that_are_converted(tmp_path, codec, mode, read):
    image = pillow(waves(40, 50, 3)).convert(mode)
    image.save(tmp_path / "x.hvae", quality=1)
    assert (tmp_path / "x.hvae").read_bytes() == codec.encode(image.convert(read))
    assert Image.open(tmp_path / "x.hvae").mode == read
    if mode == "P":
        image.info["transparency"] = 0
        with pytest.raises(OSError, match="has alpha"):
            image.save(tmp_path / "y.hvae")


def test_orientation_and_profile_are_applied(tmp_path, codec):
    array = waves(32, 64, 3)
    image = pillow(array)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    image.save(tmp_path / "x.jpg", quality=95, exif=exif)
    turned = Image.open(tmp_path / "x.jpg")
    turned.save(tmp_path / "x.hvae", quality=1)
    assert Image.open(tmp_path / "x.hvae").size == (32, 64)
    upright = np.rot90(np.asarray(Image.open(tmp_path / "x.jpg")), -1)
    assert (tmp_path / "x.hvae").read_bytes() == codec.encode(np.ascontiguousarray(upright))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    image.info["icc_profile"] = lab.tobytes()  # of another colour space: ignored
    with pytest.warns(ColourWarning, match="another colour space"):
        image.save(tmp_path / "y.hvae", quality=1)
    assert (tmp_path / "y.hvae").read_bytes() == codec.encode(array)


def test_turned_images_are_not_turned_again_and_exif_of_save_counts(tmp_path, codec):
    exif = Image.Exif()
    exif[0x0112] = 6
    pillow(waves(32, 64, 3)).save(tmp_path / "x.png", exif=exif)
    stored = np.asarray(Image.open(tmp_path / "x.png"))
    upright = np.ascontiguousarray(np.rot90(stored, -1))
    opened = Image.open(tmp_path / "x.png")
    saved = {
        "turned": (opened.rotate(-90, expand=True), {}, upright),
        "as stored": (opened.copy(), {}, stored),
        "as stored, and exif": (opened.copy(), {"exif": exif}, upright),
        "opened, and exif": (opened, {"exif": exif.tobytes()}, upright),
        "opened, and no orientation": (opened, {"exif": Image.Exif()}, stored),
    }
    for name, (image, options, pixels) in saved.items():
        image.save(tmp_path / "x.hvae", quality=1, **options)
        assert (tmp_path / "x.hvae").read_bytes() == codec.encode(pixels), name
        image.save(tmp_path / "x.hvae", save_all=True, quality=1, **options)
        assert (tmp_path / "x.hvae").read_bytes() == codec.encode_block(pixels[None]), name
    opened.save(tmp_path / "x.hvae", save_all=True, quality=1)
    assert (tmp_path / "x.hvae").read_bytes() == codec.encode_block(upright[None])


def test_a_block_is_an_image_of_several_frames(tmp_path, codec):
    arrays = [waves(40, 50, 3, seed) for seed in range(3)]
    first, *others = map(pillow, arrays)
    first.save(tmp_path / "x.hvae", save_all=True, append_images=others, quality=1)
    blob = (tmp_path / "x.hvae").read_bytes()
    assert blob == codec.encode_block(np.stack(arrays))
    expected = codec.decode_block(blob)
    with Image.open(tmp_path / "x.hvae") as image:
        assert (image.n_frames, image.is_animated) == (3, True)
        image.seek(2)
        assert image.tell() == 2
        np.testing.assert_array_equal(np.asarray(image), expected[2])
        for frame, pixels in zip(ImageSequence.Iterator(image), expected, strict=True):
            np.testing.assert_array_equal(np.asarray(frame), pixels)
        for beyond in (3, -1):
            with pytest.raises(EOFError):
                image.seek(beyond)
        image.seek(1)
        image.save(tmp_path / "again.hvae", save_all=True, quality=1)
        assert image.tell() == 1
    assert (tmp_path / "again.hvae").read_bytes() == codec.encode_block(expected)
    with pytest.raises(OSError, match="one or more images of one shape"):
        first.save(tmp_path / "y.hvae", save_all=True, append_images=[first.resize((9, 9))])
    with pytest.raises(ValueError, match="max_bytes is for one image"):
        first.save(tmp_path / "y.hvae", save_all=True, max_bytes=99)


def test_a_block_of_one_picture(codec):
    blob = codec.encode_block(waves(32, 32, 3)[None])
    image = Image.open(io.BytesIO(blob))
    assert (image.n_frames, image.is_animated) == (1, False)
    np.testing.assert_array_equal(np.asarray(image), codec.decode_block(blob)[0])


def test_copies_outlive_the_file(tmp_path, codec):
    array = waves(40, 50, 3)
    pillow(array).save(tmp_path / "x.hvae", quality=1)
    expected = codec.decode(codec.encode(array))
    with Image.open(tmp_path / "x.hvae") as image:
        copies = [image.copy(), image.crop((0, 0, 50, 40)), pickle.loads(pickle.dumps(image))]
    for copy in copies:
        np.testing.assert_array_equal(np.asarray(copy), expected)
    image = Image.open(tmp_path / "x.hvae")
    image.load()
    image.putpixel((3, 4), (1, 2, 3))
    assert image.getpixel((3, 4)) == (1, 2, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda blob: blob[:2], "inside a header of at least"),
        (lambda blob: blob[:8], "inside a header of at least"),
        (lambda blob: blob[:2] + bytes([blob[2] ^ 1]) + blob[3:], "odd parity"),
        (lambda blob: blob[:2] + b"\x03" + blob[3:], "version 3 is not known"),
        (lambda blob: blob[:3] + b"\0\0\0\0" + blob[7:], "model 00000000, which is not available"),
    ],
)
def test_an_unusable_header_is_not_identified(tmp_path, codec, change, message):
    (tmp_path / "x.hvae").write_bytes(change(codec.encode(waves(40, 50, 3))))
    with pytest.raises(UnidentifiedImageError, match=message):
        Image.open(tmp_path / "x.hvae")


def test_files_of_other_formats_are_left_to_others(tmp_path):
    pillow(waves(8, 8, 3)).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / "x.hvae")
    assert Image.open(tmp_path / "x.hvae").format == "PNG"
    (tmp_path / "y.hvae").write_bytes(b"no picture at all")
    with pytest.raises(UnidentifiedImageError):
        Image.open(tmp_path / "y.hvae")


@pytest.mark.parametrize("block", [False, True])
def test_damage_behind_the_header(tmp_path, monkeypatch, codec, block):
    arrays = np.stack([waves(90, 100, 3, seed) for seed in range(2)])
    blob = codec.encode_block(arrays) if block else codec.encode(arrays[0])
    path = tmp_path / "x.hvae"
    for damaged in (blob[:-20], blob[:-20] + bytes([blob[-20] ^ 8]) + blob[-19:], blob + b"\0"):
        path.write_bytes(damaged)
        image = Image.open(path)
        assert image.size == (100, 90)
        for _ in range(2):  # trying again does not show something else
            with pytest.raises(OSError, match=r"damaged|truncated"):
                image.load()
        with pytest.raises(OSError, match=r"damaged|truncated"):
            Image.open(path).verify()
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        preview = codec.images_of([codec.file_coder.read_block(blob, 1)])[0] if block else None
        expected = codec.preview(blob) if preview is None else preview
        np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path.write_bytes(blob[:22])  # cut within the first layer: nothing is left to show
    with pytest.raises(OSError):
        Image.open(path).load()


def test_verify_closes_the_file_as_pillow_does(tmp_path, codec):
    (tmp_path / "x.hvae").write_bytes(codec.encode(waves(40, 50, 3)))
    image = Image.open(tmp_path / "x.hvae")
    image.verify()
    with pytest.raises(OSError, match="closed; open it again"):
        image.load()


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_is_turned_once(tmp_path, codec, compression):
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = pillow(waves(32, 64, 3))
    stored.save(tmp_path / "x.tif", exif=exif, compression=compression)
    upright = stored.transpose(Image.Transpose.ROTATE_270)
    with Image.open(tmp_path / "x.tif") as opened:
        upright.save(
            tmp_path / "x.hvae", model="cifar10", quality=1, save_all=True, append_images=[opened]
        )
    blob = (tmp_path / "x.hvae").read_bytes()
    assert blob == codec.encode_block([np.asarray(upright)] * 2)


def test_a_profile_that_save_is_given_counts(tmp_path):
    grey = np.full((32, 32), 100, np.uint8)
    linear = icc("x", 1.0, b"GRAY")
    shown = round(float(srgb_from_linear(100 / 255)))
    codec = hvae_codec.load("mnist")
    for profile, level in ((linear, shown), (None, 100)):
        for stated in ({}, {"icc_profile": icc("y", 3.0, b"GRAY")}):
            Image.fromarray(grey).save(tmp_path / "x.png", **stated)
            expected = np.full((32, 32), level, np.uint8)
            with Image.open(tmp_path / "x.png") as image:
                image.save(tmp_path / "x.hvae", model="mnist", icc_profile=profile)
            assert (tmp_path / "x.hvae").read_bytes() == codec.encode(expected)
            with Image.open(tmp_path / "x.png") as image:
                image.save(tmp_path / "x.hvae", model="mnist", icc_profile=profile, save_all=True)
            assert (tmp_path / "x.hvae").read_bytes() == codec.encode_block([expected])


@pytest.fixture
def block(tmp_path):
    """A file of three images of 32x32."""
    frames = [pillow(waves(32, 32, 3, seed)) for seed in range(3)]
    path = tmp_path / "block.hvae"
    frames[0].save(path, quality=1, save_all=True, append_images=frames[1:])
    return path


@pytest.mark.parametrize("other", [(16, 20, 3), (32, 32, 1), (300, 300, 3)])
def test_a_file_that_changes_before_it_is_loaded_is_an_error(codec, other):
    file = io.BytesIO(codec.encode(waves(32, 32, 3)))
    image = Image.open(file)
    file.seek(0)
    file.truncate()
    file.write(codec.encode(waves(*other)))
    with pytest.raises(OSError, match="has been changed since it was opened"):
        image.load()
    assert Image.open(file).size == other[1::-1]


def test_a_frame_has_the_files_size_whatever_another_was_made_to(block):
    image, expected = Image.open(block), Image.open(block)
    expected.seek(1)
    image.thumbnail((8, 8))
    image.seek(1)
    assert image.size == (32, 32)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


def test_a_pickled_frame_can_be_saved_with_others(codec, block, tmp_path):
    image = pickle.loads(pickle.dumps(Image.open(block)))
    image.seek(0)
    with pytest.raises(EOFError):
        image.seek(1)
    image.save(tmp_path / "y.hvae", quality=1, save_all=True, append_images=None)
    assert (tmp_path / "y.hvae").read_bytes() == codec.encode_block([np.asarray(image)])


@pytest.mark.parametrize(
    "options",
    [
        *({"exif": given} for given in (5, "x", b"junk", b"Exif\0\0II*\0")),
        *({"save_all": True, "append_images": given} for given in (5, ["x.png"], pillow)),
    ],
)
def test_options_of_other_types_are_the_librarys_own_errors(tmp_path, options):
    with pytest.raises(HvaeCodecError, match=next(reversed(options))):
        pillow(waves(32, 32, 3)).save(tmp_path / "x.hvae", quality=1, **options)
    assert not (tmp_path / "x.hvae").exists()

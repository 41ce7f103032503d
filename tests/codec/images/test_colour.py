"""Colours that files state: values by the standards' formulas; what is refused or warned of."""

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from hvae_codec.cli import main
from hvae_codec.codec.images.load import as_uint8, decode_image_bytes
from hvae_codec.errors import ColourWarning, ImageError

COLOUR = np.array([200, 100, 50])
GREYS = np.arange(0, 256, 5)
SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# Colorants of sRGB in ICC's connection space, as its registered profile has them.
SRGB_XYZ = {
    b"rXYZ": (0.43607, 0.22249, 0.01392),
    b"gXYZ": (0.38515, 0.71687, 0.09708),
    b"bXYZ": (0.14307, 0.0606, 0.7141),
}
# Linear Display P3 and linear BT.2020 to linear sRGB (CSS Color 4, section 18).
P3_TO_SRGB = np.array(
    [
        [1.2249401763, -0.2249401763, 0],
        [-0.0420569547, 1.0420569547, 0],
        [-0.0196375546, -0.0786360456, 1.0982736001],
    ]
)
# Linear Adobe RGB (1998) to linear sRGB, from the standard's matrices.
ADOBE_TO_SRGB = np.array(
    [[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]],
)
P3_POINTS = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)


def srgb_from_linear(linear):
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def linear_from_srgb(levels):
    values = np.asarray(levels) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def fixed(*numbers):
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def icc(name, gamma, space=b"RGB ", **extra):
    """ICC version 2 profile with a power curve, of sRGB's primaries or of grey."""
    text = name.encode() + b"\0"
    parts = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249),
    }
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    if space == b"GRAY":
        parts[b"kTRC"] = curve
    else:
        parts |= {tag: b"XYZ \0\0\0\0" + fixed(*xyz) for tag, xyz in SRGB_XYZ.items()}
        parts |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    parts |= {tag.encode(): body for tag, body in extra.items()}
    table, data, start = b"", b"", 132 + 12 * len(parts)
    for tag, body in parts.items():
        body += bytes(-len(body) % 4)
        table += tag + struct.pack(">II", start + len(data), len(body))
        data += body
    head = struct.pack(">I", start + len(data)) + b"lcms\x02\x40\0\0mntr" + space + b"XYZ "
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    return (
        head + fixed(0.9642, 1, 0.8249) + bytes(48) + struct.pack(">I", len(parts)) + table + data
    )


def png(array, *chunks, **options):
    """PNG of an array with chunks (kind, body) before its pixels."""
    info = PngImagePlugin.PngInfo()
    for kind, body in chunks:
        info.add(kind, body)
    file = io.BytesIO()
    Image.fromarray(np.asarray(array, np.uint8)).save(file, "PNG", pnginfo=info, **options)
    return file.getvalue()


def flat(colour=COLOUR):
    return np.broadcast_to(np.asarray(colour, np.uint8), (8, 8, 3))


def gama(encoding):
    return (b"gAMA", struct.pack(">I", round(encoding * 100_000)))


def chrm(points):
    return (b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in points)))


def cicp(*codes):
    return (b"cICP", bytes(codes))


def near(decoded, expected, levels=1.5):
    np.testing.assert_allclose(decoded.reshape(-1, decoded.shape[2])[0], expected, atol=levels)


@pytest.mark.parametrize("name", ["sRGB-elle-V2-g10.icc", "Linear RGB", "sRGB IEC61966-2.1"])
def test_a_profile_counts_by_its_curve_not_by_its_name(name):
    decoded = decode_image_bytes(png(flat(), icc_profile=icc(name, 1.0)))
    near(decoded, srgb_from_linear(COLOUR / 255))


def test_profiles_that_do_what_srgb_does_change_no_level():
    array = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    renamed = SRGB_PROFILE.replace("sRGB".encode("utf-16-be"), "work".encode("utf-16-be"))
    assert renamed != SRGB_PROFILE
    for profile in (SRGB_PROFILE, renamed):
        np.testing.assert_array_equal(decode_image_bytes(png(array, icc_profile=profile)), array)
        grey = decode_image_bytes(png(array[..., 0], icc_profile=profile))
        np.testing.assert_array_equal(grey[..., 0], array[..., 0])


@pytest.mark.parametrize("space", [b"GRAY", b"RGB "])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_profile_of_a_grey_image_is_applied(space, kind):
    file = io.BytesIO()
    image = Image.fromarray(np.full((16, 16), 60, np.uint8))
    if kind == "WEBP":  # has no grey: a profile of grey beside RGB samples is one of each of them
        image = image.convert("RGB")
    image.save(file, kind, icc_profile=icc("x", 1.0, space), quality=100)
    near(decode_image_bytes(file.getvalue()), srgb_from_linear(60 / 255), 2)


def test_every_level_of_grey():
    levels = GREYS[None, :].repeat(2, axis=0)
    for gamma in (1.0, 1.8):
        decoded = decode_image_bytes(png(levels, icc_profile=icc("x", gamma, b"GRAY")))
        expected = srgb_from_linear((GREYS / 255) ** (round(gamma * 256) / 256))
        np.testing.assert_allclose(decoded[0, :, 0], expected, atol=1.5)


@pytest.mark.parametrize("encoding", [1.0, 0.55556, 0.25])
def test_gamma_of_a_png_is_applied_to_grey_and_rgb(encoding):
    expected = srgb_from_linear((COLOUR / 255) ** (1 / encoding))
    near(decode_image_bytes(png(flat(), gama(encoding))), expected)
    grey = decode_image_bytes(png(np.full((8, 8), 100), gama(encoding)))
    near(grey, expected[1])


def test_what_states_srgb_changes_nothing():
    array = np.random.default_rng(1).integers(0, 256, (30, 30, 3), dtype=np.uint8)
    srgb_points = chrm((0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06))
    for chunks in (
        [gama(0.45455)],
        [gama(0.45455), srgb_points],
        [srgb_points],
        [gama(1.0), (b"sRGB", b"\0")],  # which comes before gAMA
        [gama(1.0), cicp(1, 13, 0, 1)],
        [cicp(2, 2, 0, 1)],
        [cicp(1, 1, 0, 1)],
    ):
        np.testing.assert_array_equal(decode_image_bytes(png(array, *chunks)), array)
    with_profile = png(array, cicp(1, 13, 0, 1), icc_profile=icc("x", 1.0))
    np.testing.assert_array_equal(decode_image_bytes(with_profile), array)


@pytest.mark.parametrize("chunks", [[cicp(12, 13, 0, 1)], [chrm(P3_POINTS), gama(0.45455)]])
def test_primaries_of_a_png_are_converted(chunks):
    expected = srgb_from_linear(P3_TO_SRGB @ linear_from_srgb(COLOUR))
    assert np.abs(expected - COLOUR).max() > 8
    near(decode_image_bytes(png(flat(), *chunks)), expected)


def test_linear_light_and_primaries_together():
    expected = srgb_from_linear(P3_TO_SRGB @ (COLOUR / 255))
    near(decode_image_bytes(png(flat(), cicp(12, 8, 0, 1))), expected)
    near(decode_image_bytes(png(flat(), chrm(P3_POINTS), gama(1.0))), expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_adobe_rgb_that_exif_states_is_converted(kind):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 0xFFFF
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    file = io.BytesIO()
    Image.fromarray(flat()).save(file, kind, exif=exif.tobytes(), quality=100, subsampling=0)
    assert b"R03" in file.getvalue()
    stored = np.asarray(Image.open(io.BytesIO(file.getvalue())))[0, 0]
    expected = srgb_from_linear(ADOBE_TO_SRGB @ (stored / 255) ** (563 / 256))
    assert np.abs(expected - stored).max() > 8
    near(decode_image_bytes(file.getvalue()), expected)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(tmp_path, transfer, name):
    message = rf"HDR image with the transfer function {name} .*convert it to SDR"
    data = png(flat(), cicp(9, transfer, 0, 1))
    path = tmp_path / "x.png"
    path.write_bytes(data)
    loaded = Image.open(path)
    loaded.load()  # Pillow has closed the file
    in_memory = Image.open(io.BytesIO(data))
    in_memory.load()
    sent = pickle.loads(pickle.dumps(Image.open(path)))
    for image in (path, Image.open(path), loaded, Image.open(io.BytesIO(data)), in_memory, sent):
        with pytest.raises(ImageError, match=message):
            as_uint8(image)
    tag = b"cicp\0\0\0\0" + bytes([9, transfer, 0, 1])
    file = io.BytesIO()
    Image.fromarray(flat()).save(file, "JPEG", icc_profile=icc("x", 2.2, cicp=tag))
    with pytest.raises(ImageError, match=message):
        decode_image_bytes(file.getvalue())


@pytest.mark.parametrize("kind", ["PNG", "AVIF", "JPEG", "WEBP"])
def test_an_image_that_was_pickled_is_taken(kind):
    file = io.BytesIO()
    Image.fromarray(flat()).save(file, kind)
    sent = pickle.loads(pickle.dumps(Image.open(file)))
    assert np.array_equal(as_uint8(sent), np.asarray(Image.open(file)))


def avif(transfer, primaries=1):
    """AVIF as Pillow writes it with other codes in its box nclx."""
    file = io.BytesIO()
    Image.fromarray(flat()).save(file, "AVIF", quality=100, subsampling="4:4:4")
    data = file.getvalue()
    place = data.index(b"nclx") + 4
    return data[:place] + struct.pack(">2H", primaries, transfer) + data[place + 4 :]


def test_codes_of_an_avif_that_pillow_opens(tmp_path):
    path = tmp_path / "x.avif"
    path.write_bytes(avif(16, 9))
    for image in (Image.open(path), Image.open(io.BytesIO(path.read_bytes()))):
        with pytest.raises(ImageError, match="HDR image with the transfer function PQ"):
            as_uint8(image)
    path.write_bytes(avif(13, 12))
    stored = np.asarray(Image.open(path))
    expected = srgb_from_linear(P3_TO_SRGB @ linear_from_srgb(stored[0, 0]))
    near(as_uint8(Image.open(path)), expected)
    path.write_bytes(avif(13))
    np.testing.assert_array_equal(as_uint8(Image.open(path)), stored)


def test_codes_that_pillow_heif_gives():
    """It states them in `info`, also of copies; Pillow itself has no HEIF to try."""
    image = Image.fromarray(flat())
    image.info["nclx_profile"] = {"color_primaries": 9, "transfer_characteristics": 16}
    with pytest.raises(ImageError, match="HDR image with the transfer function PQ"):
        as_uint8(image.copy())
    image.info["nclx_profile"] = {"color_primaries": 12, "transfer_characteristics": 13}
    near(as_uint8(image), srgb_from_linear(P3_TO_SRGB @ linear_from_srgb(COLOUR)))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ((1, 9, 0, 1), "transfer function 9 of ITU-T H.273; allowed: 1, 2, 4"),
        ((3, 13, 0, 1), "colour primaries 3 of ITU-T H.273; allowed: 1, 2, 4"),
        ((1, 13, 0, 0), "image of narrow range"),
    ],
)
def test_codes_that_cannot_be_converted_are_refused(codes, message):
    with pytest.raises(ImageError, match=message):
        decode_image_bytes(png(flat(), cicp(*codes)))


def png_of_profile(compressed):
    """PNG with a chunk iCCP, which Pillow does not write as it is given."""
    data, chunk = png(flat()), b"iCCPx\0\0" + compressed
    checked = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data[:33] + checked + data[33:]


def jpeg_without_a_part():
    """JPEG whose ICC profile is said to have three parts, of which the second is not there."""
    file = io.BytesIO()
    Image.fromarray(flat()).save(file, "JPEG", icc_profile=SRGB_PROFILE + bytes(150_000))
    data = file.getvalue()
    start = data.index(b"ICC_PROFILE\0\2\3") - 4
    length = int.from_bytes(data[start + 2 : start + 4])
    return data[:start] + data[start + 2 + length :]


LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
ODD_SPACE = SRGB_PROFILE[:16] + b"RG\xb2 " + SRGB_PROFILE[20:]
UNUSABLE = {
    "space of no letters": (png(flat(), icc_profile=ODD_SPACE), "damaged ICC profile"),
    "no profile": (png(flat(), icc_profile=b"no profile"), "damaged ICC profile"),
    "cut profile": (png(flat(), icc_profile=SRGB_PROFILE[:200]), "damaged ICC profile"),
    "profile that is no zlib": (png_of_profile(b"no zlib"), "damaged ICC profile"),
    "empty profile": (png_of_profile(zlib.compress(b"")), "damaged ICC profile"),
    "JPEG of a part of a profile": (jpeg_without_a_part(), "damaged ICC profile"),
    "Lab": (png(flat(), icc_profile=LAB), "another colour space than RGB or grey"),
    "grey and Lab": (png(np.full((4, 4), 9), icc_profile=LAB), "another colour space"),
    "gamma of 0": (png(flat(), gama(0)), "damaged gAMA"),
    "points on a line": (png(flat(), chrm([0.3] * 8)), "damaged cHRM"),
    "points of 0": (png(flat(), chrm([0] * 8)), "damaged cHRM"),
    "cICP with a matrix": (png(flat(), cicp(1, 13, 1, 1)), "damaged cICP"),
}


@pytest.mark.parametrize(("data", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_cannot_be_used_is_ignored_with_a_warning(data, message):
    with pytest.warns(ColourWarning, match=message + r".*: its samples are taken as sRGB"):
        decoded = decode_image_bytes(data)
    stored = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decoded, stored.reshape(decoded.shape))


def test_the_command_names_the_image_in_its_warning(tmp_path, capsys):
    path = tmp_path / "x.png"
    path.write_bytes(UNUSABLE["no profile"][0])
    assert main(["encode", str(path), "--model", "cifar10"]) == 0
    warning = "damaged ICC profile: its samples are taken as sRGB"
    assert f"hvae-codec: warning: {path}: {warning}\n" in capsys.readouterr().err


def test_a_chunk_of_another_length_is_no_statement():
    data = png(flat(), (b"cICP", bytes([9, 16])))
    assert zlib.crc32(b"cICP" + bytes([9, 16])).to_bytes(4) in data
    np.testing.assert_array_equal(decode_image_bytes(data), flat())


@pytest.mark.parametrize("space", [b"RGB ", b"GRAY"])
def test_unspecified_codes_leave_it_to_what_else_is_stated(space):
    linear = srgb_from_linear(COLOUR / 255)
    unspecified = cicp(2, 2, 0, 1)
    near(decode_image_bytes(png(flat(), unspecified, icc_profile=icc("x", 1.0, space))), linear)
    near(decode_image_bytes(png(flat(), unspecified, gama(1.0))), linear)
    near(decode_image_bytes(png(flat(), unspecified)), COLOUR)
    with pytest.raises(ImageError, match="narrow range"):
        decode_image_bytes(png(flat(), cicp(2, 2, 0, 0)))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_profile_that_a_caller_puts_in_any_buffer(kind):
    image = Image.fromarray(flat())
    image.info["icc_profile"] = kind(icc("x", 1.0))
    near(as_uint8(image), srgb_from_linear(COLOUR / 255))


def test_profiles_that_cannot_be_read_are_warned_of():
    image = Image.fromarray(flat())
    image.info["icc_profile"] = ImageCms.createProfile("sRGB")
    with pytest.warns(ColourWarning, match="damaged ICC profile"):
        near(as_uint8(image), COLOUR)
    file = io.BytesIO()
    Image.fromarray(flat()).save(file, "JPEG", quality=100, subsampling=0)
    profile = b"ICC_PROFILE\0\1\1" + icc("x", 1.0)
    segment = b"\xff\xe2" + struct.pack(">H", len(profile) + 2) + profile
    data = file.getvalue()
    scan = data.index(b"\xff\xda")
    with pytest.warns(ColourWarning, match="behind the frame header"):
        near(decode_image_bytes(data[:scan] + segment + data[scan:]), COLOUR)

"""Files and numbers of every kind that callers have: taken alike, or refused by name."""

import array
import contextlib
import io
import mmap
import os
import threading
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode

import hvae_codec
from hvae_codec.codec.bitstream import encoded
from hvae_codec.codec.bitstream.encoded import as_file, as_files
from hvae_codec.errors import (
    BitstreamError,
    HvaeCodecError,
    ImageError,
    NotAnHvaeFileError,
    UnknownModelError,
    UnknownQualityError,
)

IMAGE = np.random.default_rng(2).integers(0, 256, (32, 32, 3), np.uint8)
NAMES = ("cifar10", "cifar10-maps", "photo")


def zero_dimensional(held):
    made = np.empty((), object)
    made[()] = held
    return made


def mapped(data):
    held = mmap.mmap(-1, len(data))
    held.write(data)
    return held


KINDS = {
    "bytes": lambda data, path: data,
    "bytearray": lambda data, path: bytearray(data),
    "memoryview": lambda data, path: memoryview(data),
    "part of a buffer": lambda data, path: memoryview(b"__" + data + b"__")[2:-2],
    "uint8 array": lambda data, path: np.frombuffer(data, np.uint8),
    "strided array": lambda data, path: np.frombuffer(data, np.uint8).repeat(2)[::2],
    "array": lambda data, path: array.array("B", data),
    "map": lambda data, path: mapped(data),
    "object array": lambda data, path: zero_dimensional(data),
    "array of an array": lambda data, path: zero_dimensional(np.frombuffer(data, np.uint8)),
    "void": lambda data, path: np.array(np.void(data)),
    "tensor": lambda data, path: torch.tensor(list(data), dtype=torch.uint8),
    "path": lambda data, path: path,
    "name": lambda data, path: str(path),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_each_kind_is_decoded(name, kind, tmp_path):
    codec = hvae_codec.load(name)
    data = codec.encode(IMAGE)
    block = codec.encode_block([IMAGE, IMAGE])
    (tmp_path / "x.hvae").write_bytes(data)
    (tmp_path / "block.hvae").write_bytes(block)
    expected, preview, features = codec.decode(data), codec.preview(data), codec.features_from_bytes
    given = KINDS[kind](data, tmp_path / "x.hvae")
    assert as_file(given) == data
    np.testing.assert_array_equal(hvae_codec.decode(given), expected)
    np.testing.assert_array_equal(codec.decode(given), expected)
    np.testing.assert_array_equal(codec.decode(given, partial=True), expected)
    np.testing.assert_array_equal(codec.preview(given), preview)
    np.testing.assert_array_equal(np.concatenate(list(codec.decode_rows(given))), expected)
    np.testing.assert_array_equal(codec.decode_batch([given, data]), [expected, expected])
    np.testing.assert_array_equal(features([given]).mean, features(data).mean)
    if kind != "tensor":  # which stands for many files where one may be given
        np.testing.assert_array_equal(features(given).mean, features(data).mean)
    for one, other in zip(codec.symbols([given]), codec.symbols([data]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert codec.picture_shape(given) == (32, 32, 3, 1)
    assert hvae_codec.codec_for(given).info.model_id == codec.info.model_id
    given = KINDS[kind](block, tmp_path / "block.hvae")
    assert codec.decode_block(given).shape == (2, 32, 32, 3)


@pytest.mark.parametrize(
    "given",
    [
        7, None, 1.5, object(), io.BytesIO(b"x"), array.array("d", [1.0]), [1, 2],
        np.zeros(5), np.zeros((2, 5), np.uint8), np.array("x"), zero_dimensional(7),
        zero_dimensional(None), torch.zeros(3), torch.zeros(3, dtype=torch.uint8, device="meta"),
        Image.new("RGB", (8, 8)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file_is_refused(name, given):
    codec = hvae_codec.load(name)
    for use in (
        codec.decode, codec.preview, codec.decode_rows, codec.decode_block, codec.picture_shape,
        hvae_codec.decode, hvae_codec.codec_for, lambda one: codec.decode_batch([one]),
        lambda one: codec.symbols([one]), lambda one: codec.features_from_bytes([one]),
    ):  # fmt: skip
        with pytest.raises(NotAnHvaeFileError, match=r"encoded image must be|no file"):
            use(given)


def test_one_file_in_the_place_of_many_is_refused(tmp_path):
    for given in (b"\xf6\x48", bytearray(2), np.zeros(3, np.uint8), "x.hvae", tmp_path, 3):
        with pytest.raises(NotAnHvaeFileError, match="put it in a list"):
            as_files(given)
    with pytest.raises(NotAnHvaeFileError, match=r"^file 1 of the batch: .* got int 3"):
        as_files([b"", 3])


@pytest.mark.parametrize("name", ["no.hvae", "a\0b"])
def test_a_path_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(BitstreamError, match="cannot be read"):
        hvae_codec.decode(str(tmp_path / name))


@pytest.mark.parametrize("name", ["cifar10", "photo", "mnist"])
def test_numbers_of_numpy_draw_the_same_samples(name):
    codec = hvae_codec.load(name)
    expected = codec.sample(2, seed=1, temperature=0.5)
    for whole in (np.int64, np.uint8, np.int32):
        found = codec.sample(whole(2), seed=whole(1), temperature=np.float32(0.5))
        np.testing.assert_array_equal(found, expected)
    found = codec.sample(2, 1, Decimal("0.5"))
    np.testing.assert_array_equal(found, expected)
    for arguments in ((1.5, 1), (1, 1.0), ("2", 1), (1, None), (1, 0, "1"), (1, -1), (0, 1)):
        with pytest.raises(ValueError, match="must be"):
            codec.sample(*arguments)


def test_qualities_of_all_kinds_of_numbers():
    whole = hvae_codec.load("cifar10", 3)
    between = hvae_codec.load("cifar10", 2.5).encode(IMAGE)
    for quality in (np.int64(3), np.float32(3), Decimal(3), Fraction(3), 3.0):
        assert hvae_codec.load("cifar10", quality) is whole
    for quality in (np.float32(2.5), Decimal("2.5"), Fraction(5, 2)):
        assert hvae_codec.load("cifar10", quality).encode(IMAGE) == between
    photo = hvae_codec.load("photo", 40)
    for quality in (np.int64(40), Decimal("40"), np.float16(40)):
        assert hvae_codec.load("photo", quality).number == photo.number
        assert photo.at_quality(quality).number == photo.number


@pytest.mark.parametrize("quality", ["3", "best", [3], (), object(), 1j, b"3"])
@pytest.mark.parametrize("name", ["cifar10", "photo", "cifar10-maps"])
def test_qualities_that_are_no_numbers_are_refused(name, quality):
    with pytest.raises(UnknownQualityError, match="a quality is a number; got"):
        hvae_codec.load(name, quality)
    for number in (float("nan"), float("inf"), Decimal("NaN"), -3, 1000):
        with pytest.raises(UnknownQualityError):
            hvae_codec.load(name, number)


@pytest.mark.parametrize("model", ["cifar10", "photo"])
def test_targets_are_numbers_of_any_kind(model):
    encode = hvae_codec.encode
    assert encode(IMAGE, model, target_psnr=Decimal(10)) == encode(IMAGE, model, target_psnr=10.0)
    within = encode(IMAGE, model, max_bytes=np.uint16(300))
    assert within == encode(IMAGE, model, max_bytes=300)
    for name in ("target_bytes", "target_psnr", "max_bytes"):
        with pytest.raises(HvaeCodecError, match=f"{name} must be a number; got str '200'"):
            encode(IMAGE, model, **{name: "200"})
    for psnr in (float("nan"), Decimal("NaN"), np.float32("nan")):
        with pytest.raises(HvaeCodecError, match="target_psnr must be a number of dB; got"):
            encode(IMAGE, model, target_psnr=psnr)
    with pytest.raises(HvaeCodecError, match="total_bytes must be a number"):
        hvae_codec.encode_within([IMAGE], "300", model)


def test_other_arguments_that_are_no_numbers():
    codec = hvae_codec.load("cifar10")
    for effort in ("1", np.array([1]), [1], 3):
        with pytest.raises(ValueError, match="effort must be one of"):
            codec.encode(IMAGE, effort=effort)
    with pytest.raises(HvaeCodecError, match="trade must be a number"):
        codec.encode(IMAGE, effort=1, trade="x")
    for number in ("3", 3.0):
        with pytest.raises(HvaeCodecError, match="number must be a whole number"):
            hvae_codec.load("photo").at_number(number)
    assert hvae_codec.load("photo").at_number(np.int64(3)).point.number == 3
    for layers in (3, [["z1"]], [None], "z9"):
        with pytest.raises(UnknownQualityError, match="allowed: one or more of z2, z1"):
            hvae_codec.HVAEFeatures(layers=layers).fit([])
    with pytest.raises(UnknownModelError, match="a name or a path; got 3"):
        hvae_codec.HVAEFeatures(3).fit([])


@pytest.mark.parametrize("layers", [0, 9, -1, "z1", 1.5, None])
def test_layers_that_there_are_not(layers):
    codec = hvae_codec.load("cifar10")
    if layers is None:
        assert len(codec.layer_features([IMAGE], layers)) == 2
        return
    with pytest.raises(UnknownQualityError, match=r"layers must lie in 1\.\.2"):
        codec.layer_features([IMAGE], layers)


def strange_tensors():
    dense = torch.zeros(3, 8, 8, dtype=torch.uint8)
    with FakeTensorMode():
        fake = torch.zeros(3, 8, 8, dtype=torch.uint8)
    return {
        "meta": dense.to("meta"),
        "sparse": dense.to_sparse(),
        "rows": dense[0].to_sparse_csr(),
        "fake": fake,
    }


@pytest.mark.parametrize("kind", ["meta", "sparse", "rows", "fake"])
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_tensors_without_values_are_refused(kind, tmp_path):
    codec = hvae_codec.load("cifar10")
    one = strange_tensors()[kind]
    uses = [codec.encode, lambda x: codec.encode_batch([x]), lambda x: codec.features([x])]
    for use in uses:
        with pytest.raises(ImageError, match=r"tensor|Tensor"):
            use(one)
    with hvae_codec.ArchiveWriter(tmp_path / "a.hvaa", codec) as writer:
        with pytest.raises(ImageError):
            writer.add(one)
        if kind != "rows":
            with pytest.raises(ImageError, match=r"tensor|Tensor"):
                writer.extend(one[None])
        assert len(writer) == 0
    if kind != "rows":
        for use in (codec.encode_batch, codec.features, hvae_codec.HVAEFeatures().transform):
            with pytest.raises(ImageError, match=r"tensor|Tensor"):
                use(one[None])


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_matrices_and_masked_arrays():
    codec = hvae_codec.load("cifar10")
    grey = IMAGE[..., 0]
    assert codec.encode(np.matrix(grey)) == codec.encode(grey)
    whole = np.ma.masked_array(IMAGE, mask=False)
    assert codec.encode(whole) == codec.encode(IMAGE)
    holes = np.ma.masked_array(IMAGE, mask=IMAGE > 200)
    for use, given in (
        (codec.encode, holes), (codec.encode_batch, holes[None]), (codec.encode_block, holes[None])
    ):  # fmt: skip
        with pytest.raises(ImageError, match="masked array"):
            use(given)


@pytest.mark.parametrize("suffix", ["gif", "tiff", "png", "webp"])
def test_an_image_of_several_frames_is_refused(tmp_path, suffix):
    frames = [Image.new("RGB", (32, 32), (level, 0, 0)) for level in (0, 90, 200)]
    path = tmp_path / f"x.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    codec = hvae_codec.load("cifar10")
    with Image.open(path) as image:
        with pytest.raises(ImageError, match=r"of 3 frames: seek to one of them and give its copy"):
            codec.encode(image)
        image.seek(1)
        shown = image.convert("RGB")
        decoded = codec.decode(codec.encode(shown))
    assert abs(float(decoded[..., 0].mean()) - 90) < 12


def test_a_jpeg_in_several_sizes_is_its_first_image(tmp_path):
    images = [Image.fromarray(IMAGE), Image.fromarray(IMAGE[:16, :16])]
    images[0].save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=images[1:])
    codec = hvae_codec.load("cifar10")
    with Image.open(tmp_path / "x.jpg") as image:
        assert image.n_frames == 2
        assert codec.encode(image) == codec.encode(tmp_path / "x.jpg")


def through_a_pipe(path, data):
    """Write to a pipe from another thread, which ends when its reader is gone."""
    os.mkfifo(path)

    def write():
        with contextlib.suppress(BrokenPipeError):
            path.write_bytes(data)

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def test_a_pipe_without_an_end_is_not_read_for_ever(tmp_path, monkeypatch):
    codec = hvae_codec.load("cifar10")
    blob = codec.encode(IMAGE)
    thread = through_a_pipe(tmp_path / "whole", blob)
    np.testing.assert_array_equal(hvae_codec.decode(tmp_path / "whole"), codec.decode(blob))
    thread.join()
    monkeypatch.setattr(encoded, "MAX_STREAMED_BYTES", 1 << 20)
    thread = through_a_pipe(tmp_path / "endless", bytes(1 << 22))
    with pytest.raises(BitstreamError, match=r"gives over 1,048,576 bytes"):
        hvae_codec.decode(tmp_path / "endless")
    thread.join()

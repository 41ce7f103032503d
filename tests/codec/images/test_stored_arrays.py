"""Uncompressed images are read when they are given: against Pillow, NumPy and files that change."""

import mmap
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import hvae_codec
from hvae_codec.codec.checkpoint import save_checkpoint
from hvae_codec.codec.images.load import as_uint8, picture_size
from hvae_codec.codec.images.stored_arrays import StoredRows
from hvae_codec.errors import AlphaError, ImageError, ImageTooLargeError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def owner(array):
    """What holds an array's memory in the end."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


@pytest.mark.parametrize(("suffix", "channels"), [(".ppm", 3), (".pgm", 1)])
def test_what_pillow_writes_is_read(tmp_path, suffix, channels):
    array = noise(21, 34, channels)
    path = tmp_path / f"x{suffix}"
    Image.fromarray(array[..., 0] if channels == 1 else array).save(path)
    picture = as_uint8(path)
    np.testing.assert_array_equal(picture, array)
    assert not isinstance(owner(picture), np.memmap | mmap.mmap)
    assert picture_size(path) == (21, 34)


def test_a_header_with_comments(tmp_path):
    (tmp_path / "x.ppm").write_bytes(b"P6 # by hand\n#size:\n 2\t1\n255\n" + bytes(range(6)))
    assert as_uint8(tmp_path / "x.ppm").tolist() == [[[0, 1, 2], [3, 4, 5]]]


@pytest.mark.parametrize("largest", [1, 3, 100, 254])
@pytest.mark.parametrize("kind", [b"P5", b"P6"])
def test_samples_of_another_largest_one_are_scaled_as_pillow_does(tmp_path, kind, largest):
    path = tmp_path / "x.pnm"
    width = 256 // (3 if kind == b"P6" else 1)
    samples = bytes(range(256))[: width * (3 if kind == b"P6" else 1)]
    path.write_bytes(kind + b"\n%d 1\n%d\n" % (width, largest) + samples)
    read = as_uint8(path)
    np.testing.assert_array_equal(read[0].reshape(-1)[[0, largest, -1]], [0, 255, 255])
    np.testing.assert_array_equal(read, np.asarray(Image.open(path)).reshape(read.shape))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"P6\n2 2\n0\n" + bytes(12), r"samples up to 0; 1 to 255 are read"),
        (b"P6\n2 2\n255\n" + bytes(11), r"2x2 makes 23 bytes, not 22"),
        (b"P6\n2 2\n255\n" + bytes(13), r"2x2 makes 23 bytes, not 24"),
        (b"P6\n2 2\n65535\n" + bytes(24), r"samples up to 65535"),
        (b"P6\n0 2\n255\n", r"0x2"),
        (b"P6\n2 x\n255\n" + bytes(12), r"header cannot be read"),
        (b"P6\n99999999 99999999\n255\n" + bytes(12), r"makes \d+ bytes"),
        (b"P5", r"header cannot be read"),
        (b"P3\n1 1\n255\n1 2 3\n", r"not a PNG, JPEG or WebP"),
        (b"\x93NUMPY\x01\x00", r"cannot be read"),
        (b"\x93NUMPY\x09\x00", r"cannot be read"),
        (b"", r"not a PNG, JPEG or WebP"),
    ],
)
def test_damaged_files_are_refused_naming_them(tmp_path, data, message):
    (tmp_path / "x.ppm").write_bytes(data)
    with pytest.raises(ImageError, match=message) as refused:
        as_uint8(tmp_path / "x.ppm")
    assert str(tmp_path / "x.ppm") in str(refused.value)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3)])
def test_npy_is_read(tmp_path, shape, order):
    array = noise(*shape)
    np.save(tmp_path / "x.npy", np.asarray(array, order=order))
    picture = as_uint8(tmp_path / "x.npy")
    np.testing.assert_array_equal(picture, array.reshape(9, 7, -1))
    assert not isinstance(owner(picture), np.memmap | mmap.mmap)
    assert picture.flags.c_contiguous


def test_arrays_that_are_no_pictures_are_refused(tmp_path):
    for array, kind in (
        (np.zeros((4, 4, 3)), ImageError),
        (np.zeros((4, 4, 4), np.uint8), AlphaError),
        (np.zeros((2, 4, 4, 3), np.uint8), ImageError),
        (np.zeros((1, 70_000, 1), np.uint8), ImageTooLargeError),
    ):
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(kind, match=r"x\.npy"):
            as_uint8(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ImageError, match="cannot be read"):
        as_uint8(tmp_path / "x.npy")


def test_a_header_of_more_than_the_file_holds_takes_no_memory(tmp_path):
    with (tmp_path / "x.npy").open("wb") as file:
        head = {"descr": "|u1", "fortran_order": False, "shape": (10**5, 10**5, 3)}
        np.lib.format.write_array_header_1_0(file, head)
    for read in (as_uint8, picture_size, lambda path: StoredRows(path)):
        with pytest.raises((ImageError, ValueError), match="30000000128 bytes, it has 128"):
            read(tmp_path / "x.npy")


@pytest.mark.parametrize("suffix", [".npy", ".ppm", ".pgm"])
def test_an_archive_holds_what_a_file_held_as_it_was_added(tmp_path, suffix):
    codec = hvae_codec.load("cifar10", 3)
    frame = tmp_path / f"frame{suffix}"

    def write(level):
        pixels = np.full((32, 32), level, np.uint8)
        if suffix == ".npy":
            np.save(frame, pixels)
        else:
            Image.fromarray(pixels).convert("RGB" if suffix == ".ppm" else "L").save(frame)

    def frames():
        for level in (10, 80, 150, 220):
            write(level)
            yield frame

    with hvae_codec.ArchiveWriter(tmp_path / "a.hvaa", codec) as writer:
        writer.extend(frames())
        write(120)
        writer.add(frame)
        os.truncate(frame, 0)
    with hvae_codec.Archive(tmp_path / "a.hvaa") as archive:
        means = [float(picture.mean()) for picture in archive]
    assert means == pytest.approx([10, 80, 150, 220, 120], abs=12)


def test_files_cut_after_they_were_read_kill_nothing(tmp_path):
    """In a process of its own: what a mapping would end with is SIGBUS."""
    code = (
        "import os, shutil, sys\n"
        "from pathlib import Path\n"
        "import hvae_codec\n"
        "from hvae_codec.codec.images.load import as_batch\n"
        "folder = Path(sys.argv[1])\n"
        "images = as_batch([folder / 'x.npy', folder / 'x.ppm'])\n"
        "codec = hvae_codec.load_file(folder / 'm.safetensors')\n"
        "for path in folder.iterdir(): os.truncate(path, 0)\n"
        "print(sum(int(image.sum()) for image in images))\n"
        "print(codec.decode(codec.encode(images[0][:, :, :1].repeat(3, 2))).shape)\n"
    )
    array = noise(64, 64, 3)
    np.save(tmp_path / "x.npy", array)
    Image.fromarray(array).save(tmp_path / "x.ppm")
    shipped = hvae_codec.load("cifar10", 1)
    stored = shipped.checkpoint
    card = {name: value for name, value in stored.card.items() if name != "sha256"}
    save_checkpoint(tmp_path / "m.safetensors", stored.model, stored.tables, card)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == [str(2 * int(array.sum())), "(64, 64, 3)"]


def test_a_batch_of_many_files_holds_none_open(tmp_path):
    paths = []
    for number in range(80):
        paths.append(tmp_path / f"{number}.ppm")
        paths[-1].write_bytes(b"P6 8 8 255\n" + bytes([number]) * 192)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = len(os.listdir("/proc/self/fd")) + 20
    codec = hvae_codec.load("cifar10", 1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (room, hard))
    try:
        files = codec.encode_batch(paths)
        features = codec.features(paths).mean
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(files) == len(features) == 80


@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_those_of_numpy(tmp_path, order):
    array = noise(5, 6, 7, 3)
    np.save(tmp_path / "x.npy", np.asarray(array, order=order))
    rows = StoredRows(tmp_path / "x.npy")
    assert (len(rows), rows.shape, rows.dtype) == (5, array.shape, np.uint8)
    for number in (4, 0, 2):
        np.testing.assert_array_equal(rows[number], array[number])
    for number in (-1, 5):
        with pytest.raises(IndexError, match=f"5 rows, none of number {number}"):
            rows[number]


def test_rows_of_a_file_that_changed_are_refused(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, noise(5, 6, 7, 3))
    rows = StoredRows(path)
    rows[0]
    os.utime(path, ns=(0, 0))
    with pytest.raises(ImageError, match=r"x\.npy was changed while it was being read"):
        rows[0]
    rows = StoredRows(path)
    os.truncate(path, 300)
    with pytest.raises(ImageError, match="was cut while it was being read"):
        rows[4]
    with pytest.raises(ValueError, match="truncated"):
        StoredRows(path)

"""Names of output files: of what is written, or refused before any work; folders named as such."""

import numpy as np
import pytest
from PIL import Image

import hvae_codec

Q1 = ("--model", "cifar10", "--quality", "1")
PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


@pytest.fixture
def inputs(tmp_path):
    """An image, its encoded file and an archive of it, in a folder of their own."""
    folder = tmp_path / "in"
    folder.mkdir()
    codec = hvae_codec.load("cifar10", 1)
    Image.fromarray(PIXELS).save(folder / "x.png")
    (folder / "x.hvae").write_bytes(codec.encode(PIXELS))
    with hvae_codec.ArchiveWriter(folder / "x.hvaa", codec) as writer:
        writer.add(PIXELS, "x")
    return {
        "sample": ["sample", "--count", 2, *Q1],
        "cat": ["cat", folder / "x.hvaa", 0],
        "decode": ["decode", folder / "x.hvae"],
        "encode": ["encode", folder / "x.png", *Q1],
        "features": ["features", folder / "x.png", *Q1],
    }


@pytest.mark.parametrize("command", ["sample", "cat", "decode"])
@pytest.mark.parametrize("name", ["s.xyz", "s.jpg", "s.npy", "s.hvae", "s.png.bak"])
def test_a_name_of_another_format_is_refused(run, inputs, tmp_path, command, name):
    done = run(*inputs[command], "--output", tmp_path / "out" / name)
    assert done.code == 1
    assert done.error() == (
        f"{tmp_path / 'out' / name}: images are written as .png or .ppm or .pgm; name --output so"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["sample", "cat", "decode"])
@pytest.mark.parametrize(
    ("name", "kind"), [("s.png", "PNG"), ("s.PNG", "PNG"), ("s", "PNG"), ("s.ppm", "PPM")]
)
def test_the_name_says_the_format(run, inputs, tmp_path, command, name, kind):
    assert run(*inputs[command], "--output", tmp_path / name).code == 0
    with Image.open(tmp_path / name) as image:
        assert image.format == kind
        shape = (32, 64, 3) if command == "sample" else (32, 32, 3)
        assert np.asarray(image).shape == shape


def test_formats_of_one_sheet_hold_the_same_samples(run, inputs, tmp_path):
    for name in ("s.png", "s.ppm"):
        assert run(*inputs["sample"], "--output", tmp_path / name).code == 0
    png, ppm = (np.asarray(Image.open(tmp_path / name)) for name in ("s.png", "s.ppm"))
    np.testing.assert_array_equal(png, ppm)


def test_encoded_files_and_features_do_not_go_by_an_image_s_name(run, inputs, tmp_path):
    done = run(*inputs["encode"], "--output", tmp_path / "y.png")
    assert (done.code, "encoded images are written as .hvae" in done.error()) == (1, True)
    done = run(*inputs["features"], "--output", tmp_path / "y.csv")
    assert (done.code, "features are written as .npz" in done.error()) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert run(*inputs["encode"], "--output", tmp_path / "y.bin").code == 0
    assert run(*inputs["features"], "--output", tmp_path / "y.npz").code == 0


@pytest.mark.parametrize("command", ["ls", "cat", "unpack", "info"])
def test_a_folder_in_the_place_of_a_file_is_named(run, tmp_path, command):
    words = {"cat": ["0"], "unpack": ["--output", tmp_path / "out"]}.get(command, [])
    done = run(command, tmp_path, *words)
    assert done.code == 1
    assert str(tmp_path) in done.error()
    assert "Errno" not in done.error()


def test_an_archive_that_is_a_folder(tmp_path):
    with pytest.raises(IsADirectoryError) as raised:
        hvae_codec.Archive(tmp_path)
    assert raised.value.filename == str(tmp_path)

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


OTHER_KINDS = (".png", ".JPG", ".gif", ".bmp", ".tif", ".npy", ".npz", ".safetensors", ".zip")


@pytest.mark.parametrize(
    ("command", "other", "allowed"),
    [
        ("encode", ".hvaa", "encoded images are written as .hvae; name --output so"),
        ("pack", ".hvae", "archives are written as .hvaa; name --output so"),
    ],
)
def test_a_known_suffix_of_another_kind_is_refused(run, inputs, tmp_path, command, other, allowed):
    words = inputs["encode"] if command == "encode" else ["pack", tmp_path / "in", *Q1]
    for suffix in (*OTHER_KINDS, other):
        output = tmp_path / "out" / f"s{suffix}"
        done = run(*words, "--output", output)
        assert (done.code, done.error()) == (1, f"{output}: {allowed}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["s", "s.bin", "s.2021", "s.hvaa", "s.HVAA"])
def test_archives_go_by_any_name_of_no_known_format(run, inputs, tmp_path, name):
    output = tmp_path / name
    assert run("pack", tmp_path / "in" / "x.png", *Q1, "--output", output).code == 0
    assert run("ls", output).out.endswith("x.png\n")


def test_shards_are_named_as_archives_are(run, inputs, tmp_path):
    words = ["pack", tmp_path / "in" / "x.png", tmp_path / "in" / "x.png", *Q1, "--shards", 1]
    done = run(*words, "--output", tmp_path / "s.zip")
    assert (done.code, "written as .hvaa" in done.error()) == (1, True)


def test_an_archive_of_another_name_is_appended_to(run, inputs, tmp_path):
    named = (tmp_path / "in" / "x.hvaa").rename(tmp_path / "old.zip")
    words = ["pack", tmp_path / "in" / "x.png", "--append", "--output"]
    assert run(*words, named).code == 0
    assert len(run("ls", named).out.splitlines()) == 2
    done = run(*words, tmp_path / "new.zip")
    assert (done.code, "written as .hvaa" in done.error()) == (1, True)


def test_images_are_unpacked_into_a_folder_or_an_array(run, inputs, tmp_path):
    words = ["unpack", tmp_path / "in" / "x.hvaa", "--output"]
    for name in ("a.png", "a.npz", "a.zip"):
        done = run(*words, tmp_path / name)
        assert (done.code, done.error()) == (
            1,
            f"{tmp_path / name}: images of one size are written as .npy, others into a folder; "
            "name --output so",
        )
    (tmp_path / "there.png").mkdir()
    for name in ("a.npy", "b.2021", "there.png"):
        assert run(*words, tmp_path / name).code == 0
    assert [path.name for path in (tmp_path / "there.png").iterdir()] == ["x.png"]


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_folder_of_results_has_no_file_s_name(run, inputs, tmp_path, command):
    for name in ("b.hvaa", "b.hvae", "b.zip"):
        done = run(command, tmp_path / "in", "--output", tmp_path / name)
        assert done.code == 1
        assert done.error() == (
            f"{tmp_path / name}: several results are written into a folder; name --output without "
            f"{name[1:]}"
        )
    (tmp_path / "b.zip").mkdir()
    for name in ("b.2021", "b.zip"):
        assert run(command, tmp_path / "in", "--output", tmp_path / name).code == 0


@pytest.mark.parametrize(
    ("words", "name", "message"),
    [
        (["train", "--data", "none", "--name", "n"], "t.safetensors", "into a folder"),
        (["sweep", "--data", "none", "--betas", "1,1"], "t.json", "into a folder"),
        (["report", "none"], "t.png", "into a folder"),
        (["evaluate", "none"], "t.csv", "written as .jsonl or .json"),
    ],
)
def test_results_of_research_commands(run, tmp_path, words, name, message):
    done = run(*words, "--output", tmp_path / name)
    assert (done.code, message in done.err) == (1, True)
    assert not list(tmp_path.iterdir())

"""Photographs on the command line: their model is chosen by size, and has all qualities."""

import json
import re

import numpy as np
import pytest
from PIL import Image

import hvae_codec
from hvae_codec.cli.commands import encode_decode
from hvae_codec.cli.jobs import batches
from hvae_codec.codec.bitstream.header import parse
from hvae_codec.codec.model_choice import SMALL_PIXELS
from hvae_codec.codec.quality_scale import MAX_NUMBER, quality_number, stated_quality
from hvae_codec.codec.registry import _directory, _entries, model_for, scale_of
from hvae_codec.errors import UnknownModelError
from hvae_codec.evaluation.metrics.psnr import psnr_db
from tests.photographs import load_sample_image

pytestmark = pytest.mark.usefixtures("one_thread")

CHINA = load_sample_image("china.jpg")
LARGE, SMALL = CHINA[200:272, 100:180], CHINA[200:232, 100:132]


@pytest.fixture
def photo():
    return hvae_codec.load("photo")


@pytest.fixture
def folder(save, tmp_path):
    """a.png: 80x72; b.png: 32x32; c.png: 80x72, grey."""
    save(tmp_path / "in" / "a.png", LARGE)
    save(tmp_path / "in" / "b.png", SMALL)
    save(tmp_path / "in" / "c.png", LARGE[..., :1])
    return tmp_path / "in"


def blob_of(path):
    return path.with_suffix(".hvae").read_bytes()


class TestWhichModel:
    def test_the_rule(self, photo, grey_models, monkeypatch):
        assert SMALL_PIXELS == 4096
        sizes = [(64, 64), (1, 4096), (64, 65), (1, 4097), (2000, 3000)]
        assert [model_for(*size) for size in sizes] == ["cifar10"] * 2 + ["photo"] * 3
        assert (scale_of("cifar10"), scale_of("photo")) == ("1, 2, 3, 4, 5", "1 to 100")
        with pytest.raises(UnknownModelError, match="auto"):
            hvae_codec.load("auto")
        monkeypatch.setenv("HVAE_MODELS", str(grey_models))
        assert model_for(2000, 3000) == "cifar10"

    def test_of_a_folder_each_picture_takes_its_own(self, run, photo, folder):
        done = run("encode", folder, "--json")
        assert (done.code, done.err) == (0, "")
        assert [(row["model"], row["quality"]) for row in done.json] == [
            ("photo", photo.quality),
            ("cifar10", 3),
            ("photo", photo.quality),
        ]
        assert blob_of(folder / "a.png") == photo.encode(LARGE)
        assert blob_of(folder / "b.png") == hvae_codec.load("cifar10").encode(SMALL)
        assert blob_of(folder / "c.png") == photo.encode(LARGE[..., :1])
        assert run("decode", folder, "-o", folder / "out").code == 0
        assert Image.open(folder / "out" / "c.png").mode == "L"

    def test_a_quality_of_one_model(self, run, photo, folder):
        for name, quality in (("a.png", 37.5), ("b.png", 4)):
            assert run("encode", folder / name, "--quality", quality).code == 0
        assert blob_of(folder / "a.png") == photo.at_quality(37.5).encode(LARGE)
        assert blob_of(folder / "b.png") == hvae_codec.load("cifar10", 4).encode(SMALL)

    def test_a_quality_of_two_models_is_refused(self, run, folder):
        done = run("encode", folder, "--quality", "4")
        assert done.code == 1
        assert done.error().endswith(
            "take cifar10 (qualities 1, 2, 3, 4, 5) and photo (qualities 1 to 100): "
            "name one with --model"
        )
        assert not list(folder.glob("*.hvae"))
        done = run("encode", folder, "--quality", "4", "--model", "photo", "--json")
        assert {row["model"] for row in done.json} == {"photo"}

    def test_bad_pictures_have_no_say(self, run, folder):
        (folder / "b.png").write_text("no image")
        (folder / "d.npy").write_bytes(b"\x93NUMPY damaged")
        done = run("encode", folder, folder / "d.npy", "--quality", "80", "-o", folder / "out")
        assert done.code == 1
        assert len(done.err.splitlines()) == 2
        assert len(list((folder / "out").iterdir())) == 2

    def test_in_the_library(self, photo):
        for picture, name in ((LARGE, "photo"), (SMALL, "cifar10")):
            blob = hvae_codec.encode(picture, target_psnr=20.0)
            assert hvae_codec.codec_for(blob).info.name == name
            assert blob == hvae_codec.encode(picture, name, target_psnr=20.0)
        low, high = (photo.at_quality(quality).encode(LARGE) for quality in (30, 70))
        total = (len(low) + len(high)) // 2
        blobs = hvae_codec.encode_within([LARGE, SMALL], total)
        assert 0.8 * total < sum(map(len, blobs)) <= total
        names = [hvae_codec.codec_for(blob).info.name for blob in blobs]
        assert names == ["photo", "cifar10"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--quality", "101"), 1, "qualities of this model lie in 1..100, not 101"),
        (("--quality", "0.5"), 1, "qualities of this model lie in 1..100, not 0.5"),
        (("--effort", "1"), 1, "model 'photo' has no --effort but 0; .* --quality, 1 to 100"),
        (("--target-bytes", "40"), 1, "no file of 38 to 42 bytes; the nearest has"),
        (("--target-psnr", "99"), 1, "no file reaches 99.00 dB; the best has"),
    ],
)
def test_what_there_is_not(run, folder, options, code, message):
    for model in ((), ("--model", "photo")):
        done = run("encode", folder / "a.png", *model, *options)
        assert done.code == code
        assert re.search(message, done.error())
        assert not (folder / "a.hvae").exists()


def test_sizes_and_qualities_that_are_asked_for(run, photo, folder):
    source = folder / "a.png"
    sizes = [len(photo.at_quality(quality).encode(LARGE)) for quality in (10, 60)]
    wanted = sum(sizes) // 2
    (row,) = run("encode", source, "--target-bytes", wanted, "--psnr", "--json").json
    assert row["file_bytes"] == len(blob_of(source)) == pytest.approx(wanted, rel=0.02)
    (within,) = run("encode", source, "--max-bytes", wanted, "--json").json
    assert sizes[0] < within["file_bytes"] <= wanted
    target = row["psnr_db"] - 0.5
    (smaller,) = run("encode", source, "--target-psnr", target, "--psnr", "--json").json
    assert target <= smaller["psnr_db"] < row["psnr_db"]
    assert smaller["file_bytes"] < row["file_bytes"]
    assert blob_of(source) == hvae_codec.encode(LARGE, "photo", target_psnr=target)
    assert smaller["psnr_db"] == pytest.approx(
        psnr_db(LARGE, hvae_codec.decode(blob_of(source))), abs=1e-3
    )


def test_stated_qualities_are_whole_where_they_can_be():
    numbers = range(MAX_NUMBER + 1)
    stated = [stated_quality(number) for number in numbers]
    assert [quality_number(quality) for quality in stated] == list(numbers)
    assert stated == sorted(stated)
    assert {float(quality) for quality in range(1, 101)} <= set(stated)


def test_info_of_a_file(run, photo, folder):
    source = folder / "a.png"
    run("encode", source, "--quality", "20")
    row = run("info", source.with_suffix(".hvae"), "--json").json
    assert (row["format_version"], row["model"], row["intact"]) == (2, "photo quality 20", True)
    assert (row["width"], row["height"], row["channels"]) == (80, 72, 3)
    assert row["payload_bytes"] == row["file_bytes"] - parse(blob_of(source)).payload_at


def test_previews_and_large_pictures_in_strips(run, photo, folder, monkeypatch):
    monkeypatch.setattr(batches, "MAX_PIXELS", 2000)
    monkeypatch.setattr(encode_decode, "MAX_PIXELS", 2000)
    source = folder / "a.png"
    (row,) = run("encode", source, "--psnr", "--json").json
    blob, encoded = blob_of(source), source.with_suffix(".hvae")
    assert blob == photo.encode(LARGE)
    assert row["psnr_db"] == pytest.approx(psnr_db(LARGE, photo.decode(blob)), abs=1e-3)
    for flags, expected in (((), photo.decode(blob)), (("--preview",), photo.preview(blob))):
        assert run("decode", encoded, *flags, "-o", folder / "d.png").code == 0
        np.testing.assert_array_equal(np.asarray(Image.open(folder / "d.png")), expected)


def test_features_and_samples(run, photo, folder, tmp_path):
    run("encode", folder / "a.png", "--quality", "30")
    words = ("--model", "photo", "--quality", "30", "--json")
    rows = run("features", folder / "a.png", folder / "a.hvae", *words).json
    expected = photo.at_quality(30).features([LARGE])
    for row in rows:  # a picture's and its file's are the same: symbols are chosen once
        np.testing.assert_allclose(row["mean"], expected.mean[0], atol=1e-5)
    done = run("features", folder, "--model", "photo", "-o", tmp_path / "z.npz")
    assert done.out.startswith(f"4 x {photo.info.z_dims[0]} features")
    done = run("sample", "-n", "3", "--seed", "2", *words, "-o", tmp_path / "s.png")
    assert done.json["model_id"] == photo.info.model_id
    _, height, width = photo.info.image_shape
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    pictures = photo.at_quality(30).sample(3, seed=2)
    assert sheet.shape == (height, 3 * width, 3)
    np.testing.assert_array_equal(sheet[:, :width], pictures[0])


def test_archives(run, photo, folder, tmp_path):
    archive = tmp_path / "a.hvaa"
    done = run("pack", folder, "--model", "photo", "--quality", "20", "-o", archive, "--json")
    assert (done.code, done.json["added"]) == (0, 3)
    more = ("--append", "--no-names", "--model", "photo", "--quality", "60")
    assert run("pack", folder / "a.png", *more, "-o", archive, "--json").json["pictures"] == 4
    row = run("info", archive, "--json").json
    assert (row["model"], row["intact"], row["pictures"]) == ("photo", True, 4)
    assert run("ls", archive).out.splitlines()[1].split() == ["1", "32x32", "rgb", "b.png"]
    assert run("cat", archive, "a.png", "-o", tmp_path / "one.png").code == 0
    expected = photo.at_quality(20)
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "one.png")), expected.decode(expected.encode(LARGE))
    )
    assert run("unpack", archive, "-o", tmp_path / "out").code == 0
    better = np.asarray(Image.open(tmp_path / "out" / "3.png"))
    first = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert psnr_db(LARGE, better) > psnr_db(LARGE, first)
    done = run("pack", folder / "b.png", "--append", "--model", "cifar10", "-o", archive)
    assert done.code == 1
    assert "model" in done.err


class TestOneModelForAll:
    """Archives and features have one model: that of the largest image."""

    def model_of(self, run, archive):
        return run("info", archive, "--json").json["model"]

    def test_large_images_are_packed_as_encode_codes_them(self, run, photo, folder, tmp_path):
        done = run("pack", folder / "a.png", "-o", tmp_path / "a.hvaa")
        assert (done.code, done.err) == (0, "")
        assert self.model_of(run, tmp_path / "a.hvaa") == "photo"
        with hvae_codec.Archive(tmp_path / "a.hvaa") as archive:
            expected = hvae_codec.decode(photo.encode(LARGE))
            np.testing.assert_array_equal(archive[0], expected)
        done = run("pack", folder / "b.png", "-o", tmp_path / "b.hvaa")
        assert (done.code, done.err) == (0, "")
        assert self.model_of(run, tmp_path / "b.hvaa") == "cifar10 quality 3"

    def test_of_both_kinds_all_take_the_model_of_the_large(self, run, photo, folder, tmp_path):
        done = run("pack", folder, "-o", tmp_path / "a.hvaa")
        assert done.code == 0
        assert re.search("warning: the small images take .* photo; --model sets it", done.err)
        assert self.model_of(run, tmp_path / "a.hvaa") == "photo"
        done = run("pack", folder, "--model", "cifar10", "-o", tmp_path / "b.hvaa")
        assert (done.code, done.err) == (0, "")

    def test_arrays_and_data_sets(self, run, tmp_path):
        np.save(tmp_path / "large.npy", LARGE[None])
        assert run("pack", tmp_path / "large.npy", "-o", tmp_path / "a.hvaa").code == 0
        assert self.model_of(run, tmp_path / "a.hvaa") == "photo"
        np.save(tmp_path / "small.npy", SMALL[None])
        assert run("pack", tmp_path / "small.npy", "-o", tmp_path / "b.hvaa").code == 0
        assert self.model_of(run, tmp_path / "b.hvaa") == "cifar10 quality 3"

    def test_an_archive_that_is_there_keeps_its_model(self, run, folder, tmp_path):
        archive = tmp_path / "a.hvaa"
        words = ("--model", "cifar10", "--quality", "2")
        assert run("pack", folder / "b.png", *words, "-o", archive).code == 0
        assert run("pack", folder / "a.png", "--append", "-o", archive).code == 0
        assert self.model_of(run, archive) == "cifar10 quality 2"

    def test_features(self, run, photo, folder):
        (row,) = run("features", folder / "a.png", "--json").json
        np.testing.assert_allclose(row["mean"], photo.features([LARGE]).mean[0], atol=1e-5)
        (row,) = run("features", folder / "b.png", "--json").json
        small = hvae_codec.load("cifar10")
        assert row["model_id"] == small.info.model_id
        done = run("features", folder, "--json")
        assert {row["model_id"] for row in done.json} == {photo.info.model_id}
        assert "warning: the small images take the model of the large ones, photo" in done.err


def test_the_model_is_one_line_of_the_list(run, photo):
    (line,) = [line for line in run("models").out.splitlines() if line.startswith("photo")]
    _, height, width = photo.info.image_shape
    assert line.split()[1:4] == ["1-100", photo.info.model_id, f"{width}x{height}x3"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("calibrate", "is of maps, for images of any size; this takes models of"),
        ("evaluate", "is a model of maps, for images of any size and quality; this"),
    ],
)
def test_commands_for_models_of_one_size_refuse_maps(run, save, tmp_path, command, message):
    save(tmp_path / "crops" / "test" / "a.png", SMALL)
    (path,) = [path for info, path in _entries(_directory()) if info.name == "photo"]
    before = json.loads(path.with_suffix(".json").read_text())
    done = run(command, path, "--data", f"folder:{tmp_path / 'crops'}")
    assert done.code == 1
    assert message in done.error()
    assert json.loads(path.with_suffix(".json").read_text()) == before

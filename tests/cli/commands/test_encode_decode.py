"""`hvae-codec encode` and `decode`: against the library, and on folders with bad files."""

import os

import numpy as np
import pytest
from PIL import Image

import hvae_codec
from hvae_codec.cli.commands import encode_decode
from hvae_codec.cli.jobs import batches
from hvae_codec.codec.images.load import as_uint8

Q1, Q2 = ("--quality", "1"), ("--quality", "2")


@pytest.fixture
def codec():
    return hvae_codec.load("cifar10", quality=1)


def pixels_of(path):
    """A PNG's pixels as [H, W, C], read without the library."""
    array = np.asarray(Image.open(path))
    return array[..., None] if array.ndim == 2 else array


def test_one_picture_there_and_back(run, codec, save, picture, tmp_path):
    source = save(tmp_path / "a.png", picture(40, 70, 3, 1))
    done = run("encode", source, *Q1, "--psnr", "--json")
    assert (done.code, done.err) == (0, "")
    blob = (tmp_path / "a.hvae").read_bytes()
    assert blob == codec.encode(picture(40, 70, 3, 1))
    decoded = codec.decode(blob).astype(float)
    psnr = 10 * np.log10(255**2 / np.mean((picture(40, 70, 3, 1) - decoded) ** 2))
    (row,) = done.json
    assert row == {
        "input": str(source),
        "output": str(tmp_path / "a.hvae"),
        "model": "cifar10",
        "quality": 1,
        "width": 70,
        "height": 40,
        "file_bytes": len(blob),
        "bits_per_pixel": pytest.approx(8 * len(blob) / 2800, abs=1e-4),
        "psnr_db": pytest.approx(psnr, abs=1e-3),
    }
    back = run("decode", tmp_path / "a.hvae", "--output", tmp_path / "deep" / "b.png", "--json")
    assert back.json[0]["output"] == str(tmp_path / "deep" / "b.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "deep" / "b.png"), codec.decode(blob))


def test_sizes_and_qualities_that_are_asked_for(run, save, picture, tmp_path):
    source, blob = save(tmp_path / "a.png", picture(32, 32, 3, 1)), tmp_path / "a.hvae"
    for options, arguments in [
        (("--max-bytes", "70"), {"max_bytes": 70}),
        (("--target-psnr", "20", "--effort", "2"), {"target_psnr": 20.0, "effort": 2}),
    ]:
        done = run("encode", source, *options, "--psnr", "--json")
        assert done.code == 0
        assert blob.read_bytes() == hvae_codec.encode(picture(32, 32, 3, 1), **arguments)
    assert done.json[0]["psnr_db"] >= 20.0
    assert run("encode", source, "--quality", "2.5").code == 0
    assert blob.read_bytes() == hvae_codec.load("cifar10", 2.5).encode(picture(32, 32, 3, 1))
    assert run("encode", source, *Q2, "--effort", "1").code == 0
    assert blob.read_bytes() == hvae_codec.load("cifar10", 2, effort=1).encode(
        picture(32, 32, 3, 1)
    )


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--target-bytes", "60", "--target-psnr", "20"), 2, "exclude each other"),
        (("--target-bytes", "60", *Q1), 2, "--quality cannot be asked for"),
        (("--max-bytes", "60", "--effort", "0"), 2, "--effort 1 or 2"),
        (("--quality", "2.5", "--effort", "0"), 1, "lies between quality levels"),
        (("--quality", "0"), 2, "not a finite number above 0"),
        (("--target-psnr", "nan"), 2, "not a finite number above 0"),
        (("--max-bytes", "9"), 1, "no file of at most 9 bytes; the nearest has"),
    ],
)
def test_targets_that_contradict_or_cannot_be_met(
    run, save, picture, tmp_path, options, code, message
):
    done = run("encode", save(tmp_path / "a.png", picture(32, 32, 3, 1)), *options)
    assert done.code == code
    assert message in done.err
    assert not (tmp_path / "a.hvae").exists()


def test_text_output_of_one_picture_is_one_line(run, save, picture, tmp_path):
    source = save(tmp_path / "a.png", picture(32, 32, 1, 0))
    done = run("encode", source, *Q1, "--psnr")
    size = source.with_suffix(".hvae").stat().st_size
    start = f"{source} -> {tmp_path / 'a.hvae'}: 32x32, {size} bytes, {8 * size / 1024:.3f} bits"
    assert done.out.startswith(start)
    assert done.out.endswith(" dB\n")
    assert run("decode", source.with_suffix(".hvae"), "-o", tmp_path / "b.png").out == (
        f"{source.with_suffix('.hvae')} -> {tmp_path / 'b.png'}: 32x32\n"
    )


def test_bad_pictures_in_a_folder_spoil_nothing_else(run, codec, mixed_folder, tmp_path):
    folder, good, bad = mixed_folder
    done = run("encode", folder, *Q1, "--json", "--output", tmp_path / "out")
    assert done.code == 1
    lines = done.err.splitlines()
    assert len(lines) == len(bad)
    for path, reason in zip(bad, ("has alpha", "truncated PNG", "not a PNG"), strict=True):
        (line,) = (line for line in lines if str(path) in line)
        assert line.count(str(path)) == 1
        assert reason in line
    rows = done.json
    assert [row["input"] for row in rows] == sorted(map(str, good + bad))
    assert [row["input"] for row in rows if "error" in row] == sorted(map(str, bad))
    blobs = codec.encode_batch([as_uint8(path) for path in good])
    for path, blob in zip(good, blobs, strict=True):
        target = tmp_path / "out" / path.relative_to(folder).with_suffix(".hvae")
        assert target.read_bytes() == blob
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == len(good)


def test_folders_behind_links_and_files_of_other_kinds(run, save, picture, tmp_path):
    """Of every command that takes a folder of pictures."""
    save(tmp_path / "in" / "a.png", picture(32, 32, 3, 1))
    save(tmp_path / "elsewhere" / "b.png", picture(32, 32, 3, 2))
    save(tmp_path / "in" / "c.gif", picture(32, 32, 3, 3))
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "in")
    warning = f"hvae-codec: warning: {tmp_path / 'in'}: skipped 1 *.gif; files taken: *.png, "
    out = tmp_path / "out"
    commands = {
        ("encode", tmp_path / "in", *Q1, "--json", "--output", out): 2,
        ("features", tmp_path / "in", *Q1, "--json"): 2,
        ("pack", tmp_path / "in", *Q1, "--output", tmp_path / "x.hvaa"): None,
    }
    for command, rows in commands.items():
        done = run(*command)
        assert (done.code, done.err.startswith(warning)) == (0, True), command
        assert len(done.err.splitlines()) == 1
        if rows is not None:
            assert len(done.json) == rows
    with hvae_codec.Archive(tmp_path / "x.hvaa") as archive:
        assert archive.names == ["a.png", "link/b.png"]
    assert (out / "link" / "b.hvae").is_file()
    pattern = tmp_path / "in" / "**" / "*.png"
    assert run("pack", pattern, *Q1, "--output", tmp_path / "y.hvaa").code == 0
    with hvae_codec.Archive(tmp_path / "y.hvaa") as archive:
        assert len(archive) == 2


def test_an_image_given_to_be_decoded_is_named_as_such(run, picture, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(picture(32, 32, 3, 0)).save(path)
    before = path.read_bytes()
    done = run("decode", path)
    assert done.code == 1
    assert f"{path} is no .hvae file" in done.err
    assert path.read_bytes() == before
    done = run("encode", path, "-o", path)
    assert (done.code, "would be replaced" in done.err) == (1, True)
    assert path.read_bytes() == before


def test_bad_files_in_a_folder_are_not_decoded(run, codec, picture, tmp_path):
    pictures = [picture(32, 32, 3, i) for i in range(6)] + [picture(40, 33, 1, 9)]
    blobs = codec.encode_batch(pictures)
    blobs[3] = hvae_codec.load("cifar10", quality=2).encode(pictures[3])
    folder = tmp_path / "encoded"
    folder.mkdir()
    for index, blob in enumerate(blobs):
        (folder / f"{index}.hvae").write_bytes(blob)
    flipped = bytearray(blobs[1])
    flipped[-2] ^= 16
    bad = {
        "flipped": (bytes(flipped), "check sum"),
        "short": (blobs[1][:-3], "check sum"),
        "stranger": (blobs[1][:3] + b"\0\0\0\0" + blobs[1][7:], "model 00000000"),
        "block": (codec.encode_block(pictures[:2]), "a block of 2 images"),
        "text": (b"hello", "not a .hvae file"),
        "nothing": (b"", "not a .hvae file"),
    }
    for name, (data, _) in bad.items():
        (folder / f"{name}.hvae").write_bytes(data)
    done = run("decode", folder, "--output", tmp_path / "out")
    assert done.code == 1
    assert done.out.startswith("7 files in ")
    assert done.out.endswith(" s, 6 failed\n")
    lines = done.err.splitlines()
    for name, (_, reason) in bad.items():
        (line,) = (line for line in lines if f"{name}.hvae: " in line)
        assert reason in line
    assert len(lines) == len(bad)
    for index, blob in enumerate(blobs):
        np.testing.assert_array_equal(
            pixels_of(tmp_path / "out" / f"{index}.png"), hvae_codec.decode(blob)
        )
    assert len(list((tmp_path / "out").iterdir())) == len(blobs)


def test_preview_reads_z2_alone(run, codec, picture, tmp_path):
    blob = codec.encode(picture(32, 32, 3, 3))
    (tmp_path / "a.hvae").write_bytes(blob[:-1])
    assert run("decode", tmp_path / "a.hvae", "--preview").code == 0
    np.testing.assert_array_equal(pixels_of(tmp_path / "a.png"), codec.preview(blob))


@pytest.mark.parametrize(("files", "pixels"), [(256, 16_000_000), (3, 16_000_000), (256, 1)])
def test_rows_keep_their_order_however_files_are_batched(
    run, codec, save, picture, tmp_path, monkeypatch, files, pixels
):
    monkeypatch.setattr(batches, "MAX_FILES", files)
    monkeypatch.setattr(batches, "MAX_PIXELS", pixels)
    sources = [save(tmp_path / "in" / f"{i:02}.png", picture(8, 9 + i, 3, i)) for i in range(7)]
    done = run("encode", tmp_path / "in", *Q1, "--json")
    assert [(row["input"], row["width"]) for row in done.json] == [
        (str(source), 9 + i) for i, source in enumerate(sources)
    ]
    back = run("decode", tmp_path / "in", "--output", tmp_path / "out", "--json")
    assert [row["width"] for row in back.json] == [9 + i for i in range(7)]


def test_more_pictures_than_one_batch(run, save, picture, tmp_path):
    first = save(tmp_path / "in" / "000.png", picture(8, 8, 3, 0))
    for index in range(1, 300):
        os.link(first, first.with_name(f"{index:03}.png"))
    done = run("encode", tmp_path / "in", *Q1)
    written = sorted((tmp_path / "in").glob("*.hvae"))
    assert done.code == 0
    assert len(written) == 300
    total = sum(path.stat().st_size for path in written)
    given = 300 * first.stat().st_size
    share = f"{100 * total / given:.2f}%"
    assert done.out.startswith(f"300 files, {total} bytes, {share} of the originals' {given}, in ")


def test_a_model_of_grey_pictures_takes_the_grey_ones(
    run, mixed_folder, grey_models, monkeypatch, tmp_path
):
    folder, good, _ = mixed_folder
    monkeypatch.setenv("HVAE_MODELS", str(grey_models))
    done = run("encode", folder, "--model", "grey", "--json", "--output", tmp_path / "out")
    assert done.code == 1
    assert [row["input"] for row in done.json if "error" not in row] == [str(good[-1])]
    errors = [row["error"] for row in done.json if "error" in row]
    assert sum("codes grey images; got 3 channels" in error for error in errors) == 4
    assert not any("of the batch" in error for error in errors)


def test_large_pictures_go_in_strips(run, codec, save, picture, tmp_path, monkeypatch):
    """The limit lowered: what is 16 megapixels otherwise is 2,000 pixels here."""
    monkeypatch.setattr(batches, "MAX_PIXELS", 2000)
    monkeypatch.setattr(encode_decode, "MAX_PIXELS", 2000)
    folder = tmp_path / "in"
    arrays = {"a": picture(90, 70, 3, 1), "b": picture(20, 30, 3, 2), "c": picture(50, 60, 1, 3)}
    for name, array in arrays.items():
        save(folder / f"{name}.png", array)
    model = ("--model", "cifar10", *Q1)
    done = run("encode", folder, *model, "--psnr", "--json", "-o", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    for row, (name, array) in zip(done.json, arrays.items(), strict=True):
        blob = (tmp_path / "out" / f"{name}.hvae").read_bytes()
        assert blob == codec.encode(array)
        error = np.mean((array.astype(float) - codec.decode(blob)) ** 2)
        assert row["psnr_db"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)
    assert run("decode", tmp_path / "out").code == 0
    for name in arrays:
        blob = (tmp_path / "out" / f"{name}.hvae").read_bytes()
        np.testing.assert_array_equal(
            pixels_of(tmp_path / "out" / f"{name}.png"), codec.decode(blob)
        )
    source = tmp_path / "out" / "a.hvae"
    run("decode", source, "--preview", "-o", tmp_path / "p.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "p.png"), codec.preview(source.read_bytes()))
    source.write_bytes(source.read_bytes()[:-1])
    failed = run("decode", source, "-o", tmp_path / "q.png")
    assert failed.code == 1
    assert "truncated" in failed.error()
    assert not (tmp_path / "q.png").exists()


@pytest.mark.parametrize(("channels", "suffix"), [(3, ".ppm"), (1, ".pgm")])
def test_uncompressed_pictures_in_and_out(run, codec, save, picture, tmp_path, channels, suffix):
    array = picture(45, 50, channels, 1)
    source = save(tmp_path / f"a{suffix}", array)
    assert run("encode", source, *Q1).code == 0
    blob = (tmp_path / "a.hvae").read_bytes()
    assert blob == codec.encode(array)
    assert run("decode", tmp_path / "a.hvae", "-o", tmp_path / f"b{suffix}").code == 0
    assert (tmp_path / f"b{suffix}").read_bytes()[:2] == (b"P6" if channels == 3 else b"P5")
    np.testing.assert_array_equal(pixels_of(tmp_path / f"b{suffix}"), codec.decode(blob))
    np.save(tmp_path / "c.npy", array)
    assert run("encode", tmp_path / "c.npy", *Q1).code == 0
    assert (tmp_path / "c.hvae").read_bytes() == blob


def test_logos_and_prints_are_converted_on_request(run, codec, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGBA", (32, 24), (200, 100, 50, 0)).save(folder / "logo.png")
    Image.new("CMYK", (32, 24), (0, 0, 0, 255)).save(folder / "print.jpg", quality=100)
    Image.new("RGB", (32, 24), (1, 2, 3)).save(folder / "plain.png")
    refused = run("encode", folder, *Q1, "--json", "--output", tmp_path / "refused")
    assert ["error" in row for row in refused.json] == [True, False, True]
    asked = ("--background", "#0a141e", "--convert-cmyk")
    done = run("encode", folder, *Q1, *asked, "--json", "--output", tmp_path / "out")
    assert done.code == 0
    for name, colour in [("logo", (10, 20, 30)), ("print", (0, 0, 0)), ("plain", (1, 2, 3))]:
        blob = (tmp_path / "out" / f"{name}.hvae").read_bytes()
        assert blob == codec.encode(np.full((24, 32, 3), colour, np.uint8))
    packed = run("pack", folder, *Q1, *asked, "--output", tmp_path / "a.hvaa", "--json")
    assert (packed.json["added"], packed.json["failed"]) == (3, [])
    with hvae_codec.Archive(tmp_path / "a.hvaa") as archive:
        shown = codec.decode(codec.encode(np.full((24, 32, 3), (10, 20, 30), np.uint8)))
        np.testing.assert_array_equal(archive["logo.png"], shown)
    features = run("features", folder, *Q1, *asked, "--json")
    plain = codec.features([np.full((24, 32, 3), (10, 20, 30), np.uint8)]).mean[0]
    np.testing.assert_allclose(features.json[0]["mean"], plain, atol=1e-5)
    wrong = run("encode", folder, "--background", "snowy")
    assert wrong.code == 2
    assert "--background 'snowy' is no colour; allowed: a name such as white" in wrong.err


def test_a_line_for_each_file(run, save, picture, tmp_path):
    save(tmp_path / "in" / "a.png", picture(8, 9, 3, 0))
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    save(tmp_path / "in" / "c.png", picture(7, 8, 3, 0))
    done = run("encode", tmp_path / "in", *Q1, "--verbose", "--output", tmp_path / "out")
    first, second, summary = done.out.splitlines()
    assert first.startswith(f"{tmp_path / 'in/a.png'} -> {tmp_path / 'out/a.hvae'}: 9x8, ")
    assert second.startswith(f"{tmp_path / 'in/c.png'} -> {tmp_path / 'out/c.hvae'}: 8x7, ")
    assert summary.startswith("2 files, ")
    assert summary.endswith(", 1 failed")
    again = run("decode", tmp_path / "out", "-v", "--output", tmp_path / "back")
    lines = again.out.splitlines()
    assert lines[0] == f"{tmp_path / 'out/a.hvae'} -> {tmp_path / 'back/a.png'}: 9x8"
    assert lines[2].startswith("2 files in ")

"""`hvae-codec info` and `models`."""

import re

import numpy as np
import pytest

import hvae_codec
from hvae_codec import ops


@pytest.fixture
def codec():
    return hvae_codec.load("cifar10", quality=1)


def info_of(run, path, data):
    path.write_bytes(data)
    done = run("info", path, "--json")
    assert (done.code, done.err) == (0, "")
    return done.json


def test_a_picture_of_the_models_size(run, codec, picture, tmp_path):
    blob = codec.encode(picture(32, 32, 3, 0))
    assert info_of(run, tmp_path / "a.hvae", blob) == {
        "file": str(tmp_path / "a.hvae"),
        "intact": True,
        "file_bytes": len(blob),
        "header_bytes": 11,
        "payload_bytes": len(blob) - 11,
        "format_version": 1,
        "model_id": codec.info.model_id,
        "block": False,
        "pictures": 1,
        "model": "cifar10 quality 1",
        "width": 32,
        "height": 32,
        "channels": 3,
        "bits_per_pixel": round(len(blob) / 128, 4),
    }


def test_a_grey_picture_of_another_size(run, codec, picture, tmp_path):
    row = info_of(run, tmp_path / "a.hvae", codec.encode(picture(45, 70, 1, 0)))
    assert (row["width"], row["height"], row["channels"], row["block"]) == (70, 45, 1, False)


def test_a_block(run, codec, picture, tmp_path):
    blob = codec.encode_block(np.stack([picture(32, 32, 3, i) for i in range(5)]))
    row = info_of(run, tmp_path / "a.hvae", blob)
    assert (row["block"], row["pictures"], row["width"], row["height"]) == (True, 5, 32, 32)
    assert row["header_bytes"] + row["payload_bytes"] == len(blob)
    assert row["bits_per_pixel"] == round(8 * len(blob) / (5 * 1024), 4)


@pytest.fixture
def archive(codec, picture, tmp_path):
    path = tmp_path / "a.hvaa"
    with hvae_codec.ArchiveWriter(path, codec) as writer:
        for index in range(3):
            writer.add(picture(32, 32, 3, index), name=f"cat-{index}")
        writer.flush()
        writer.add(picture(40, 70, 1, 9))
    return path


def test_an_archive(run, codec, archive):
    done = run("info", archive, "--json")
    assert (done.code, done.err) == (0, "")
    size = archive.stat().st_size
    blocks = done.json["block_file_bytes"]
    assert done.json == {
        "file": str(archive),
        "intact": True,
        "file_bytes": size,
        "block_file_bytes": blocks,
        "blocks": 2,
        "pictures": 4,
        "named": True,
        "labels": False,
        "model_id": codec.info.model_id,
        "model": "cifar10 quality 1",
        "tile_width": 32,
        "tile_height": 32,
        "channels": 3,
        "bytes_per_picture": round(size / 4, 3),
    }
    assert 0 < blocks < size
    assert re.search(r"^pictures +4$", run("info", archive).out, re.MULTILINE)


def test_a_damaged_archive(run, archive):
    data = bytearray(archive.read_bytes())
    data[120] ^= 4  # within the first block
    archive.write_bytes(data)
    row = run("info", archive, "--json").json
    assert row["intact"] is False
    assert row["damage"].startswith("from image 0, 3 of them: ")
    archive.write_bytes(data[:-10])
    done = run("info", archive, "--json")
    assert done.json["intact"] is False
    assert "warning" in done.err


def test_an_archive_without_pictures(run, codec, tmp_path):
    with hvae_codec.ArchiveWriter(tmp_path / "a.hvaa", codec):
        pass
    row = run("info", tmp_path / "a.hvaa", "--json").json
    assert (row["pictures"], row["blocks"], row["intact"]) == (0, 0, True)
    assert "bytes_per_picture" not in row


def test_damage_is_named(run, codec, picture, tmp_path):
    blob = codec.encode(picture(32, 32, 3, 0))
    row = info_of(run, tmp_path / "a.hvae", blob[:-1] + bytes([blob[-1] ^ 1]))
    assert row["intact"] is False
    assert "check sum does not hold" in row["damage"]
    assert row["model"] == "cifar10 quality 1"


def test_a_file_of_a_model_that_is_not_at_hand(run, picture, grey_models, monkeypatch, tmp_path):
    blob = hvae_codec.load("cifar10", quality=1).encode(picture(32, 32, 3, 0))
    monkeypatch.setenv("HVAE_MODELS", str(grey_models))
    row = info_of(run, tmp_path / "a.hvae", blob)
    assert (row["model"], row["intact"]) == ("not available", True)
    assert "width" not in row


@pytest.mark.parametrize("data", [b"", b"hello", b"\xf6\x48", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_file_of_ours_fails(run, tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    done = run("info", tmp_path / "x", "--json")
    assert (done.code, done.out) == (1, "")
    assert done.error().startswith(f"{tmp_path / 'x'}: ")
    assert ".hvae file" in done.error()


def test_a_folder_is_no_file(run, tmp_path):
    assert run("info", tmp_path).error() == f"{tmp_path}: Is a directory"


def test_the_build(run):
    shown = run("info", "--build", "--json").json
    assert shown["hvae_codec"] == hvae_codec.__version__
    assert {name: shown[name] for name in ops.build_info()} == ops.build_info()
    assert re.search(rf"^hvae_codec +{re.escape(hvae_codec.__version__)}$", run("info").out, re.M)


def test_models_as_json_are_those_of_the_library(run):
    rows = run("models", "--json").json
    infos = hvae_codec.models()
    assert [(row["name"], row["quality"], row["model_id"]) for row in rows] == [
        (info.name, info.quality, info.model_id) for info in infos
    ]
    assert [row["z_dims"] for row in rows] == [list(info.z_dims) for info in infos]
    assert not any("card" in row for row in rows)


def test_cards_are_printed_when_asked_for(run):
    rows = run("models", "--card").json
    assert all(row["card"]["sha256"].startswith(row["model_id"]) for row in rows)


def test_models_as_a_table(run):
    head, *lines = run("models").out.splitlines()
    assert head.split()[:3] == ["model", "quality", "id"]
    assert [tuple(line.split()[:3]) for line in lines] == [
        (info.name, "1-100" if info.continuous else str(info.quality), info.model_id)
        for info in hvae_codec.models()
    ]


def test_figures_that_json_lacks_become_null(run, grey_models, monkeypatch):
    monkeypatch.setenv("HVAE_MODELS", str(grey_models))
    assert [row["psnr_db"] for row in run("models", "--json").json] == [None]


def test_a_damaged_card_is_named(run, tmp_path, monkeypatch):
    (tmp_path / "bad-q1.json").write_text("{}")
    monkeypatch.setenv("HVAE_MODELS", str(tmp_path))
    done = run("models")
    assert done.code == 1
    assert "bad-q1.json is not a checkpoint's card" in done.error()

"""`pack`, `unpack`, `ls` and `cat` on folders, patterns, arrays and data sets."""

import io

import numpy as np
import pytest
from PIL import Image

import hvae_codec
from hvae_codec.cli import main
from tests.photographs import load_sample_image

CHINA = load_sample_image("china.jpg")
CROPS = np.stack([CHINA[y : y + 32, 200:232] for y in range(0, 160, 32)])


pytestmark = pytest.mark.usefixtures("one_thread")


def tiled_codec():
    """It is loaded once, by the first test that needs it."""
    return hvae_codec.load("cifar10")


@pytest.fixture
def folder(tmp_path):
    """Five pictures: three of 32x32, a grey one in a folder of its own, a larger one."""
    place = tmp_path / "in"
    (place / "grey").mkdir(parents=True)
    for number in range(3):
        Image.fromarray(CROPS[number]).save(place / f"{number}.png")
    Image.fromarray(CHINA[:40, :50, 0]).save(place / "grey" / "g.png")
    Image.fromarray(CHINA[:33, :70]).save(place / "large.png")
    return place


NAMES = ["0.png", "1.png", "2.png", "grey/g.png", "large.png"]


def close_to(found, expected):
    difference = np.abs(found.astype(int) - expected.astype(int))
    return found.shape == expected.shape and difference.max() <= 2


def coded(picture):
    return tiled_codec().decode(tiled_codec().encode(picture)).squeeze()


def opened(path):
    return np.asarray(Image.open(path))


def test_a_folder_goes_in_and_comes_out(run, folder, tmp_path):
    archive = tmp_path / "a.hvaa"
    packed = run("pack", folder, "-o", archive, "--json")
    assert packed.code == 0
    assert packed.json["added"] == packed.json["pictures"] == 5
    assert packed.json["failed"] == []
    assert packed.json["file_bytes"] == archive.stat().st_size
    listed = run("ls", archive, "--json", "--verify").json
    assert [picture["name"] for picture in listed["listing"]] == NAMES
    assert [picture["number"] for picture in listed["listing"]] == list(range(5))
    assert listed["listing"][3] | {"name": 0} == {
        "number": 3,
        "name": 0,
        "height": 40,
        "width": 50,
        "channels": 1,
        "label": None,
    }
    assert listed["damages"] == []
    lines = run("ls", archive).out.splitlines()
    assert lines[3].split() == ["3", "50x40", "grey", "grey/g.png"]
    assert len(lines) == 5
    assert run("ls", archive, "--summary", "--verify").out.endswith("bytes, all sound\n")
    unpacked = run("unpack", archive, "-o", tmp_path / "out", "--json")
    assert unpacked.code == 0
    assert unpacked.json == {"output": str(tmp_path / "out"), "pictures": 5, "failed": []}
    found = sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")
    )
    assert found == NAMES
    assert close_to(opened(tmp_path / "out" / "grey" / "g.png"), coded(CHINA[:40, :50, :1]))
    assert close_to(opened(tmp_path / "out" / "2.png"), coded(CROPS[2]))


def test_cat_by_name_and_number(run, folder, tmp_path):
    archive = tmp_path / "a.hvaa"
    assert run("pack", folder / "1.png", folder / "large.png", "-o", archive).code == 0
    for key in ("large.png", "1", "-1"):
        assert run("cat", archive, key, "-o", tmp_path / "x.png").code == 0
        assert close_to(opened(tmp_path / "x.png"), coded(CHINA[:33, :70]))
    for key, message in (("2", "2 images, none of number 2"), ("cat", "named 'cat'")):
        outcome = run("cat", archive, key, "-o", tmp_path / "none.png")
        assert outcome.code == 1
        assert message in outcome.error()
    assert not (tmp_path / "none.png").exists()


def test_cat_writes_to_standard_output(tmp_path, capsysbinary):
    with hvae_codec.ArchiveWriter(tmp_path / "a.hvaa", tiled_codec()) as writer:
        writer.add(CROPS[0])
    assert main(["cat", str(tmp_path / "a.hvaa"), "0"]) == 0
    assert close_to(opened(io.BytesIO(capsysbinary.readouterr().out)), coded(CROPS[0]))


def test_arrays_go_in_and_come_out(run, tmp_path):
    np.save(tmp_path / "in.npy", CROPS)
    archive, out = tmp_path / "a.hvaa", tmp_path / "new" / "out.npy"
    assert run("pack", tmp_path / "in.npy", "-o", archive).code == 0
    assert run("unpack", archive, "-o", out).code == 0
    expected = tiled_codec().decode_block(tiled_codec().encode_block(CROPS))
    assert close_to(np.load(out), expected)
    assert run("unpack", archive, "3", "0", "-o", out).code == 0
    assert close_to(np.load(out), expected[[3, 0]])
    assert run("unpack", archive, "4", "-o", tmp_path / "png").code == 0
    assert [path.name for path in (tmp_path / "png").iterdir()] == ["4.png"]
    np.save(tmp_path / "bad.npy", CROPS.astype(np.float32))
    for bad, message in (("bad.npy", "float32 [5, 32, 32, 3]"), ("none.npy", "does not exist")):
        outcome = run("pack", tmp_path / bad, "-o", tmp_path / "b.hvaa")
        assert outcome.code == 1
        assert message in outcome.error()


def test_a_data_set_by_name(run, folder, tmp_path):
    archive = tmp_path / "a.hvaa"
    outcome = run("pack", "--data", f"folder:{folder}", "--split", "train", "-o", archive, "--json")
    assert outcome.json["added"] == 3 + 1 + 2  # 32x32 crops; of 40x50 one, of 33x70 two
    assert run("ls", archive, "--json").json["listing"][0]["name"] is None
    outcome = run("pack", "--data", "cifar11", "-o", tmp_path / "b.hvaa")
    assert outcome.code == 1
    assert "cifar11" in outcome.error()
    assert not (tmp_path / "b.hvaa").exists()


def test_patterns_are_expanded_also_when_quoted(run, folder, tmp_path):
    archive = tmp_path / "a.hvaa"
    assert run("pack", f"{folder}/[01].png", f"{folder}/**/g*.png", "-o", archive).code == 0
    names = [picture["name"] for picture in run("ls", archive, "--json").json["listing"]]
    assert names == ["0.png", "1.png", "g.png"]
    outcome = run("pack", f"{folder}/*.gif", "-o", tmp_path / "b.hvaa")
    assert outcome.code == 1
    assert "nothing matches" in outcome.error()


def test_an_archive_is_not_written_over_by_mistake(run, folder, tmp_path):
    archive = tmp_path / "a.hvaa"
    assert run("pack", folder / "0.png", "-o", archive).code == 0
    before = archive.read_bytes()
    outcome = run("pack", folder / "1.png", "-o", archive)
    assert outcome.code == 1
    assert "--append adds to it, --replace replaces it" in outcome.error()
    assert archive.read_bytes() == before
    assert run("pack", folder / "1.png", "-o", archive, "--append", "--json").json["pictures"] == 2
    again = run("pack", folder / "1.png", "-o", archive, "--append", "--json")
    assert again.code == 1
    assert "already" in again.json["failed"][0]["error"]
    assert run("pack", folder / "1.png", "-o", archive, "--append", "--no-names").code == 0
    assert run("pack", folder / "2.png", "-o", archive, "--replace", "--json").json["pictures"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hvaa", "in"]
    assert run("pack", "-o", archive, "--append", "--replace").code == 2


def test_a_bad_picture_does_not_stop_the_others(run, folder, tmp_path):
    (folder / "1.png").write_bytes(b"no picture")
    outcome = run("pack", folder, "-o", tmp_path / "a.hvaa", "--json")
    assert outcome.code == 1
    assert outcome.json["added"] == 4
    assert [failed["input"] for failed in outcome.json["failed"]] == [str(folder / "1.png")]
    assert "1.png" in outcome.err


def test_damage_costs_only_its_block(run, folder, tmp_path):
    archive = tmp_path / "a.hvaa"
    with hvae_codec.ArchiveWriter(archive, tiled_codec(), block_tiles=1) as writer:
        writer.extend(CROPS[:3], ["0.png", "1.png", "2.png"])
    with hvae_codec.Archive(archive) as opened_archive:
        entry = opened_archive._index.entries[1]
    data = bytearray(archive.read_bytes())
    data[entry.data_offset + 20] ^= 1
    archive.write_bytes(data)
    outcome = run("unpack", archive, "-o", tmp_path / "out", "--json")
    assert outcome.code == 1
    assert outcome.json["pictures"] == 2
    assert "image 1" in outcome.json["failed"][0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.png", "2.png"]
    assert run("ls", archive).code == 0  # which does not read the pictures
    checked = run("ls", archive, "--verify", "--json")
    assert checked.code == 1
    assert [(d["first"], d["count"]) for d in checked.json["damages"]] == [(1, 1)]
    assert run("unpack", archive, "-o", tmp_path / "x.npy").code == 1
    assert not list(tmp_path.glob("*x.npy*"))


def test_a_lost_tail_is_a_warning(run, folder, tmp_path):
    archive = tmp_path / "a.hvaa"
    assert run("pack", folder, "-o", archive).code == 0
    archive.write_bytes(archive.read_bytes()[:-5])
    outcome = run("unpack", archive, "-o", tmp_path / "out")
    assert outcome.code == 0
    assert outcome.err.startswith("hvae-codec: warning: ")
    assert "found 5 images" in outcome.err
    assert run("pack", "--append", folder / "0.png", "--no-names", "-o", archive).code == 0
    assert run("ls", archive).err == ""


@pytest.mark.parametrize(
    "name", ["../x.png", "/x.png", "a/../../x.png", "C:\\x.png", "..", "a\\..\\x"]
)
def test_names_do_not_lead_out_of_the_folder(run, tmp_path, name):
    archive = tmp_path / "a.hvaa"
    with hvae_codec.ArchiveWriter(archive, tiled_codec()) as writer:
        writer.add(CROPS[0], name)
    outcome = run("unpack", archive, "-o", tmp_path / "out")
    assert outcome.code == 1
    assert "leads out of the folder" in outcome.error()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.hvaa"]


def test_names_that_differ_in_the_suffix_keep_it(run, tmp_path):
    archive = tmp_path / "a.hvaa"
    with hvae_codec.ArchiveWriter(archive, tiled_codec()) as writer:
        writer.extend(CROPS[:4], ["a.jpg", "a.png", "b.jpg", "photo.2021"])
    assert run("unpack", archive, "-o", tmp_path / "out").code == 0
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == ["a.jpg.png", "a.png.png", "b.png", "photo.2021.png"]


def test_files_that_are_no_archives(run, folder, tmp_path):
    for command in (["ls"], ["unpack", "-o", tmp_path / "out"], ["cat", "-o", tmp_path / "x", "0"]):
        name, *rest = command
        outcome = run(name, folder / "0.png", *rest)
        assert outcome.code == 1
        assert "not a .hvaa archive" in outcome.error()
    outcome = run("pack", "--append", folder / "0.png", "-o", folder / "1.png")
    assert outcome.code == 1
    assert close_to(opened(folder / "1.png"), CROPS[1])

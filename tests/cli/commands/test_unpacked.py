"""What `unpack` leaves beside images, what `ls` prints of names, and `features` of archives."""

import json

import numpy as np
import pytest

from hvae_codec import Archive, ArchiveWriter, load

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def pack(tmp_path, picture):
    """Writes an archive of four images."""

    def call(name, names=None, labels=None):
        with ArchiveWriter(
            tmp_path / name, load("cifar10", 2), labels=labels is not None
        ) as writer:
            writer.extend([picture(32, 32, 3, n) for n in range(4)], names, labels)
        return tmp_path / name

    return call


def labels_in(folder):
    return json.loads((folder / "labels.json").read_text())


def test_labels_of_images_that_were_unpacked_before_are_kept(run, pack, tmp_path):
    labelled, out = pack("a.hvaa", labels=[5, 6, 7, None]), tmp_path / "out"
    assert run("unpack", labelled, 0, 1, "--output", out).code == 0
    assert run("unpack", labelled, 1, 2, "--output", out).code == 0
    assert labels_in(out) == {"0.png": 5, "1.png": 6, "2.png": 7}
    other = pack("b.hvaa", labels=[1, None, None, 4])  # of the same file names
    assert run("unpack", other, 0, 1, "--output", out).code == 0
    assert labels_in(out) == {"0.png": 1, "2.png": 7}
    assert run("unpack", pack("c.hvaa"), 2, "--output", out).code == 0  # without labels
    assert labels_in(out) == {"0.png": 1}


def test_a_file_of_that_name_without_labels_is_kept(run, pack, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels.json").write_text("[1, 2]")
    assert run("unpack", pack("c.hvaa"), "--output", tmp_path / "out").code == 0
    done = run("unpack", pack("a.hvaa", labels=[1, 2, 3, 4]), "--output", tmp_path / "out")
    assert (done.code, "holds no labels" in done.error()) == (1, True)
    assert labels_in(tmp_path / "out") == [1, 2]


def test_an_array_has_no_labels_of_the_one_before(run, pack, tmp_path):
    array, beside = tmp_path / "x.npy", tmp_path / "x.labels.json"
    assert run("unpack", pack("a.hvaa", labels=[5, 6, 7, None]), "--output", array).code == 0
    assert json.loads(beside.read_text()) == [5, 6, 7, None]
    assert run("unpack", pack("b.hvaa"), "--output", array).code == 0
    assert not beside.exists()


def test_a_name_that_no_file_can_have_fails_alone(run, pack, tmp_path):
    names = ["a" * 300, "b.png", "c/d.png", "e" * 300]
    done = run("unpack", pack("a.hvaa", names), "--output", tmp_path / "out", "--json")
    assert (done.code, done.json["pictures"]) == (1, 2)
    assert [line.split(":")[0] for line in done.json["failed"]] == ["image 0", "image 3"]
    assert all("File name too long" in line for line in done.json["failed"])
    assert {path.name for path in (tmp_path / "out").rglob("*.png")} == {"b.png", "d.png"}


def test_names_take_one_line_and_command_no_terminal(run, pack):
    out = run("ls", pack("a.hvaa", ["a\nb.png", "\x1b[31mred", "\u202eabc", "ä ☃.png"])).out
    names = ['"a\\nb.png"', '"\\u001b[31mred"', '"\\u202eabc"', "ä ☃.png"]
    assert [line.split(maxsplit=3)[3] for line in out.splitlines()] == names


def test_features_of_an_archive_are_those_of_its_latents(run, pack, save, picture, tmp_path):
    archive, output = pack("a.hvaa", ["x.png", None, "y.png", None]), tmp_path / "f.npz"
    image = save(tmp_path / "i.png", picture(32, 32, 3, 9))
    done = run("features", archive, image, "--model", "cifar10", "--quality", 2, "-o", output)
    assert (done.code, done.err) == (0, "")
    found = np.load(output)
    named = [f"{archive}:{key}" for key in ("x.png", 1, "y.png", 3)]
    assert found["files"].tolist() == [str(image), *named]
    with Archive(archive) as opened:
        expected = opened.features()
    np.testing.assert_array_equal(found["mean"][1:], expected.mean)
    np.testing.assert_array_equal(found["std"][1:], expected.std)
    assert set(found["models"].tolist()) == {load("cifar10", 2).info.model_id}


def test_an_archive_that_cannot_be_read_fails_alone(run, pack, tmp_path):
    (tmp_path / "bad.hvaa").write_bytes(b"no archive")
    missing = tmp_path / "missing.hvaa"
    done = run("features", tmp_path / "bad.hvaa", pack("a.hvaa"), missing, "--json")
    assert (done.code, ["error" in row for row in done.json]) == (1, [True, *4 * [False], True])
    assert "not a .hvaa archive" in done.json[0]["error"]
    served = run("features", pack("b.hvaa"), "--server", "127.0.0.1:9")
    assert (served.code, "a server reads no archives" in served.error()) == (1, True)


@pytest.mark.parametrize(
    ("command", "given", "said"),
    [
        ("decode", "archive", "it is a .hvaa archive, which 'hvae-codec unpack'"),
        ("encode", "archive", "it is a .hvaa archive, which 'hvae-codec unpack'"),
        ("encode", "encoded", "it is a .hvae file, which 'hvae-codec decode'"),
        ("ls", "encoded", "it is a .hvae file, which 'hvae-codec decode'"),
        ("info", "image", "it is a PNG image, which 'hvae-codec encode'"),
    ],
)
def test_a_file_of_another_kind_is_named(run, pack, save, picture, tmp_path, command, given, said):
    files = {
        "archive": pack("a.hvaa"),
        "image": save(tmp_path / "i.png", picture(32, 32, 3, 9)),
        "encoded": tmp_path / "e.hvae",
    }
    files["encoded"].write_bytes(load("cifar10", 2).encode(picture(32, 32, 3, 9)))
    output = ("--output", tmp_path / "out") if command in ("decode", "encode") else ()
    done = run(command, files[given], *output)
    assert (done.code, said in done.error()) == (1, True)


@pytest.mark.parametrize("command", ["encode", "decode", "features"])
def test_a_file_that_changes_while_it_is_read_has_no_result(
    run, save, picture, tmp_path, monkeypatch, command
):
    codec = load("cifar10", 3)
    images = [save(tmp_path / f"{n}.png", picture(32, 32, 3, n)) for n in range(3)]
    if command == "decode":
        for image in images:
            blob = codec.encode(image)
            image.unlink()
            image.write_bytes(blob)
    name = {"encode": "encode_batch", "decode": "decode_batch", "features": "features"}[command]
    usual = getattr(type(codec), name)

    def changing(self, values, *rest):
        found = usual(self, values, *rest)
        images[1].write_bytes(images[0].read_bytes() + b"more")
        return found

    monkeypatch.setattr(type(codec), name, changing)
    out = () if command == "features" else ("--output", tmp_path / "out")
    model = () if command == "decode" else ("--model", "cifar10", "--quality", 3)
    done = run(command, *images, *out, *model, "--json")
    assert (done.code, ["error" in row for row in done.json]) == (1, [False, True, False])
    assert "was changed while it was being read" in done.error()
    if out:
        left = sorted(path.stem for path in (tmp_path / "out").iterdir())
        assert left == ["0", "2"]

"""Results whose short names are the same: every file has a name of its own."""

from itertools import permutations
from pathlib import PurePosixPath

import numpy as np
import pytest

import hvae_codec
from hvae_codec.cli.jobs.files import distinct

pytestmark = pytest.mark.usefixtures("one_thread")


def pixels(count):
    """Images that differ enough to be told apart after coding."""
    levels = np.linspace(20, 235, count).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, 32, 32, 3)).copy()


def nearest(path, images):
    """The number of the image whose level a file has."""
    from PIL import Image

    level = np.asarray(Image.open(path)).mean()
    return int(np.abs(images.mean((1, 2, 3)) - level).argmin())


# Worked out by hand from the rule: short where nobody else needs it, else the whole name, else with
# the number.
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["z.png", "z.jpg", "z.png.jpg"], ["z.png.png", "z.jpg.png", "z.png.jpg.png"]),
        (
            ["z.png", "z.jpg", "z.png.jpg", "z.jpg.webp"],
            ["z.png.png", "z.jpg.png", "z.png.jpg.png", "z.jpg.webp.png"],
        ),
        (["a.jpg", "b.png"], ["a.png", "b.png"]),
        (["a.jpg", "a.png/b.png"], ["a.jpg.png", "a.png/b.png"]),
        (["a", "a.png/b.png"], ["a.0.png", "a.png/b.png"]),
        ([None, "0", "1"], ["0.0.png", "0.1.png", "1.png"]),
        ([None, "0.png"], ["0.png", "0.png.png"]),
        (["a/b.png", "a//b.png"], ["a/b.png.0.png", "a/b.png.1.png"]),
        (
            ["x", "./x", "x.1", "x.1.png"],
            ["x.0.png", "x.1.png", "x.1.2.png", "x.1.png.png"],
        ),
    ],
)
def test_unpacked_images_have_a_file_each(run, tmp_path, names, expected):
    images, archive = pixels(len(names)), tmp_path / "a.hvaa"
    with hvae_codec.ArchiveWriter(archive, hvae_codec.load("cifar10")) as writer:
        writer.extend(images, names)
    done = run("unpack", archive, "-o", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    found = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(found) == len(names)
    placed = {nearest(path, images): path for path in found}
    assert [str(placed[i].relative_to(tmp_path / "out")) for i in range(len(names))] == expected


def test_what_is_packed_from_a_folder_is_unpacked(run, save, tmp_path):
    for name, array in zip(("z.png", "z.jpg", "z.png.jpg"), pixels(3), strict=True):
        save(tmp_path / "in" / name, array)
    assert run("pack", tmp_path / "in", "-o", tmp_path / "p.hvaa").code == 0
    assert run("unpack", tmp_path / "p.hvaa", "-o", tmp_path / "un").code == 0
    found = sorted(path.name for path in (tmp_path / "un").iterdir())
    assert found == ["z.jpg.png", "z.png.jpg.png", "z.png.png"]


def test_an_encoded_file_is_not_put_where_a_folder_goes(run, save, tmp_path):
    for name, array in zip(("a.png", "a.hvae/b.png"), pixels(2), strict=True):
        save(tmp_path / "in" / name, array)
    done = run("encode", tmp_path / "in", "--quality", 1, "-o", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    found = {str(path.relative_to(tmp_path / "out")) for path in tmp_path.glob("out/**/*.hvae")}
    assert found == {"a.png.hvae", "a.hvae", "a.hvae/b.hvae"}


def test_the_order_of_the_files_does_not_matter():
    short = dict.fromkeys(("a.png", "a.jpg"), "a.x") | {"a.png.jpg": "a.png.x", "b.png": "b.x"}
    expected = {name: f"{name}.x" for name in ("a.png", "a.jpg", "a.png.jpg")} | {"b.png": "b.x"}
    for order in permutations(short):
        paths = [PurePosixPath(short[name]) for name in order]
        long = [PurePosixPath(f"{name}.x") for name in order]
        assert [str(path) for path in distinct(paths, long)] == [expected[name] for name in order]

"""Folders with links, cycles and files of other kinds."""

import glob
import os
from pathlib import Path

import pytest
from PIL import Image

import hvae_codec.pillow_plugin
from hvae_codec.errors import SkippedFilesWarning
from hvae_codec.utils.folders import IMAGE_SUFFIXES, files_of, matching


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


@pytest.fixture
def folder(tmp_path):
    """Files of its own, of a folder elsewhere behind two links, and links that lead up."""
    root = tmp_path / "root"
    touch(root / "a.png")
    touch(root / "deep" / "b.PNG")
    touch(tmp_path / "elsewhere" / "c.png")
    touch(tmp_path / "elsewhere" / "more" / "d.png")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "deep" / "again").symlink_to("../../elsewhere", target_is_directory=True)
    (root / "deep" / "up").symlink_to(root)
    (root / "e.png").symlink_to(root / "a.png")
    (tmp_path / "elsewhere" / "more" / "up").symlink_to("..")
    return root


NAMES = [
    "a.png",
    "deep/again/c.png",
    "deep/again/more/d.png",
    "deep/b.PNG",
    "e.png",
    "link/c.png",
    "link/more/d.png",
]


def test_links_are_followed_and_cycles_end(folder):
    assert [path.relative_to(folder).as_posix() for path in files_of(folder, (".png",))] == NAMES
    found = os.popen(f"cd {folder} && find -L . -iname '*.png' 2>/dev/null").read().split()
    assert sorted(name.removeprefix("./") for name in found) == sorted(NAMES)


@pytest.mark.parametrize(
    "pattern", ["*", "**", "**/*.png", "*/*", "*/*.png", "deep/**/c.png", "**/more/*", "**/m*/**/*"]
)
def test_patterns_name_what_glob_finds_but_no_cycles(folder, pattern):
    touch(folder / ".hidden" / "f.png")
    touch(folder / "[a]" / "more" / "g.png")
    found = [path.relative_to(folder).as_posix() for path in matching(folder / pattern)]
    for up in (folder / "deep" / "up", folder / "link" / "more" / "up"):
        up.unlink()  # Python's own goes around each cycle some forty times
    own = map(Path, glob.glob(f"{folder}/{pattern}", recursive=True))
    assert sorted(found) == sorted(path.relative_to(folder).as_posix() for path in own)


def test_patterns_end_where_cycles_meet(folder):
    (folder / "deep" / "self").symlink_to("../deep")
    (folder / "deep" / "again" / "top").symlink_to(folder)
    found = [path.relative_to(folder).as_posix() for path in matching(folder / "**" / "[abcd].png")]
    assert sorted(set(found)) == found
    assert {"a.png", "link/more/d.png"} < set(found)
    assert not any("self" in name or "top" in name for name in found)


def test_links_between_two_folders_end(tmp_path):
    for here, there in ("ab", "ba"):
        touch(tmp_path / here / f"{here}.png")
        (tmp_path / here / "link").symlink_to(tmp_path / there)
    names = [path.relative_to(tmp_path).as_posix() for path in files_of(tmp_path, (".png",))]
    assert names == ["a/a.png", "a/link/b.png", "b/b.png", "b/link/a.png"]


def test_what_is_skipped_is_counted_by_suffix(folder):
    for name in ("x.bmp", "y.BMP", "z.tif", "notes.txt", "x.hvae"):
        touch(folder / name)
    (folder / "gone.png").symlink_to(folder / "absent.png")
    (folder / "self.png").symlink_to("self.png")
    (folder / "2020").symlink_to("/absent/photos")
    message = r"root: skipped 2 \*\.bmp, 1 \*\.tif, 3 broken links; files taken: \*\.png$"
    with pytest.warns(SkippedFilesWarning, match=message) as caught:
        found = files_of(folder, (".png",))
    assert len(caught) == 1
    assert len(found) == len(NAMES)


@pytest.mark.filterwarnings("error")
def test_images_are_not_missed_where_other_files_are_looked_for(folder):
    touch(folder / "x.hvae")
    assert files_of(folder, (".hvae",)) == [folder / "x.hvae"]


def test_all_that_pillow_reads_is_counted():
    Image.init()
    read = {name for name, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    assert read - {hvae_codec.pillow_plugin.EXTENSION} <= IMAGE_SUFFIXES

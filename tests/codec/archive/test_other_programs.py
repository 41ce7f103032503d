"""An archive whose file other programs remove, replace or change while it is being written."""

import os
import shutil

import pytest

from hvae_codec import Archive, ArchiveWriter
from hvae_codec.cli import main
from hvae_codec.errors import ArchiveError
from tests.codec.archive.test_archive import CROPS, tiled_codec

pytestmark = pytest.mark.usefixtures("one_thread")

GONE = "removed, replaced or changed by another program"


def removed(path):
    path.unlink()


def replaced(path):
    path.with_name("other").write_bytes(b"other")
    os.replace(path.with_name("other"), path)


def emptied(path):
    path.write_bytes(b"")


def rewritten(path):
    path.write_bytes(bytes(10_000))


@pytest.mark.parametrize("change", [removed, replaced, emptied, rewritten])
def test_images_that_are_in_no_archive_are_an_error(tmp_path, monkeypatch, change):
    path = tmp_path / "x.hvaa"
    monkeypatch.chdir(tmp_path)
    writer = ArchiveWriter("x.hvaa", tiled_codec())
    writer.add(CROPS[0])
    writer.flush()
    change(path)
    left = path.read_bytes() if path.exists() else None
    monkeypatch.chdir("/")
    writer.add(CROPS[1])
    with pytest.raises(ArchiveError, match=GONE):
        writer.flush()
    with pytest.raises(ArchiveError, match=GONE):
        writer.add(CROPS[2])
    with pytest.raises(ArchiveError, match=GONE):
        writer.close()
    writer.close()  # again, which does nothing
    assert (path.read_bytes() if path.exists() else None) == left


def test_an_archive_that_is_moved_and_comes_back_is_the_same(tmp_path):
    path = tmp_path / "x.hvaa"
    with ArchiveWriter(path, tiled_codec()) as writer:
        writer.add(CROPS[0])
        writer.flush()
        path.rename(tmp_path / "y.hvaa")
        (tmp_path / "y.hvaa").rename(path)
        writer.add(CROPS[1])
    assert len(Archive(path)) == 2


@pytest.fixture
def images(tmp_path):
    from PIL import Image

    (tmp_path / "in").mkdir()
    Image.fromarray(CROPS[3]).save(tmp_path / "in" / "a.png")
    return tmp_path / "in"


def pack(images, path, *more):
    return main(["pack", str(images), "--output", str(path), "--model", "cifar10", *more])


def test_what_another_one_writes_is_not_replaced(tmp_path, images, capsys):
    path = tmp_path / "x.hvaa"
    with ArchiveWriter(path, tiled_codec()) as writer:
        writer.add(CROPS[0])
        assert pack(images, path, "--replace") == 1
        assert "is being written by another writer" in capsys.readouterr().err
    with Archive(path) as archive:
        assert len(archive) == 1
    assert pack(images, path, "--replace") == 0
    with Archive(path) as archive:
        assert archive.names == ["a.png"]
    assert sorted(os.listdir(tmp_path)) == ["in", "x.hvaa"]


def test_replacing_follows_links_and_takes_the_longest_names(tmp_path, images):
    path, link = tmp_path / ("x" * 250 + ".hvaa"), tmp_path / "link.hvaa"
    assert pack(images, path) == 0
    link.symlink_to(path.name)
    before = path.stat().st_ino
    assert pack(images, link, "--replace") == 0
    assert link.is_symlink()
    assert path.stat().st_ino != before
    assert len(os.listdir(tmp_path)) == 3


@pytest.mark.parametrize("mode", ["--append", "--replace"])
def test_pipes_and_folders_are_no_archives_to_write(tmp_path, images, mode, capsys):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", images):
        assert pack(images, path, mode) == 1
        assert f"{path} is no regular file" in capsys.readouterr().err
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(ArchiveError, match="is no regular file"):
        ArchiveWriter(tmp_path / "pipe", tiled_codec(), append=True)


def test_an_archive_is_not_read_from_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    other_end = os.open(tmp_path / "pipe", os.O_RDWR)  # so that opening does not wait
    try:
        with pytest.raises(ArchiveError, match="is a pipe or device: an archive is a file"):
            Archive(tmp_path / "pipe")
    finally:
        os.close(other_end)


def test_an_archive_behind_a_folder_that_was_moved_is_in_no_file_at_the_path(tmp_path):
    (tmp_path / "a").mkdir()
    writer = ArchiveWriter(tmp_path / "a" / "x.hvaa", tiled_codec())
    writer.add(CROPS[0])
    shutil.move(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ArchiveError, match=GONE):
        writer.close()

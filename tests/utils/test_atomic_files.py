"""Files that are replaced whole: links, pipes and leftovers at the path stay what they are."""

import errno
import os
import stat
import threading

import pytest

from hvae_codec import HVAEFeatures
from hvae_codec.utils.atomic_files import replacing, write_atomically

LONGEST = 255  # bytes of a name on the file systems of Linux


def test_a_link_stays_and_its_file_is_written(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real/x.json")
    write_atomically(tmp_path / "link", b"new")  # of a file that is not there yet
    write_atomically(tmp_path / "link", b"newer")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "x.json").read_bytes() == b"newer"
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]
    assert os.listdir(tmp_path / "real") == ["x.json"]


def test_links_in_a_circle_are_an_error_of_the_system(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        write_atomically(tmp_path / "a", b"")


@pytest.mark.parametrize("kind", ["parameters", "bytes"])
def test_a_pipe_is_written_to_and_not_replaced(tmp_path, kind):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    if kind == "bytes":
        write_atomically(pipe, b"through")
    else:
        HVAEFeatures("cifar10", 2).save(pipe)
    reader.join()
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert (b"through" in read[0]) == (kind == "bytes")
    assert (b'"quality": 2' in read[0]) == (kind == "parameters")


def test_a_full_disk_is_named_with_the_file(tmp_path):
    def full():
        with replacing(tmp_path / "x.json") as file:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*/x\.json'") as raised:
        full()
    assert raised.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / ("x" * LONGEST)
    write_atomically(path, b"old")

    def interrupted():
        with replacing(path) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert (os.listdir(tmp_path), path.read_bytes()) == ([path.name], b"old")

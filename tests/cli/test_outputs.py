"""Where `hvae-codec encode` and `decode` write, what they skip, and inputs that are none."""

import os
import re
import threading

import pytest

import hvae_codec

Q1, Q2 = ("--quality", "1"), ("--quality", "2")


@pytest.fixture
def codec():
    return hvae_codec.load("cifar10", quality=1)


@pytest.fixture
def source(save, picture, tmp_path):
    return save(tmp_path / "ä b" / "☃.png", picture(32, 32, 3, 0))


def test_beside_the_input(run, source):
    assert run("encode", source, *Q1).code == 0
    assert source.with_suffix(".hvae").is_file()


def test_into_a_folder_that_is_there(run, source, tmp_path):
    (tmp_path / "out").mkdir()
    run("encode", source, *Q1, "--output", tmp_path / "out")
    assert (tmp_path / "out" / "☃.hvae").is_file()


def test_several_inputs_share_a_folder_and_repeated_ones_count_once(
    run, save, picture, source, tmp_path
):
    other = save(tmp_path / "b.png", picture(32, 32, 3, 1))
    out = tmp_path / "out"
    done = run("encode", source, other, other, *Q1, "--output", out, "--json")
    assert {row["output"] for row in done.json} == {str(out / "☃.hvae"), str(out / "b.hvae")}
    assert len(done.json) == 2


def test_decoding_does_not_write_over_the_picture_it_came_from(run, source):
    original = source.read_bytes()
    run("encode", source, *Q1)
    encoded = source.with_suffix(".hvae")
    done = run("decode", encoded)
    assert (done.code, source.read_bytes()) == (1, original)
    assert "is there already" in done.error()
    assert run("decode", encoded, "--output", source).code == 0
    assert source.read_bytes() != original


def test_an_encoded_file_is_written_again(run, source):
    run("encode", source, *Q1)
    run("encode", source, *Q2)
    blob = source.with_suffix(".hvae").read_bytes()
    assert hvae_codec.codec_for(blob).info.quality == 2


def test_inputs_that_differ_in_the_suffix_alone_keep_it(
    run, codec, save, picture, source, tmp_path
):
    """Also where the longer name is that of another one's shorter name."""
    pictures = {"☃.png": picture(32, 32, 3, 0), "☃.png.png": picture(32, 32, 3, 1)}
    pictures |= {"☃.ppm": picture(32, 32, 3, 2), "b.png": picture(32, 32, 3, 3)}
    for name, array in pictures.items():
        save(source.parent / name, array)
    done = run("encode", source.parent, *Q1, "--output", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    names = ["b.hvae", "☃.png.hvae", "☃.png.png.hvae", "☃.ppm.hvae"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for name, of in zip(names, ["b.png", "☃.png", "☃.png.png", "☃.ppm"], strict=True):
        assert (tmp_path / "out" / name).read_bytes() == codec.encode(pictures[of])
    assert run("encode", source.parent, *Q1).code == 0
    assert {path.name for path in source.parent.glob("*.hvae")} == set(names)
    assert run("decode", tmp_path / "out").code == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 4


def test_results_that_would_share_a_path(run, save, picture, source, tmp_path):
    other = save(tmp_path / "c" / source.name, picture(32, 32, 3, 1))
    done = run("encode", source, other, *Q1, "--output", tmp_path / "out")
    assert done.code == 1
    assert str(source) in done.error()
    assert str(other) in done.error()
    assert not (tmp_path / "out").exists()


def test_what_is_done_can_be_skipped(run, codec, save, picture, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    paths = [save(folder / f"{n}.png", picture(32, 32, 3, n)) for n in range(3)]
    assert run("encode", paths[0], *Q2, "--output", out / "0.hvae").code == 0
    assert run("encode", paths[1], *Q2, "--output", out / "1.hvae").code == 0
    kept = (out / "0.hvae").read_bytes()
    later = (out / "1.hvae").stat().st_mtime_ns + 1
    os.utime(paths[1], ns=(later, later))  # was changed after it was encoded
    words = ("encode", folder, *Q1, "--output", out, "--skip-existing")
    done = run(*words, "--json")
    assert done.code == 0
    skipped = {"input": str(paths[0]), "output": str(out / "0.hvae"), "skipped": True}
    assert done.json[0] == skipped
    assert [row.get("quality") for row in done.json] == [None, 1, 1]
    assert (out / "0.hvae").read_bytes() == kept
    for number in (1, 2):
        blob = codec.encode(picture(32, 32, 3, number))
        assert (out / f"{number}.hvae").read_bytes() == blob
    os.utime(paths[1], ns=(0, 0))
    assert re.search(r"^0 files in .* s, 0 failed, 3 skipped$", run(*words).out)
    assert run("encode", paths[0], "--output", out, "--skip-existing").out.endswith(
        "0.hvae: skipped, it is there\n"
    )


def test_a_file_that_is_given_twice_has_two_rows(run, save, picture, tmp_path):
    save(tmp_path / "in" / "sub" / "a.png", picture(32, 32, 3, 0))
    inputs = (tmp_path / "in", tmp_path / "in" / "sub")
    done = run("encode", *inputs, *Q1, "--output", tmp_path / "out", "--json")
    outputs = [str(tmp_path / "out" / "sub" / "a.hvae"), str(tmp_path / "out" / "a.hvae")]
    assert [row["output"] for row in done.json] == outputs


def test_decoding_goes_on_with_what_is_not_there(run, source):
    run("encode", source, *Q1)
    original = source.read_bytes()
    second = source.with_name("b.hvae")
    second.write_bytes(source.with_suffix(".hvae").read_bytes())
    os.utime(source, ns=(0, 0))  # far older than its file, and no result of it
    done = run("decode", source.parent, "--skip-existing")
    assert (done.code, source.read_bytes()) == (0, original)
    assert "1 files" in done.out
    assert second.with_suffix(".png").is_file()


@pytest.mark.parametrize("name", ["☃.png", "../ä b/☃.png"])
def test_an_input_is_never_the_output(run, source, name):
    done = run("encode", source, "--output", source.parent / name)
    assert done.code == 1
    assert "is an input" in done.error()


def test_inputs_that_are_not_there(run, source, tmp_path):
    done = run("encode", source, tmp_path / "missing.png", *Q1)
    assert (done.code, done.error()) == (1, f"{tmp_path / 'missing.png'} does not exist")
    (tmp_path / "empty").mkdir()
    done = run("decode", tmp_path / "empty")
    assert done.error() == f"{tmp_path / 'empty'} holds no file ending in .hvae"


def test_a_device_is_no_input(run):
    assert run("decode", os.devnull).error() == f"{os.devnull} is neither a file nor a folder"


def test_a_file_is_no_folder_for_results(run, source, tmp_path):
    done = run("encode", source.parent, "--output", source)
    assert (done.code, done.error().split(";")[0]) == (1, f"{source} is a file")
    done = run("encode", source, "--output", source / "x.hvae")
    assert done.code == 1
    assert f"{source / 'x.hvae'} cannot be written: " in done.error()


def test_a_link_is_followed_and_a_pipe_is_written_to(run, source, tmp_path):
    real, link, pipe = tmp_path / "real.hvae", tmp_path / "link.hvae", tmp_path / "pipe"
    real.write_bytes(b"old")
    link.symlink_to(real)
    run("encode", source, *Q1, "--output", link)
    assert link.is_symlink()
    assert hvae_codec.codec_for(real.read_bytes()).info.quality == 1
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    run("encode", source, *Q1, "--output", pipe)
    reader.join(timeout=120)
    assert received == [real.read_bytes()]
    assert pipe.is_fifo()


def test_names_as_long_as_the_file_system_takes(run, save, picture, tmp_path):
    source = save(tmp_path / f"{'n' * 250}.png", picture(32, 32, 3, 0))
    assert run("encode", source, *Q1).code == 0
    assert source.with_suffix(".hvae").is_file()

"""Commands with --server: as the local commands, by a real server, and without torch."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hvae_codec
from hvae_codec.cli import main
from tests.waiting import wait_until

COMMAND = Path(sysconfig.get_path("scripts")) / "hvae-codec"
MODEL = ["--model", "cifar10", "--quality", "3"]


@pytest.fixture
def run(capsys, real):
    """Runs a command with --server in this process: exit code, standard output, standard error."""

    def call(command, *arguments, server=real, remote=False):
        words = [
            *(["remote"] if remote else []),
            command,
            *map(str, arguments),
            *(["--server", server] if server else []),
        ]
        try:
            code = main(words)
        except SystemExit as stop:  # argparse's way out
            code = stop.code
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def folder(tmp_path):
    """Good pictures of several kinds and bad files between them.

    Sorted: alpha.png, c0.png, c1.png, damaged.png, grey.pgm, sub/large.jpg, text.jpg.
    """
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:40, 0:70] / 20
    waves = 127 + 90 * np.stack([np.sin(a * y + b * x) for a, b in rng.uniform(1, 3, (3, 2))], -1)
    picture = Image.fromarray(waves.astype(np.uint8))
    for index in range(2):
        picture.crop((index, 0, index + 32, 32)).save(folder / f"c{index}.png")
    picture.convert("L").crop((0, 0, 32, 32)).save(folder / "grey.pgm")
    picture.resize((140, 80)).save(folder / "sub" / "large.jpg")
    Image.new("RGBA", (32, 32)).save(folder / "alpha.png")
    (folder / "damaged.png").write_bytes((folder / "c0.png").read_bytes()[:300])
    (folder / "text.jpg").write_text("no image")
    (folder / "notes.txt").write_text("not even looked at")
    return folder


GOOD = ["c0", "c1", "grey", "sub/large"]
BAD = ["alpha.png", "damaged.png", "text.jpg"]


def test_a_folder_is_encoded_as_by_the_local_command(run, folder, tmp_path, capsys):
    code, out, err = run("encode", folder, "--output", tmp_path / "remote", "--json")
    rows = json.loads(out)
    local_code = main(["encode", str(folder), "--output", str(tmp_path / "local"), "--json"])
    local = json.loads(capsys.readouterr().out)
    assert code == local_code == 1
    for row in local:
        if "output" in row:
            row["output"] = row["output"].replace("/local/", "/remote/")
    assert [row for row in rows if "error" not in row] == [
        row for row in local if "error" not in row
    ]
    assert [Path(row["input"]).name for row in rows if "error" in row] == BAD
    for name in GOOD:
        found, expected = (tmp_path / side / f"{name}.hvae" for side in ("remote", "local"))
        assert len(found.read_bytes()) == len(expected.read_bytes())
    reported = [line for line in err.splitlines() if line.startswith("hvae-codec: error: ")]
    assert len(reported) == 3
    for line, name in zip(reported, BAD, strict=True):
        assert f"/{name}: " in line
        assert "images[" not in line


def test_images_are_converted_before_they_are_sent(run, folder, tmp_path):
    words = ["--background", "white", "--output", tmp_path / "out", "--json", *MODEL]
    code, out, _ = run("encode", folder, *words)
    failed = [Path(row["input"]).name for row in json.loads(out) if "error" in row]
    assert (code, failed) == (1, BAD[1:])
    image = np.full((32, 32, 3), 255, np.uint8)
    blob = hvae_codec.load("cifar10", quality=3).encode(image)
    assert (tmp_path / "out" / "alpha.hvae").read_bytes() == blob


def test_and_decoded(run, folder, tmp_path):
    files = [folder / "c0.png", folder / "c1.png", folder / "grey.pgm"]
    assert run("encode", *files, *MODEL, "--output", tmp_path / "encoded/")[0] == 0
    codec = hvae_codec.load("cifar10", quality=3)
    blobs = [(tmp_path / "encoded" / f"{name}.hvae").read_bytes() for name in GOOD[:3]]
    (tmp_path / "encoded" / "bad.hvae").write_bytes(blobs[0][:20])
    code, out, err = run("decode", tmp_path / "encoded", "--output", tmp_path / "decoded")
    assert code == 1
    assert out.startswith("3 files in ")
    assert "bad.hvae: " in err
    for name, blob in zip(GOOD, blobs, strict=False):
        with Image.open(tmp_path / "decoded" / f"{name}.png") as picture:
            found = np.asarray(picture)
        assert np.abs(found.reshape(32, 32, -1) - codec.decode(blob).astype(int)).max() <= 1
    one = tmp_path / "encoded" / "c0.hvae"
    code, out, _ = run("decode", one, "--preview", "--output", tmp_path / "rough.ppm")
    assert (code, out) == (0, f"{one} -> {tmp_path / 'rough.ppm'}: 32x32\n")
    rough = np.asarray(Image.open(tmp_path / "rough.ppm")).astype(int)
    assert np.abs(rough - codec.preview(blobs[0])).max() <= 1


def test_pictures_beside_their_files_are_not_written_over(run, folder):
    assert run("encode", folder / "c0.png", *MODEL)[0] == 0
    before = (folder / "c0.png").read_bytes()
    code, _, err = run("decode", folder / "c0.hvae")
    assert code == 1
    assert "c0.png is there already" in err
    assert (folder / "c0.png").read_bytes() == before


def test_what_is_done_can_be_skipped(run, folder, tmp_path):
    words = ("encode", folder / "c0.png", folder / "c1.png", *MODEL, "--output", tmp_path / "out")
    assert run(*words)[0] == 0
    (tmp_path / "out" / "c1.hvae").unlink()
    written = (tmp_path / "out" / "c0.hvae").stat().st_mtime_ns
    code, out, err = run(*words, "--skip-existing")
    assert (code, err) == (0, "")
    assert out.startswith("1 files, ")
    assert out.endswith(" s, 0 failed, 1 skipped\n")
    assert (tmp_path / "out" / "c0.hvae").stat().st_mtime_ns == written
    code, out, _ = run("decode", tmp_path / "out", "--output", tmp_path / "back", "--json")
    assert (code, len(json.loads(out))) == (0, 2)
    code, out, _ = run(
        "decode", tmp_path / "out", "--output", tmp_path / "back", "--skip-existing", "--json"
    )
    assert [row["skipped"] for row in json.loads(out)] == [True, True]


def test_targets(run, folder, tmp_path):
    target = tmp_path / "small.hvae"
    flags = ["--model", "cifar10", "--target-bytes", "60", "--output", target]
    code, out, _ = run("encode", folder / "c0.png", *flags)
    assert code == 0
    assert abs(target.stat().st_size - 60) <= 2
    assert f"-> {target}: 32x32, {target.stat().st_size} bytes" in out


def test_features_of_pictures_and_files(run, folder, tmp_path):
    assert run("encode", folder / "c1.png", *MODEL)[0] == 0
    inputs = [folder / "c0.png", folder / "c1.hvae", folder / "text.jpg"]
    code, out, _ = run("features", *inputs, *MODEL, "--output", tmp_path / "z2.npz", "--json")
    rows = json.loads(out)
    assert code == 1
    assert [Path(row["input"]).name for row in rows] == ["c0.png", "c1.hvae", "text.jpg"]
    codec = hvae_codec.load("cifar10", quality=3)
    with np.load(tmp_path / "z2.npz") as saved:
        expected = [
            codec.features([folder / "c0.png"]).mean[0],
            codec.features_from_bytes([(folder / "c1.hvae").read_bytes()]).mean[0],
        ]
        np.testing.assert_allclose(saved["mean"], expected, rtol=1e-4, atol=1e-4)
        assert list(saved["models"]) == [codec.info.model_id] * 2


def test_features_take_the_model_of_the_size(run, folder):
    photo = hvae_codec.load("photo")
    code, out, err = run("features", folder / "sub" / "large.jpg", "--json")
    (row,) = json.loads(out)
    assert (code, err) == (0, "")
    assert row["model_id"] == photo.info.model_id
    expected = photo.features([folder / "sub" / "large.jpg"]).mean[0]
    np.testing.assert_allclose(row["mean"], expected, atol=1e-4)


def test_samples(run, tmp_path):
    target = tmp_path / "samples.png"
    flags = [*MODEL, "--count", "10", "--seed", "4", "--output", target, "--json"]
    code, out, _ = run("sample", *flags)
    assert code == 0
    assert json.loads(out)["count"] == 10
    pictures = hvae_codec.load("cifar10", quality=3).sample(10, seed=4)
    with Image.open(target) as sheet:
        found = np.asarray(sheet)
    assert found.shape == (64, 256, 3)
    assert np.abs(found[:32, :32] - pictures[0].astype(int)).max() <= 1
    assert np.abs(found[32:, 32:64] - pictures[9].astype(int)).max() <= 1


def test_models(run, capsys):
    code, out, _ = run("models")
    assert main(["models"]) == code == 0
    assert out == capsys.readouterr().out
    assert [row["name"] for row in json.loads(run("models", "--json")[1])] == [
        info.name for info in hvae_codec.models()
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["encode", "c0.png", "--model", "nobody"], "unknown model 'nobody'"),
        (["encode", "c0.png", "--model", "cifar10", "--quality", "77"], "no quality 77"),
        (["encode", "nothing.png"], "nothing.png does not exist"),
        (["sample", "--count", "9999999"], "at most"),
        (["models", "--token-file", "absent"], "absent: No such file or directory"),
        (["models", "--certificate", "absent"], "go together"),
        (["models", "--root-certificates", "absent"], "cannot read absent"),
    ],
)
def test_what_fails_as_a_whole_is_one_line(run, folder, monkeypatch, words, message):
    monkeypatch.chdir(folder)
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    lines = [line for line in err.splitlines() if line]
    assert lines[-1].startswith("hvae-codec: error: ")
    assert message in lines[-1]
    assert not list(folder.rglob("*.hvae"))


def test_a_token_from_a_file(serve, small_server, folder, tmp_path, capsys):
    servicer = small_server()
    serve(servicer)
    (tmp_path / "token").write_text("open-sesame\n")
    token = ["--token-file", str(tmp_path / "token")]
    assert main(["models", "--server", servicer.address, *token]) == 0
    assert servicer.metadata[-1]["authorization"] == "Bearer open-sesame"
    assert main(["models", "--server", "codec.example:443", *token]) == 1
    assert "unencrypted to codec.example:443" in capsys.readouterr().err


def test_nothing_of_it_waits_for_torch(real, folder, tmp_path):
    code = f"""
import sys
from hvae_codec.cli import main
folder, out = {str(folder)!r}, {str(tmp_path)!r}
server = ["--server", {real!r}]
words = (["encode", folder + "/c0.png", "--output", out + "/a.hvae"],
         ["decode", out + "/a.hvae", "--output", out + "/a.png"],
         ["features", folder + "/c0.png", out + "/a.hvae"],
         ["sample", "--count", "1", "--output", out + "/s.png"], ["models"])
print("codes:", [main([*line, *server]) for line in words])
slow = {{"torch", "torchvision", "sklearn", "constriction"}}
print("imported:", sorted(slow & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.stdout.splitlines()[-2:] == ["codes: [0, 0, 0, 0, 0]", "imported: []"], done.stderr


@pytest.mark.parametrize("command", ["encode", "decode", "features", "sample", "models"])
def test_the_spelling_of_the_last_release_works(run, real, folder, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    shutil.copy(folder / "c0.png", "photo.png")
    Path("photo.hvae").write_bytes(hvae_codec.load("cifar10", quality=3).encode("photo.png"))
    given = {"encode": ["photo.png"], "decode": ["photo.hvae"], "features": ["photo.hvae"]}
    words = [command, *given.get(command, []), "--json"]
    if command == "decode":
        words += ["--output", "out.png"]
    expected = run(*words)[:2]
    assert expected[0] == 0
    assert run(*words, remote=True)[:2] == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["remote", "models"], "required: --server"),
        (["encode", "x.png", "--tls"], "--tls needs --server"),
        (["models", "--token-file", "x"], "--token-file needs --server"),
        (["encode", "x.png", "--psnr", "--server", "localhost:1"], "does not go with --server"),
        (["models", "--card", "--server", "localhost:1"], "does not go with --server"),
    ],
)
def test_options_that_contradict_each_other(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_many_files_go_by_streams_in_their_own_process(real, folder, tmp_path):
    """More than one message of them, some in flight when the next are read."""
    many = tmp_path / "many"
    many.mkdir()
    for index in range(600):
        os.link(folder / f"c{index % 2}.png", many / f"{index:03}.png")
    words = ["encode", many, "--server", real, *MODEL, "--output", tmp_path / "out"]
    done = subprocess.run([COMMAND, *words], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("600 files, ")
    written = [(tmp_path / "out" / f"{index:03}.hvae").read_bytes() for index in range(600)]
    assert len(set(written[0::2])) == len(set(written[1::2])) == 1
    assert written[0] != written[1]


def test_without_grpc_it_says_what_to_install():
    code = """
import sys
sys.modules["grpc"] = None  # what an import finds where nothing is installed
from hvae_codec.cli import main
sys.exit(main(["models", "--server", "127.0.0.1:1"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert "pip install 'hvae-codec[server]'" in line


def test_what_was_done_before_a_server_died_is_reported(run, mortal, tmp_path):
    count = 3_000  # a message is 256; four are on their way when the first answer comes
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "one.png")
    inputs = [folder / f"{index:04}.png" for index in range(count)]
    for file in inputs:
        file.hardlink_to(tmp_path / "one.png")
    words = [folder, *MODEL, "--output", out, "--json"]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, "encode", *words, server=mortal.address)
        wait_until(lambda: list(out.glob("*.hvae")), "no answer came")
        mortal.process.kill()
        code, printed, err = running.result(timeout=120)
    rows = json.loads(printed)
    assert [Path(row["input"]) for row in rows] == inputs
    done = [row for row in rows if "error" not in row]
    assert {Path(row["output"]) for row in done} == set(out.iterdir())
    failed = count - len(done)
    assert (code, 0 < failed < count) == (1, True)
    (line,) = err.splitlines()
    assert line.startswith(f"hvae-codec: error: {failed} of {count} files were not done: no server")

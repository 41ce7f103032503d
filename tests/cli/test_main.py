"""The command as a whole: help, usage, exit codes, what goes to which stream, interruption."""

import io
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import hvae_codec
from hvae_codec.cli import main
from hvae_codec.cli.common import print_json
from tests.processes import starting_with

COMMANDS = (
    *("encode", "decode", "pack", "unpack", "ls", "cat"),
    *("info", "models", "features", "sample", "train", "sweep", "calibrate", "quantise"),
    *("train-classifier", "evaluate", "report", "benchmark", "serve", "remote", "completion"),
)


def example_of(help_text):
    """The words of the example that ends a help text, without the command's own name."""
    (line,) = help_text.split("example:\n")[1].strip().splitlines()
    first, *words = shlex.split(line)
    assert first == "hvae-codec"
    return words


def digits():
    """The arrays of a packed MNIST of 128 pictures: a bar whose place is its class."""
    labels = np.arange(128, dtype=np.uint8) % 4
    images = np.zeros((128, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 7 * label : 7 * label + 5] = 255
    kinds = {"images": images, "labels": labels}
    return {f"{part}_{kind}": array for part in ("train", "test") for kind, array in kinds.items()}


def test_help_lists_every_command(run):
    shown = run("--help")
    assert shown.code == 0
    assert re.findall(r"^    ([\w-]+)\b", shown.out, re.MULTILINE) == [*COMMANDS]


def test_version(run):
    assert run("--version").out == f"hvae-codec {hvae_codec.__version__}\n"


def test_the_examples_in_the_help_texts_work(run, save, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "photo.png", picture(50, 60, 3, 0))
    for index in range(3):
        save(tmp_path / "thumbnails" / f"{index}.png", picture(32, 32, 3, index))
    save(tmp_path / "photos" / "a.png", picture(72, 80, 3, 0))
    for split in ("train", "test"):
        save(tmp_path / "crops" / split / "a.png", picture(128, 128, 3, 7))
    examples = {name: example_of(run(name, "--help").out) for name in COMMANDS[:-3]}
    assert all(words[0] == name for name, words in examples.items())
    # A small data set stands in for CIFAR-10 and one epoch for sixty; all else is as it stands.
    few = ["--data", "folder:crops", "--epochs", "1", "--batch-size", "16", "--threads", "1"]
    examples["train"] += few
    examples["calibrate"] += ["--data", "folder:crops", "--images", "4"]
    photo = Path(hvae_codec.__file__).parent / "checkpoints" / "photo.safetensors"
    examples["quantise"][1] = str(photo)
    examples["quantise"] += ["--data", "folder:crops", "--images", "1"]
    examples["sweep"] += [*few, "--grid", "2x2"]
    (tmp_path / "mnist").mkdir()
    np.savez(tmp_path / "mnist" / "mnist.npz", **digits())
    examples["train-classifier"] += ["--root", ".", "--epochs", "1", "--threads", "1"]
    examples["benchmark"] += ["--workers", "1"]
    assert run("encode", "photo.png").code == 0  # the file that the example of `info` shows
    for name, words in examples.items():
        done = run(*words)
        assert done.code == 0, (name, done.err)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    names = ["photo", "0", "1", "2"]
    assert {f"encoded/{n}.hvae" for n in names} | {f"decoded/{n}.png" for n in names} <= written
    assert {"z2.npz", "samples.png", "runs/mine/mine-q1.safetensors"} <= written


def test_the_example_of_serve_works(command, run, tmp_path):
    words = example_of(run("serve", "--help").out)
    port = tmp_path / "port"
    process = subprocess.Popen(
        [command, *words, "--port", "0", "--port-file", port],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not port.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.terminate()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert out.startswith("hvae-codec server listening on 127.0.0.1:")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "no-such-command",
        "encode",
        "encode --no-such-option x.png",
        "encode x.png --quality best",
        "encode ''",
        "decode",
        "sample --count 0",
        "sample --count many",
        "sample --seed -1",
        "sample --seed 9223372036854775808",
        "sample --temperature nan",
        "sample --temperature -0.5",
        "sample --temperature warm",
        "train --out x",
        "train --betas 1,x --out x",
        "train --betas 1,1 --spec none --out x",
        "train --betas 1,1 --device cuda:99 --out x",
        "train --betas 1,1 --device abacus --out x",
        "train-classifier --arch vgg --data mnist --out x.safetensors",
        "train-classifier --arch cnn --data mnist --stem 3 --out x.safetensors",
        "train-classifier --arch cnn --data mnist --device abacus --out x.safetensors",
        "serve --port 65536",
        "serve --otlp-endpoint 127.0.0.1:4317",
        "serve --otlp-endpoint http://",
        "serve --otlp-endpoint http://127.0.0.1:65536",
        "serve --otlp-endpoint http://127.0.0.1:port",
        "serve --otlp-endpoint ftp://127.0.0.1:4317",
        "remote",
        "remote train",
        "remote encode x.png",
        "remote sample --server 127.0.0.1:1 --count 0",
        "remote encode x.png --server a:1 --target-bytes 9 --target-psnr 30",
    ],
)
def test_wrong_usage_exits_with_2(run, line):
    done = run(*shlex.split(line))
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("usage: hvae-codec")
    assert "error: " in done.err.splitlines()[-1]


def test_help_and_wrong_usage_do_not_wait_for_torch():
    """Nor for the other libraries that take long to import."""
    code = """
import sys
from hvae_codec.cli import main
for line in ("--help", "--version", "", "encode --help", "decode x --bogus", "sample --seed -1",
             "features", "info --help", "models --help", "serve --help",
             "remote --help", "remote encode --help", "remote decode x"):
    try:
        main(line.split())
    except SystemExit:
        pass
slow = {"torch", "torchvision", "numpy", "PIL", "sklearn", "grpc", "constriction"}
print("imported:", sorted(slow & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.stdout.splitlines()[-1] == "imported: []"


@pytest.fixture
def archive(tmp_path):
    """Path of an archive of one image. The command lists it without importing torch."""
    path = tmp_path / "a.hvaa"
    with hvae_codec.ArchiveWriter(path, hvae_codec.load("cifar10", quality=3)) as writer:
        writer.add(np.zeros((32, 32, 3), np.uint8), "black")
    return path


def test_listing_an_archive_does_not_import_torch(archive):
    code = """
import sys
from hvae_codec.cli import main
assert main(["ls", sys.argv[1]]) == 0
print("torch" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.stdout.split() == ["0", "32x32", "rgb", "black", "False"]


def test_the_installed_command_maps_failure_and_usage_to_exit_codes(installed, tmp_path):
    failed = installed("info", tmp_path / "missing.hvae")
    assert (failed.code, failed.out) == (1, "")
    assert failed.error() == f"{tmp_path / 'missing.hvae'}: No such file or directory"
    assert installed("info", "--bogus").code == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("models-of-nobody", "unknown model 'models-of-nobody'; available: .*cifar10"),
        ("cifar10 --quality 77", "model 'cifar10' has no quality 77; available: 1, 2"),
    ],
)
def test_unknown_models_fail_in_one_line(run, line, message, tmp_path):
    done = run("sample", "--output", tmp_path / "x.png", "--model", *line.split())
    assert done.code == 1
    assert re.match(message, done.error())


def test_a_reader_that_goes_away_is_no_failure(command, archive):
    process = subprocess.Popen(
        [command, "ls", archive, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=240), err) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_behind_standard_output_is_a_failure(command, archive):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [command, "ls", archive], stdout=full, stderr=subprocess.PIPE, text=True, timeout=240
        )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert done.stderr.startswith("hvae-codec: error: ")


def test_closed_standard_streams_do_not_matter(command, save, picture, tmp_path):
    source = save(tmp_path / "a.png", picture(32, 32, 3, 0))
    line = f"{shlex.quote(str(command))} encode {shlex.quote(str(source))} <&- >&- 2>&-"
    assert subprocess.run(line, shell=True, timeout=240).returncode == 0
    assert source.with_suffix(".hvae").is_file()


def test_an_unexpected_error_is_one_line_unless_debugging(monkeypatch, capsys):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    assert main(["models"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hvae-codec: error: unexpected ValueError: I/O operation on closed file")
    monkeypatch.setenv("HVAE_DEBUG", "1")
    with pytest.raises(ValueError, match="closed file"):
        main(["models"])


def test_json_has_no_numbers_that_json_lacks(capsys):
    print_json({"a": float("inf"), "b": [float("nan"), 1.5, "inf"], "c": (1, None)})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "a": None,
        "b": [None, 1.5, "inf"],
        "c": [1, None],
    }


def test_serve_without_its_extra_says_what_to_install():
    code = """
import sys
sys.modules["grpc"] = None  # what an import finds where nothing is installed
from hvae_codec.cli import main
sys.exit(main(["serve"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert "pip install 'hvae-codec[server]'" in line


@pytest.fixture
def many(tmp_path, save, picture):
    """A folder of 1,024 pictures of 80x80, four batches of the command's."""
    first = save(tmp_path / "many" / "0000.png", picture(80, 80, 3, 0))
    for index in range(1, 1024):
        os.link(first, first.with_name(f"{index:04}.png"))
    return first.parent


def test_an_interrupted_run_leaves_whole_files_only(command, many, tmp_path):
    output = tmp_path / "out"
    process = subprocess.Popen(
        [
            # A shell without job control starts background work with SIGINT ignored.
            *starting_with(signal.SIGINT, signal.SIG_DFL),
            *(command, "encode", many, "--output", output),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while not any(output.glob("*.hvae")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert (process.returncode, out) == (130, "")
    assert err == "hvae-codec: error: interrupted\n"
    written = sorted(output.iterdir())
    assert 0 < len(written) < 1024
    assert {path.suffix for path in written} == {".hvae"}
    assert len({path.read_bytes() for path in written[:256]}) == 1  # pictures were all the same
    assert hvae_codec.decode(written[-1].read_bytes()).shape == (80, 80, 3)


def test_a_terminal_sees_progress_with_speed_and_time_left(command, mixed_folder, tmp_path):
    folder, _, bad = mixed_folder
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 120))
    shown = bytearray()

    def read():
        while True:
            try:
                part = os.read(terminal, 65_536)
            except OSError:  # Linux's end of file, once the other end is closed
                return
            if not part:
                return
            shown.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    command_line = [command, "encode", folder, "--output", tmp_path / "out", "--json"]
    done = subprocess.run(command_line, stdout=subprocess.PIPE, stderr=end, timeout=240)
    os.close(end)
    reader.join(timeout=120)
    os.close(terminal)
    text = shown.decode()
    assert done.returncode == 1
    assert b"files/s" not in done.stdout
    speed = r"(?:[\d.]+ files/s|[\d.]+s/ files)"  # below one a second it is the inverse
    assert re.search(rf"encoding: 100%.* 8/8 \[\d\d:\d\d<\d\d:\d\d, +{speed}\]", text)
    assert sum(str(path) in text for path in bad) == len(bad)


def test_public_names_outlive_the_import_of_submodules_of_their_name():
    """`hvae_codec.models` is the function, whichever is imported first."""
    code = """
import hvae_codec.models.zoo
import hvae_codec
from hvae_codec import models
from hvae_codec.models import SPECS
assert hvae_codec.models is models and callable(models), models
public = {name for name in dir(hvae_codec) if not name.startswith("_")}
assert public == {*hvae_codec.__all__, "HVAEFeatures"}, public
print(*(getattr(hvae_codec, name).__name__ for name in hvae_codec.__all__))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.stdout.split() == hvae_codec.__all__, done.stderr


def test_standard_output_takes_names_it_cannot_encode(installed, save, picture, tmp_path):
    name = os.fsdecode(b"n\xff-\xe2\x98\x83.png")
    save(tmp_path / name, picture(32, 32, 3, 0))
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = installed("encode", tmp_path / name, env=environment)
    assert done.code == 0, done.err
    assert r"n\udcff-\u2603.png" in done.out
    assert (tmp_path / name).with_suffix(".hvae").is_file()

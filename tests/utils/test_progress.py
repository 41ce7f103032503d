"""Progress: bars on terminals, lines in logs, and nothing of what ends soon."""

import ast
import io
import re
import sys
import time
from pathlib import Path

import pytest

from hvae_codec.errors import HvaeCodecError
from hvae_codec.utils.progress import LogLines, progress

ROOT = Path(__file__).parents[2]
FOLDERS = ("hvae_codec", "server", "benchmarks")
LINE = re.compile(r"packing: (\d+) of 40 images,  ?[\d.]+ images/s, \d\d:\d\d left")


def bars(path):
    """The calls that make a progress bar."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return [call for call in calls if getattr(call.func, "id", None) in ("tqdm", "trange")]


def test_every_bar_is_made_in_one_place():
    """Which hides it where there is no terminal: in a log, each of its states would be a line."""
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert [path for path in files if bars(path)] == [ROOT / "hvae_codec/utils/progress.py"]


@pytest.fixture
def seconds(monkeypatch):
    """Sets the seconds between lines."""
    return lambda text: monkeypatch.setenv("HVAE_PROGRESS_SECONDS", text)


def test_a_log_has_lines_that_rise_to_the_end(seconds, capsys):
    seconds("0.05")
    for _ in progress("packing", range(40), unit="images"):
        time.sleep(0.01)
    out, err = capsys.readouterr()
    assert out == ""
    assert "\r" not in err
    counts = [int(LINE.fullmatch(line)[1]) for line in err.splitlines()]
    assert 2 <= len(counts) <= 10  # 0.4 s or more, a line each 0.05 s or more
    assert counts == sorted(set(counts))
    assert counts[-1] == 40


def test_other_lines_stand_between_whole_ones(seconds, capsys):
    seconds("0.001")
    with progress("packing", total=40, unit="images") as bar:
        time.sleep(0.01)
        bar.update(10)
        with bar.external_write_mode(file=sys.stderr):
            print("a.png: no image", file=sys.stderr)
    first, second = capsys.readouterr().err.splitlines()
    assert LINE.fullmatch(first)[1] == "10"
    assert second == "a.png: no image"


@pytest.mark.parametrize("text", ["0", "1000", ""])
def test_no_lines_of_what_ends_before(seconds, capsys, text):
    seconds(text)
    assert list(progress("packing", range(40), unit="images")) == list(range(40))
    with progress("packing", total=40, unit="images", in_log=False) as bar:
        bar.update(40)
    assert capsys.readouterr() == ("", "")


def test_a_caller_may_say_the_time_left_itself(seconds, capsys):
    seconds("0.001")
    with progress("measuring", total=40, unit="jobs", estimated=False) as bar:
        time.sleep(0.01)
        bar.set_postfix_str("3 min left", refresh=False)
        bar.update(10)
    assert capsys.readouterr().err == "measuring: 10 of 40 jobs, 3 min left\n"


def test_a_terminal_has_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress("packing", total=40, unit="images") as bar:
        assert not isinstance(bar, LogLines)
        bar.update(40)
    assert "packing: 100%" in capsys.readouterr().err
    with progress("packing", total=40, unit="images", shown=False) as bar:
        bar.update(40)
    assert capsys.readouterr().err == ""


def test_without_standard_error_there_is_nothing_to_see(seconds, monkeypatch):
    seconds("0.001")
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        assert list(progress("packing", range(40))) == list(range(40))


@pytest.mark.parametrize("text", ["-1", "soon", "nan", "inf"])
def test_a_wrong_interval_is_named(seconds, text):
    seconds(text)
    with pytest.raises(HvaeCodecError, match=f"HVAE_PROGRESS_SECONDS is '{text}'; allowed"):
        progress("packing", total=40)

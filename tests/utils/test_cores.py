"""Cores by affinity and by the quota of a container, and what OpenMP is told before torch."""

import os
import subprocess
import sys

import pytest

from hvae_codec.utils import cores

SHOW = """
import os, runpy, sys
sys.argv = ["hvae-codec", "--help"]
try:
    runpy.run_module(os.environ["MODULE"], run_name="__main__")
except SystemExit:
    pass
print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (["max 100000"], 8),
        (["150000 100000"], 2),
        (["200000 100000"], 2),
        (["1000 100000"], 1),
        (["1600000 100000"], 8),
        (["-1", "100000"], 8),
        (["350000", "100000"], 4),
        (["no number"], 8),
        ([], 8),
    ],
)
def test_a_quota_limits_the_cores(monkeypatch, tmp_path, contents, expected):
    """Time per period, of eight cores; version 1 has them in two files."""
    files = tuple(tmp_path / str(number) for number in range(len(contents)))
    for file, content in zip(files, contents, strict=True):
        file.write_text(f"{content}\n")
    monkeypatch.setattr(cores, "_QUOTA_FILES", (files, (tmp_path / "absent",)))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    assert cores.available_cores() == expected


def test_threads_are_as_many_as_a_quota_gives(monkeypatch, tmp_path):
    """Where there is none, OpenMP's own count stands, and what the user has set does always."""
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    for files, given, expected in (
        ((tmp_path / "cpu.max",), {}, "2"),
        ((tmp_path / "cpu.max",), {"OMP_NUM_THREADS": "5"}, "5"),
        ((tmp_path / "absent",), {}, None),
    ):
        monkeypatch.setattr(cores, "_QUOTA_FILES", (files,))
        monkeypatch.setattr(os, "environ", dict(given))
        cores.limit_threads()
        assert os.environ.get("OMP_NUM_THREADS") == expected
        assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
        assert os.environ["OPENBLAS_NUM_THREADS"] == "1"


@pytest.mark.parametrize("module", ["hvae_codec.cli", "hvae_codec.server"])
@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_processes_of_ours_wait_passively(module, given):
    """Unless the user wants otherwise, and before torch is imported."""
    environment = {**os.environ, "MODULE": module}
    environment.pop("OMP_WAIT_POLICY", None)
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    command = [sys.executable, "-c", SHOW]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == f"{given or 'PASSIVE'} False"

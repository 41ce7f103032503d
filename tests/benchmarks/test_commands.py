"""What all benchmarks share: tables, the command, and what is said where something is missing."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.command import Argument, Benchmark
from benchmarks.common import apart, in_turns
from benchmarks.tables import RESULTS, Table, stored, target
from hvae_codec.errors import DatasetError

ROOT = Path(__file__).parents[2]
MODULES = {
    "codec.codec_speed": "codec_speed",
    "codec.integer_exactness": "integer_exactness",
    "codec.integer_networks": "integer_networks",
    "codec.memory": "any_size",
    "codec.photographs": "photographs",
    "codec.shared_cores": "shared_cores",
    "codec.stores": "stores",
    "fuzzing.__main__": "fuzz",
    "rate_distortion.__main__": "rate_distortion_kodak",
    "service.__main__": "service",
    "training.kernels": "kernels",
    "training.plane_losses": "plane_losses",
    "training.optimisers": "optimisers",
    "training.photo_recipes": "photo_recipes",
    "training.photo_run": "photo_run",
    "training.step": "training_step",
    "training.sweep_speed": "sweep_speed",
    "training.throughput": "training_throughput",
}
"""Every benchmark, and a result of it that is committed."""

TABLE = Table(
    "speeds",
    "rows",
    {"name": "{name}", "ms": "{seconds[fused]:.1f}", "twice": lambda row: str(2 * row["count"])},
    more={"count": "{count}"},
    note="{images} images",
)
ROWS = [
    {"name": "a", "seconds": {"fused": 1.25}, "count": 3},
    {"name": "longer", "seconds": {"fused": None}, "count": 40},
]


def test_a_table_is_aligned_and_says_nothing_of_what_is_missing():
    assert TABLE.text({"rows": ROWS, "images": 7}).splitlines() == [
        "speeds",
        "name     ms  twice  count",
        "a       1.2      6      3",
        "longer          80     40",
        "7 images",
    ]
    assert TABLE.text({"rows": []}) == TABLE.text({}) == ""


def test_a_page_has_the_columns_that_are_not_printed_alone(monkeypatch):
    monkeypatch.setattr("benchmarks.tables.stored", lambda name: {"rows": ROWS, "images": 7})
    assert TABLE.markdown().splitlines() == [
        "| name | ms | twice |",
        "|---|---|---|",
        "| a | 1.2 | 6 |",
        "| longer |  | 80 |",
        "",
        "7 images",
    ]


def test_a_column_that_rows_lack_is_an_error():
    with pytest.raises(KeyError):
        Table("x", "rows", {"a": "{absent}"}).text({"rows": [{}]})


@pytest.mark.parametrize(("module", "result"), MODULES.items())
def test_every_benchmark_prints_what_it_measured(module, result):
    benchmark = importlib.import_module(f"benchmarks.{module}").BENCHMARK
    printed = [table.text(stored(result)) for table in benchmark.tables]
    assert max(map(len, printed)) > 100
    assert benchmark.text.splitlines()[0].endswith((".", "?"))


def test_every_benchmark_is_listed():
    paths = [p for p in (ROOT / "benchmarks").rglob("*.py") if "\nBENCHMARK = " in p.read_text()]
    names = {
        ".".join(path.relative_to(ROOT / "benchmarks").with_suffix("").parts) for path in paths
    }
    assert names == set(MODULES)
    assert {path.stem for path in RESULTS.glob("*.json")} >= set(MODULES.values())


@pytest.mark.parametrize("script", ["gpu_check.sh", "second_torch.sh"])
def test_scripts_name_what_there_is(script):
    text = (ROOT / "benchmarks" / script).read_text()
    modules = re.findall(r"-m (benchmarks[\w.]+)", text)
    paths = re.findall(r"\$root/(benchmarks/[\w./]+\.py)", text)
    assert modules or paths
    assert all(importlib.util.find_spec(module) for module in modules)
    assert all((ROOT / path).exists() for path in paths)


def benchmark_of(measure, **more):
    return Benchmark("What?", measure, (TABLE,), (Argument("--images", type=int),), **more)


def test_a_command_prints_writes_and_draws(tmp_path, capsys):
    drawn = []
    found = benchmark_of(
        lambda given: {"rows": ROWS, "images": given.images, "_arrays": object()},
        draw=lambda result, path: drawn.append((result["_arrays"], path)),
        packages=("pillow",),
    )
    path = tmp_path / "new" / "r.json"
    assert found.main(["--images", "9", f"--json={path}"]) == 0
    assert "9 images" in capsys.readouterr().out
    written = json.loads(path.read_text())
    assert written.keys() == {"rows", "images", "environment"}
    assert {"processor", "torch", "pillow"} <= written["environment"].keys()
    assert [path for _, path in drawn] == [tmp_path / "new" / "r.png"]


def test_a_result_may_be_a_failure():
    found = benchmark_of(lambda _: {"images": 0}, failed=lambda result: result["images"] == 0)
    assert found.main([]) == 1


def test_data_that_are_missing_are_said_so(capsys):
    def measure(_):
        raise DatasetError("no CIFAR-10: set HVAE_DATA")

    assert benchmark_of(measure).main([]) == 2
    assert "no CIFAR-10: set HVAE_DATA" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["torch", "hvae_codec", "hvae_codec.v1.codec_pb2", "psutil"])
def test_a_package_that_is_missing_is_said_so_outside_the_clone(missing, tmp_path):
    """With the clone on Python's path, as there is nothing to say it otherwise."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.service", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert missing in done.stderr
    assert f"pip install --editable '.[bench,server]'` in {ROOT}" in done.stderr
    assert "Traceback" not in done.stderr


def test_work_is_done_in_turns():
    done = []
    work = {name: lambda name=name: done.append(name) or len(done) for name in "ab"}
    assert in_turns(work, 2) == {"a": [1, 3], "b": [2, 4]}
    assert done == ["a", "b", "a", "b"]


def test_work_apart_is_done_in_another_process():
    assert apart(os.getpid) != os.getpid()


@pytest.mark.parametrize(
    ("measured", "at_least", "met"),
    [
        (2.0, False, True),
        (2.1, False, False),
        (2.1, True, True),
        (1.9, True, False),
        (None, 0, None),
    ],
)
def test_targets(measured, at_least, met):
    assert target("x", measured, 2.0, at_least=at_least)["met"] is met

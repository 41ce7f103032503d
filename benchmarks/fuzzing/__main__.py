"""Does any input crash the readers, hang them, cost too much memory, or change an image unnoticed?

    python -m benchmarks.fuzzing [--inputs 2100000] [--seed 0] [--engine coverage|plain] [--json F]

Mutated `.hvae` files, `.hvaa` archives and bodies of gRPC requests, made from sound ones: bits
flipped, pieces cut, repeated, inserted and exchanged, lengths and counts forged; more than half of
them with their check sums made right again, so that the code behind the checks is reached. With
atheris (`pip install hvae-codec[fuzz]`) inputs that take new branches of the codec's code become
parents.
A little more inputs than 2^-16 of those that come to a 16-bit check pass it, where the parent is a
forgery that no writer makes: one whose check is blind to its length (docs/FORMAT.md, section 1), or
one without a payload, in which two zero bytes before the check make the check a payload and its own
sum zero.

Equal arguments give equal inputs. What each input is held to: `benchmarks/fuzzing/campaign.py`.
Exits with 1 if anything was found.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.command import Argument, Benchmark
from benchmarks.fuzzing.campaign import (
    ALLOWED_BYTES,
    ALLOWED_FACTOR,
    HEADROOM_BYTES,
    INPUT_SECONDS,
    CurrentInput,
)
from benchmarks.fuzzing.coverage import available, statistics
from benchmarks.fuzzing.mutate import MAX_BYTES
from benchmarks.fuzzing.worker import WHOLE_EVERY
from benchmarks.tables import Result, Table
from hvae_codec.utils.progress import Bar, progress

SHARES = {"files": 0.94, "archives": 0.05, "requests": 0.01}
"""Of all inputs; a request costs as much time as some hundred files."""

PIECES = {"files": 4, "archives": 2, "requests": 2}
"""Processes that the inputs of a kind are cut in, each with a seed of its own."""


def run_piece(kind: str, inputs: int, seed: int, engine: str, bar: Bar) -> dict[str, Any]:
    """One process's report; if it died, the input that killed it is a finding."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        work = {"kind": kind, "inputs": inputs, "seed": seed, "engine": engine, "folder": name}
        command = [sys.executable, "-m", "benchmarks.fuzzing.worker", json.dumps(work)]
        # A set's order must not depend on the process.
        settings = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        report: dict[str, Any] = {}
        done = 0
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=settings
            )
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("P "):
                    bar.update(int(line[2:]) - done)
                    done = int(line[2:])
                elif line.startswith("R "):
                    report = json.loads(line[2:])
            code = process.wait()
        bar.update(inputs - done)
        log_text = (folder / "log").read_text(errors="replace")
        if code != 0 or not report:
            culprit = CurrentInput.read(folder / "current")
            death = {
                "problem": f"the process ended with {code} ({-code} is a signal; 14 is a hang)",
                "input": culprit.hex(),
                "log": log_text[-600:],
            }
            report = {"inputs": done, "findings": [death], "number_of_findings": 1}
        return report | statistics(log_text)


def joined(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """The reports of one kind's pieces as one: counts added, extremes kept."""
    total: dict[str, Any] = {}
    for report in reports:
        for key, value in report.items():
            if isinstance(value, dict):
                old = total.setdefault(key, {})
                for name, number in value.items():
                    both = (old.get(name, 0), number)
                    old[name] = max(both) if key == "worst" else sum(both)
            elif isinstance(value, list):
                total[key] = total.get(key, []) + value
            elif key in ("branches", "features", "corpus"):
                total[key] = max(total.get(key, 0), value)
            else:
                total[key] = total.get(key, 0) + value
    for key in ("stages", "refusals"):
        total[key] = dict(sorted(total.get(key, {}).items(), key=lambda item: -item[1]))
    return total


def fuzz(inputs: int, seed: int, engine: str, jobs: int) -> dict[str, dict[str, Any]]:
    """The report of each kind."""
    pieces = [
        (kind, round(inputs * share / PIECES[kind]), 1_000 * seed + number)
        for kind, share in SHARES.items()
        for number in range(PIECES[kind])
    ]
    with (
        progress("fuzzing", total=sum(n for _, n, _ in pieces), unit="inputs") as bar,
        ThreadPoolExecutor(jobs) as pool,
    ):
        # The slow kinds first, so that the processes end together.
        ordered = list(reversed(pieces))
        reports = list(pool.map(lambda p: run_piece(p[0], p[1], p[2], engine, bar), ordered))
    return {
        kind: joined([r for (k, *_), r in zip(ordered, reports, strict=True) if k == kind])
        for kind in SHARES
    }


def measure(arguments: Namespace) -> Result:
    """Fuzz every kind."""
    engine = arguments.engine or ("coverage" if available() else "plain")
    named = f"atheris {version('atheris')}" if engine == "coverage" else engine
    kinds = fuzz(arguments.inputs, arguments.seed, engine, arguments.jobs)
    return {
        "inputs": sum(report["inputs"] for report in kinds.values()),
        "seed": arguments.seed,
        "engine": named,
        "longest_input_bytes": MAX_BYTES,
        "limit_seconds": INPUT_SECONDS,
        "limit_memory": f"{ALLOWED_FACTOR} x input + {ALLOWED_BYTES} bytes",
        "limit_address_space_bytes": HEADROOM_BYTES,
        "through_the_networks_one_in": WHOLE_EVERY,
        "kinds": kinds,
    }


def kinds_of(result: Result) -> list[Result]:
    """The report of each kind as a row."""
    unknown = {"undetected_changes": 0, "worst": {"seconds": 0.0}}
    return [unknown | report | {"kind": kind} for kind, report in result["kinds"].items()]


def findings_of(result: Result) -> list[Result]:
    """Every finding as a row."""
    return [
        {"kind": kind, "where": ""} | finding
        for kind, report in result["kinds"].items()
        for finding in report["findings"]
    ]


KINDS = Table(
    "fuzzing",
    kinds_of,
    {
        "kind": "{kind}",
        "inputs": "{inputs:,}",
        "findings": "{number_of_findings}",
        "undetected changes": "{undetected_changes}",
        "slowest, s": "{worst[seconds]:.2f}",
    },
)
FINDINGS = Table("findings", findings_of, {"kind": "{kind}", "problem": "{problem} {where}"})
BENCHMARK = Benchmark(
    __doc__,
    measure,
    (KINDS, FINDINGS),
    (
        Argument("--inputs", type=int, default=2_100_000, help="mutated inputs of all kinds"),
        Argument("--seed", type=int, default=0),
        Argument("--engine", choices=("coverage", "plain"), help="default: as installed"),
        Argument("--jobs", type=int, default=2, help="processes at a time"),
    ),
    failed=lambda result: any(row["number_of_findings"] for row in result["kinds"].values()),
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())

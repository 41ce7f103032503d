"""What do threads cost where cores are shared? Encoding, alone and beside a busy process.

    python -m benchmarks.codec.shared_cores [--json benchmarks/results/shared_cores.json]

Rows are of one photograph after another in one process (`codec.encode`) and of a folder of them
by the command (`hvae-codec encode`), with one thread and with all, whose waiting threads spin
(OMP_WAIT_POLICY=ACTIVE, the default of OpenMP libraries) or sleep (PASSIVE, as the command sets
it). Runs alternate; a figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

from benchmarks.codec.memory import photographs
from benchmarks.command import Argument, Benchmark
from benchmarks.common import in_turns
from benchmarks.tables import Result, Table
from hvae_codec.utils.cores import available_cores

CALLS = 5
"""Encodes of a process, after a first one that is not counted."""
IMAGES = 12
"""In the folder."""

_CALLS = """
import sys, time
import numpy as np
import hvae_codec
from PIL import Image
image = np.asarray(Image.open(sys.argv[1]))
codec = hvae_codec.load("photo", quality=50)
codec.encode(image)
begun = time.perf_counter()
for _ in range({calls}):
    codec.encode(image)
print(time.perf_counter() - begun)
"""
_BUSY = "while True: sum(range(100000))"


def environment_of(threads: int, policy: str) -> dict[str, str]:
    """Of a process with so many threads that wait by this policy."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": policy}


def call_rate(image: Path, environment: dict[str, str]) -> float:
    """Megapixels a second of one image after another in one process."""
    words = [sys.executable, "-c", _CALLS.format(calls=CALLS), str(image)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    with Image.open(image) as opened:
        pixels = opened.width * opened.height
    return CALLS * pixels / float(done.stdout) / 1e6


def folder_rate(folder: Path, environment: dict[str, str]) -> float:
    """Megapixels a second of the command on a folder, its start included."""
    pixels = 0
    for path in folder.iterdir():
        with Image.open(path) as opened:
            pixels += opened.width * opened.height
    with tempfile.TemporaryDirectory() as output:
        words = [sys.executable, "-m", "hvae_codec.cli", "encode", str(folder), "--model", "photo"]
        begun = time.perf_counter()
        subprocess.run(
            [*words, "--output", output], env=environment, capture_output=True, check=True
        )
        return pixels / (time.perf_counter() - begun) / 1e6


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many other processes that compute without end."""
    others = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure(rounds: int) -> Result:
    """All rows."""
    cores = available_cores()
    images = photographs()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index in range(IMAGES):
            Image.fromarray(images[index % len(images)]).save(folder / f"{index:02}.png")
        settings = [(1, "PASSIVE"), (cores, "ACTIVE"), (cores, "PASSIVE")]
        ways: dict[str, Callable[[dict[str, str]], float]] = {
            "`codec.encode`": partial(call_rate, folder / "00.png"),
            "`hvae-codec encode FOLDER`": partial(folder_rate, folder),
        }
        work = {
            (way, setting): partial(run, environment_of(*setting))
            for way, run in ways.items()
            for setting in settings
        }
        alone = in_turns(work, rounds, "alone")
        with busy(1):
            beside = in_turns(work, rounds, "beside a busy process")
    rows: list[dict[str, Any]] = [
        {
            "way": way,
            "threads": setting[0],
            "waiting": "sleep" if setting[1] == "PASSIVE" else "spin",
            "alone": round(median(alone[way, setting]), 3),
            "beside": round(median(beside[way, setting]), 3),
        }
        for way, setting in work
    ]
    return {"images": IMAGES, "rounds": rounds, "cores": cores, "rows": rows}


def _note(result: Result) -> str:
    machine = result["environment"]["processor"]
    return (
        f"Megapixels per second, photographs at quality 50, {result['cores']} cores of an "
        f"{machine}; median of {result['rounds']}. A folder is of {result['images']} images, and "
        "the command's start counts."
    )


TABLE = Table(
    "shared_cores",
    "rows",
    {
        "call": "{way}",
        "threads": "{threads}",
        "waiting threads": "{waiting}",
        "alone": "{alone:.2f}",
        "beside one busy process": "{beside:.2f}",
    },
    note=_note,
)


def _measure(arguments: argparse.Namespace) -> Result:
    return measure(arguments.rounds)


BENCHMARK = Benchmark(
    __doc__,
    _measure,
    (TABLE,),
    (Argument("--rounds", type=int, default=5, help="runs of each row"),),
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())

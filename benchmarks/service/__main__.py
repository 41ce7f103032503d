"""How close does the service come to the codec in one process, and how does it bear load?

    python -m benchmarks.service [--json benchmarks/results/service.json] [--soak 10]

A real server process and real client processes on loopback. Peers in the same run, in turns, and
the medians of the rounds: the codec in this process with as many threads, which is the limit, and a
gRPC server that moves the same bytes and does nothing else, which is what gRPC in Python allows.
Closed loop: unary calls of 1, 64 and 256 images and streams of messages of 256, raw images,
encoded and decoded. Open loop: single images at shares of the capacity that the closed loop found;
latency against load is drawn beside the JSON. Client, server and peers share this machine's cores:
the CPU seconds of each are given. With --soak, minutes of load with ten times the capacity in their
middle.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import hvae_codec
from benchmarks.command import Argument, Benchmark
from benchmarks.common import images_per_second, photographs_crops
from benchmarks.service.growth import growth
from benchmarks.service.load_client import Plan
from benchmarks.service.plot import draw
from benchmarks.service.processes import Server, codec_server, echo_server, load
from benchmarks.service.requests import MODEL, SINGLE, STREAM, Form, write_requests
from benchmarks.service.soak import soak
from benchmarks.service.tables import TABLES
from benchmarks.service.targets import targets
from benchmarks.tables import Result
from hvae_codec.utils.progress import progress

KINDS = ("encode", "decode")
BATCH = 256


FORMS = (
    Form("unary 1, one caller", 1, 1),
    SINGLE,
    Form("unary 64, 8 callers", 64, 8),
    Form("unary 256, one caller", 256, 1),
    Form("unary 256, 4 callers", 256, 4),
    STREAM,
)
CHANNELS = 4
SHARES = (0.1, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2)


def in_process(kind: str, seconds: float) -> float:
    """Images a second of the codec itself, in batches."""
    codec = hvae_codec.load(MODEL)
    images = photographs_crops(BATCH)
    files = codec.encode_batch(images)
    if kind == "encode":
        codec.encode_batch(images)
        return images_per_second(lambda: codec.encode_batch(images), BATCH, seconds)
    codec.decode_batch(files)
    return images_per_second(lambda: codec.decode_batch(files), BATCH, seconds)


def closed_loops(
    folder: Path, server: Server, echo: Server, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """A row for each kind and form: medians over the rounds, all in turns."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    limit = 0.0
    turns = list(itertools.product(range(rounds), KINDS, FORMS))
    for _, kind, form in progress("closed loops", turns, leave=False):
        if form is FORMS[0]:
            limit = in_process(kind, seconds / 2)
        sent = write_requests(folder, kind, form.images, stream=form.depth > 0)
        peer = load(form.plan(sent, echo.address, seconds, echo=True), echo)
        served = load(form.plan(sent, server.address, seconds), server)
        row = {"served": served, "echo": peer, "in_process": limit}
        found.setdefault((kind, form.name), []).append(row)
    images = {form.name: form.images for form in FORMS}
    return [_row(kind, name, images[name], rows) for (kind, name), rows in found.items()]


def _row(kind: str, form: str, images: int, rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians of rates, of their ratios, which share a round, and of latencies."""
    served, echoes = [row["served"] for row in rounds], [row["echo"] for row in rounds]
    rates, echo = ([images * one["requests_per_second"] for one in who] for who in (served, echoes))
    limits = [row["in_process"] for row in rounds]
    return {
        "kind": kind,
        "form": form,
        "images_per_second": round(_median(rates), 1),
        "in_process_images_per_second": round(_median(limits), 1),
        "echo_images_per_second": round(_median(echo), 1),
        "ratio_to_in_process": round(_median(np.divide(rates, limits).tolist()), 4),
        "ratio_to_echo": round(_median(np.divide(rates, echo).tolist()), 4),
        **_of_all(served),
        "echo_server_cpu_cores": _cores(echoes, "server_cpu_seconds"),
        "response_bytes": served[-1]["response_bytes"],
        "echo_response_bytes": echoes[-1]["response_bytes"],
    }


def _of_all(loads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Median latencies and cores of some loads, and the answers of all by status."""
    answers: Counter[str] = Counter()
    for one in loads:
        answers.update(one["answers"])
    return {
        "milliseconds": {
            name: round(_median([one["milliseconds"][name] for one in loads]), 3)
            for name in ("p50", "p95", "p99")
        },
        "sent": sum(one["sent"] for one in loads),
        "answers": dict(answers),
        "server_cpu_cores": _cores(loads, "server_cpu_seconds"),
        "client_cpu_cores": _cores(loads, "client_cpu_seconds"),
    }


def _cores(outcomes: Sequence[dict[str, Any]], key: str) -> float:
    return round(_median([one[key] / one["seconds"] for one in outcomes]), 3)


def open_loop(
    folder: Path, server: Server, capacity: float, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """Latency of single images at shares of `capacity` calls a second: medians over the rounds,
    all shares in turns.
    """
    sent = write_requests(folder, "encode", 1, stream=False)
    found: dict[float, list[dict[str, Any]]] = {share: [] for share in SHARES}
    turns = itertools.product(range(rounds), SHARES)
    for seed, (_, share) in enumerate(progress("open loop", list(turns), leave=False)):
        plan = Plan(
            address=server.address,
            method=sent.method,
            request=str(sent.path),
            seconds=seconds,
            channels=CHANNELS,
            rate=share * capacity,
            seed=seed,
        )
        found[share].append(load(plan, server))
    return [_open_row(share, share * capacity, loads) for share, loads in found.items()]


def _open_row(share: float, rate: float, loads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "share_of_capacity": share,
        "offered_per_second": round(rate, 1),
        "answered_per_second": round(_median([one["requests_per_second"] for one in loads]), 1),
        **_of_all(loads),
    }


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def measure(arguments: Namespace) -> Result:
    """Starts, closed loops, open loop, soak if asked, and growth."""
    rounds, seconds = arguments.rounds, arguments.seconds
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    busy = os.getloadavg()[0]
    starts = []
    for _ in range(min(3, rounds)):
        with codec_server() as server:
            starts.append((server.start_seconds, server.usage()))
    with tempfile.TemporaryDirectory() as name, codec_server() as server, echo_server() as echo:
        folder = Path(name)
        closed = closed_loops(folder, server, echo, rounds, seconds)
        single = next(r for r in closed if (r["kind"], r["form"]) == ("encode", SINGLE.name))
        rows = open_loop(folder, server, single["images_per_second"], rounds, seconds)
        memory = {"started": starts[-1][1], "after_load": server.usage()}
        result: Result = {
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "load_before": round(busy, 2),
            "rounds": rounds,
            "seconds": seconds,
            "start_seconds": round(_median([start for start, _ in starts]), 3),
            "memory_mib": {
                when: {"rss": round(usage.rss_mib), "pss": round(usage.pss_mib)}
                for when, usage in memory.items()
            },
            "closed": closed,
            "open": rows,
        }
        if arguments.soak:
            result["soak"] = soak(folder, server, 60.0 * arguments.soak)
    with tempfile.TemporaryDirectory() as name:
        result["growth"] = growth(Path(name), seconds)
    return result | {"targets": targets(result)}


BENCHMARK = Benchmark(
    __doc__,
    measure,
    TABLES,
    (
        Argument("--rounds", type=int, default=5),
        Argument("--seconds", type=float, default=4.0, help="of each measurement"),
        Argument("--threads", type=int, help="of networks, here and in the server"),
        Argument("--soak", type=float, default=0.0, metavar="MINUTES"),
    ),
    packages=("grpcio", "protobuf", "psutil"),
    draw=draw,
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())

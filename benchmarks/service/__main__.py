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

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import hvae_codec
from benchmarks.codec.codec_speed import photographs_crops
from benchmarks.common import environment, write_json
from benchmarks.service.growth import growth
from benchmarks.service.load_client import Plan
from benchmarks.service.plot import draw
from benchmarks.service.processes import Server, codec_server, echo_server, load
from benchmarks.service.requests import MODEL, Sent, write_requests
from benchmarks.service.soak import soak
from benchmarks.service.targets import targets

KINDS = ("encode", "decode")
BATCH = 256


@dataclass(frozen=True)
class Form:
    """How a closed loop calls: images of a message, callers or streams, messages under way on a
    stream (0: unary).
    """

    name: str
    images: int
    callers: int
    depth: int = 0


FORMS = (
    Form("unary 1, one caller", 1, 1),
    Form("unary 1, 64 callers", 1, 64),
    Form("unary 64, 8 callers", 64, 8),
    Form("unary 256, one caller", 256, 1),
    Form("unary 256, 4 callers", 256, 4),
    Form("stream of 256", 256, 2, depth=4),
)
CHANNELS = 4
SHARES = (0.1, 0.3, 0.5, 0.7, 0.85, 1.0, 1.2)


def in_process(kind: str, seconds: float) -> float:
    """Images a second of the codec itself, in batches."""
    codec = hvae_codec.load(MODEL)
    images = photographs_crops(BATCH)
    files = codec.encode_batch(images)
    work: Callable[[], object] = (
        (lambda: codec.encode_batch(images))
        if kind == "encode"
        else lambda: codec.decode_batch(files)
    )
    work()
    done = 0
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        work()
        done += BATCH
    return done / elapsed


def closed_plan(form: Form, sent: Sent, address: str, method: str, seconds: float) -> Plan:
    """A closed loop of this form."""
    return Plan(
        address=address,
        method=method,
        request=str(sent.path),
        seconds=seconds,
        callers=form.callers,
        channels=min(CHANNELS, form.callers),
        depth=form.depth,
    )


def closed_loops(
    folder: Path, server: Server, echo: Server, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """A row for each kind and form: medians over the rounds, all in turns."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    total = rounds * len(KINDS) * len(FORMS)
    with tqdm(total=total, desc="closed loops", disable=None, leave=False) as bar:
        for _ in range(rounds):
            for kind in KINDS:
                limit = in_process(kind, seconds / 2)
                for form in FORMS:
                    stream = form.depth > 0
                    sent = write_requests(folder, kind, form.images, stream=stream)
                    peer_plan = closed_plan(form, sent, echo.address, sent.echo_method, seconds)
                    peer = load(peer_plan, echo)
                    plan = closed_plan(form, sent, server.address, sent.method, seconds)
                    row = {"served": load(plan, server), "echo": peer, "in_process": limit}
                    found.setdefault((kind, form.name), []).append(row)
                    bar.update()
    images = {form.name: form.images for form in FORMS}
    return [_row(kind, name, images[name], rows) for (kind, name), rows in found.items()]


def _row(kind: str, form: str, images: int, rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians of rates, of their ratios, which share a round, and of latencies."""

    rates = [images * row["served"]["requests_per_second"] for row in rounds]
    echo = [images * row["echo"]["requests_per_second"] for row in rounds]
    limits = [row["in_process"] for row in rounds]
    served = [row["served"] for row in rounds]
    return {
        "kind": kind,
        "form": form,
        "images_per_second": round(_median(rates), 1),
        "in_process_images_per_second": round(_median(limits), 1),
        "echo_images_per_second": round(_median(echo), 1),
        "ratio_to_in_process": round(_median(np.divide(rates, limits).tolist()), 4),
        "ratio_to_echo": round(_median(np.divide(rates, echo).tolist()), 4),
        "milliseconds": {
            name: round(_median([one["milliseconds"][name] for one in served]), 3)
            for name in ("p50", "p95", "p99")
        },
        "server_cpu_cores": _cores(served, "server_cpu_seconds"),
        "client_cpu_cores": _cores(served, "client_cpu_seconds"),
        "echo_server_cpu_cores": _cores([row["echo"] for row in rounds], "server_cpu_seconds"),
        "sent": sum(one["sent"] for one in served),
        "answers": _answers(served),
        "response_bytes": served[-1]["response_bytes"],
        "echo_response_bytes": rounds[-1]["echo"]["response_bytes"],
    }


def _cores(outcomes: Sequence[dict[str, Any]], key: str) -> float:
    return round(_median([one[key] / one["seconds"] for one in outcomes]), 3)


def open_loop(
    folder: Path,
    server: Server,
    capacity: float,
    rounds: int,
    seconds: float,
    *,
    echo: bool = False,
) -> list[dict[str, Any]]:
    """Latency of single images at shares of `capacity` calls a second: medians over the rounds,
    all shares in turns. echo: the server is the echo server.
    """
    sent = write_requests(folder, "encode", 1, stream=False)
    method = sent.echo_method if echo else sent.method
    found: dict[float, list[dict[str, Any]]] = {share: [] for share in SHARES}
    with tqdm(total=rounds * len(SHARES), desc="open loop", disable=None, leave=False) as bar:
        for turn in range(rounds):
            for number, share in enumerate(SHARES):
                plan = Plan(
                    address=server.address,
                    method=method,
                    request=str(sent.path),
                    seconds=seconds,
                    channels=CHANNELS,
                    rate=share * capacity,
                    seed=turn * len(SHARES) + number,
                )
                found[share].append(load(plan, server))
                bar.update()
    return [_open_row(share, share * capacity, loads) for share, loads in found.items()]


def _open_row(share: float, rate: float, loads: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "share_of_capacity": share,
        "offered_per_second": round(rate, 1),
        "answered_per_second": round(_median([one["requests_per_second"] for one in loads]), 1),
        "milliseconds": {
            name: round(_median([one["milliseconds"][name] for one in loads]), 3)
            for name in ("p50", "p95", "p99")
        },
        "sent": sum(one["sent"] for one in loads),
        "answers": _answers(loads),
        "server_cpu_cores": _cores(loads, "server_cpu_seconds"),
        "client_cpu_cores": _cores(loads, "client_cpu_seconds"),
    }


def _answers(loads: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Answers of all, by status."""
    answers: Counter[str] = Counter()
    for one in loads:
        answers.update(one["answers"])
    return dict(answers)


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def print_rows(result: dict[str, Any]) -> None:
    """A line for each measurement and each target."""
    print(f"{'':36} images/s  of codec  of echo   p50 ms   p95 ms   p99 ms  cores server + client")
    for row in result["closed"]:
        ms = row["milliseconds"]
        print(
            f"{row['kind'] + ', ' + row['form']:36} {row['images_per_second']:>8.0f} "
            f"{row['ratio_to_in_process']:>8.1%} {row['ratio_to_echo']:>8.1%} "
            f"{ms['p50']:>8.2f} {ms['p95']:>8.2f} {ms['p99']:>8.2f} "
            f"{row['server_cpu_cores']:>7.2f} + {row['client_cpu_cores']:.2f}"
        )
    for row in result["open"]:
        ms = row["milliseconds"]
        print(
            f"{'open loop, ' + format(row['share_of_capacity'], '.0%') + ' of capacity':36} "
            f"{row['answered_per_second']:>8.0f} {ms['p50']:>26.2f} {ms['p95']:>8.2f} "
            f"{ms['p99']:>8.2f} {row['server_cpu_cores']:>7.2f} + {row['client_cpu_cores']:.2f}"
        )
    for row in result["growth"]:
        what = f"{row['cores']} cores, {row['servers']} servers, {row['kind']}, {row['form']}"
        print(f"{what:50} {row['images_per_second']:>8.0f} {row['server_cpu_cores']:>37.2f}")
    for target in result["targets"]:
        state = {True: "PASS", False: "NOT", None: "not measured"}[target["met"]]
        print(f"{state:>12}  {target['what']}: {target['measured']} (limit {target['limit']})")


def main() -> None:
    """Measure, print, draw, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--threads", type=int, help="of networks, here and in the server")
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES")
    parser.add_argument("--json", type=Path, help="write the result here, and the picture beside")
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    busy = os.getloadavg()[0]
    starts = []
    for _ in range(min(3, arguments.rounds)):
        with codec_server() as server:
            starts.append((server.start_seconds, server.usage()))
    with tempfile.TemporaryDirectory() as name, codec_server() as server, echo_server() as echo:
        folder = Path(name)
        closed = closed_loops(folder, server, echo, arguments.rounds, arguments.seconds)
        single = next(r for r in closed if r["kind"] == "encode" and "64 callers" in r["form"])
        capacity = single["images_per_second"]
        rows = open_loop(folder, server, capacity, arguments.rounds, arguments.seconds)
        loaded = server.usage()
        result: dict[str, Any] = {
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "load_before": round(busy, 2),
            "rounds": arguments.rounds,
            "seconds": arguments.seconds,
            "start_seconds": round(float(np.median([seconds for seconds, _ in starts])), 3),
            "memory_mib": {
                "started": {
                    "rss": round(starts[-1][1].rss_mib),
                    "pss": round(starts[-1][1].pss_mib),
                },
                "after_load": {"rss": round(loaded.rss_mib), "pss": round(loaded.pss_mib)},
            },
            "closed": closed,
            "open": rows,
        }
        if arguments.soak:
            result["soak"] = soak(folder, server, 60.0 * arguments.soak)
    with tempfile.TemporaryDirectory() as name:
        result["growth"] = growth(Path(name), arguments.seconds)
    result["targets"] = targets(result)
    print_rows(result)
    if arguments.json is not None:
        packages = ("grpcio", "protobuf", "psutil")
        write_json(arguments.json, {**result, "environment": environment(*packages)})
        draw(result, arguments.json.with_suffix(".png"))


if __name__ == "__main__":
    main()

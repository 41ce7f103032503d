"""Minutes of load on the service, with ten times its capacity in their middle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.service.load_client import Plan
from benchmarks.service.processes import Client, Server, load
from benchmarks.service.requests import write_requests
from benchmarks.service.targets import ANSWERS
from hvae_codec.utils.progress import progress

IMAGES = 256
"""Files of a request: so few and small requests make the overload that its client, on the same
cores, can send them, and the server can refuse them.
"""

CHANNELS = 8

BASE = 0.5
"""Share of the capacity that is asked for all the time."""

OVERLOAD = 10.0
OVERLOAD_SHARE = 0.2
"""Share of the time, in its middle, that the overload lasts."""

BACK = 0.9
"""Share of the throughput from before that counts as back."""

SETTLE_SECONDS = 10.0


def soak(folder: Path, server: Server, seconds: float) -> dict[str, Any]:
    """Throughput, answers and memory over `seconds`.

    Returns:
        capacity and answered calls a second, for every second; all answers by status; `lost`, the
        requests without one; `memory_change`, of the last tenth against the tenth before the
        overload; `overload_times_capacity`, what its client could send; `back_seconds` after the
        overload until a second has BACK of the throughput that was usual before, None where none
        has.
    """
    sent = write_requests(folder, "decode", IMAGES, stream=False)
    common: dict[str, Any] = {"address": server.address, "method": sent.method}
    common |= {"request": str(sent.path), "channels": CHANNELS}
    capacity = load(Plan(**common, seconds=SETTLE_SECONDS, callers=8), server)[
        "requests_per_second"
    ]
    over = OVERLOAD_SHARE * seconds
    before = (seconds - over) / 2
    began = time.perf_counter()
    base = Client(Plan(**common, seconds=seconds, rate=BASE * capacity, warm=0.0, series=True))
    memory: list[tuple[float, float]] = []
    overload: Client | None = None
    with progress("soak", total=round(seconds), unit="seconds", leave=False) as bar:
        while base.running():
            now = time.perf_counter() - began
            if overload is None and now >= before:
                plan = Plan(**common, seconds=over, rate=OVERLOAD * capacity, warm=0.0, seed=1)
                overload = Client(plan)
            memory.append((now, server.usage().pss_mib))
            bar.update(round(now) - bar.n)
            time.sleep(1.0)
    outcomes = [base.result()] + ([overload.result()] if overload is not None else [])
    answers: dict[str, int] = {}
    examples: dict[str, str] = {}
    for outcome in outcomes:
        examples |= outcome["examples"]
        for status, count in outcome["answers"].items():
            answers[status] = answers.get(status, 0) + count
    offered = sum(outcome["sent"] for outcome in outcomes)
    series = outcomes[0]["per_second"]
    early = _mean(memory, before - 0.1 * seconds, before)
    late = _mean(memory, 0.9 * seconds, seconds)
    return {
        "seconds": seconds,
        "images_of_a_request": IMAGES,
        "capacity_per_second": round(capacity, 2),
        "offered": offered,
        "answers": answers,
        "examples": examples,
        "lost": offered - sum(answers.get(status, 0) for status in ANSWERS),
        "memory_mib": {
            "before": round(early, 1),
            "end": round(late, 1),
            "most": round(max(mib for _, mib in memory), 1),
        },
        "memory_change": round(late / early - 1.0, 4),
        "overload_began": round(before, 1),
        "overload_seconds": round(over, 1),
        "overload_times_capacity": round(outcomes[-1]["sent"] / (over * capacity), 2),
        "back_seconds": _back(series, before, before + over),
        "answered_per_second": series,
    }


def _mean(memory: list[tuple[float, float]], first: float, last: float) -> float:
    found = [mib for at, mib in memory if first <= at <= last]
    return float(np.mean(found)) if found else float("nan")


def _back(series: list[int], began: float, ended: float) -> float | None:
    """Seconds after `ended` at which a second begins with BACK of what was usual before `began`."""
    usual = float(np.median(series[2 : int(began)]))
    for second in range(int(np.ceil(ended)), len(series)):
        if series[second] >= BACK * usual:
            return float(second) - ended
    return None

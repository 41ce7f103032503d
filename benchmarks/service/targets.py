"""The figures that the service is to reach, and whether a run reaches them; None: not measured."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import Result, target

STREAM_RATIO = 0.8
SINGLE_RATIO = 0.6
LATENCY_RATIO = 3.0
LATENCY_SHARE = 0.7
START_SECONDS = 6.0
RESIDENT_MIB = 1.2 * 1024
MEMORY_CHANGE = 0.05
BACK_SECONDS = 10.0


def targets(result: Result) -> list[Result]:
    """Every target with what a run of `benchmarks.service` measured."""
    found = []
    forms = (("stream of 256", STREAM_RATIO), ("unary 1, 64 callers", SINGLE_RATIO))
    for form, least in forms:
        for row in result["closed"]:
            if row["form"] == form:
                what = f"{row['kind']}, {form}: throughput over that of the codec in one process"
                found.append(target(what, row["ratio_to_in_process"], least, at_least=True))
    for row in result["open"]:
        if row["share_of_capacity"] == LATENCY_SHARE:
            ms = row["milliseconds"]
            what = "p99 over p50 of single images at 70 % of capacity"
            found.append(target(what, ms["p99"] / ms["p50"], LATENCY_RATIO))
    found.append(target("start to SERVING, seconds", result["start_seconds"], START_SECONDS))
    memory = result["memory_mib"]["after_load"]
    what = "resident after load, a shared page counted once, MiB"
    found.append(target(what, memory["pss"], RESIDENT_MIB))
    found.append(target("the same, counted for each process", memory["rss"], RESIDENT_MIB))
    lost = [_lost(row) for row in (*result["closed"], *result["open"])]
    found.append(target("requests without an answer", float(sum(lost)), 0.0))
    if "soak" in result:
        soak = result["soak"]
        found += [
            target("soak: change of memory", abs(soak["memory_change"]), MEMORY_CHANGE),
            target("soak: requests without an answer", float(soak["lost"]), 0.0),
            _back(soak["back_seconds"]),
        ]
    return found


def _back(seconds: float | None) -> Result:
    """None: throughput never came back, which is a target not met."""
    found = target("soak: seconds until throughput is back", seconds, BACK_SECONDS)
    return found | {"met": bool(found["met"])}


def _lost(row: dict[str, Any]) -> int:
    """Requests that came to no answer of the server: neither a result nor a refusal."""
    answered: int = sum(row["answers"].get(status, 0) for status in ANSWERS)
    sent: int = row["sent"]
    return sent - answered


ANSWERS = ("OK", "RESOURCE_EXHAUSTED")
"""What a server may say to a sound request under any load. UNAVAILABLE and DEADLINE_EXCEEDED are
what the client's own library says where no answer came."""

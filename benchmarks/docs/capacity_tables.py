"""Puts what the service's benchmark measured into docs/CAPACITY.md, between the markers.

python -m benchmarks.docs.capacity_tables            rewrite it from benchmarks/results/service.json
python -m benchmarks.docs.capacity_tables --check    exit 1 if that would change it
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, filled
from hvae_codec.utils.atomic_files import write_atomically

PAGE = Path(__file__).parents[2] / "docs" / "CAPACITY.md"

Result = dict[str, Any]


def machine_line(result: Result) -> str:
    """What was measured on."""
    machine = result["environment"]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("torch", "grpcio"))
    busy = result["load_before"]
    others = "" if busy < 0.5 else f" Other programs were at work meanwhile (load {busy:.1f})."
    return (
        f"{machine['processor']}, cores: {result['cores']}, threads: {result['threads']}, "
        f"Python {machine['python']}, {versions}; medians of {result['rounds']} rounds of "
        f"{result['seconds']:g} s. Client, server and peers share the cores.{others}"
    )


def rates_table(result: Result) -> str:
    """Images a second of each kind of call, and what they took."""
    lines = [
        "| call | images/s | of the codec in one process | of the echo server | cores: server, "
        "client | images per core-second of the server | p50 ms | p99 ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["closed"]:
        each = row["images_per_second"] / max(row["server_cpu_cores"], 1e-9)
        ms = row["milliseconds"]
        lines.append(
            f"| {row['kind']}, {row['form']} | {row['images_per_second']:,.0f} "
            f"| {row['ratio_to_in_process']:.0%} | {row['ratio_to_echo']:.0%} "
            f"| {row['server_cpu_cores']:.2f}, {row['client_cpu_cores']:.2f} | {each:,.0f} "
            f"| {ms['p50']:.1f} | {ms['p99']:.1f} |"
        )
    return "\n".join(lines)


def single_calls_text(result: Result) -> str:
    """What single images cost, apart from what this server does itself."""
    row = next(
        row
        for row in result["closed"]
        if row["kind"] == "encode" and row["form"] == "unary 1, 64 callers"
    )
    codec = result["cores"] / row["in_process_images_per_second"]
    client = row["client_cpu_cores"] / row["images_per_second"]
    grpc = row["echo_server_cpu_cores"] / row["echo_images_per_second"]
    most = result["cores"] / (codec + client + grpc)
    share = most / row["in_process_images_per_second"]
    return (
        f"Of a core, an image takes the codec {1e6 * codec:.0f} us, a call the client "
        f"{1e6 * client:.0f} us and gRPC's echo server {1e6 * grpc:.0f} us. With all cores full "
        f"and nothing else to do that is {most:,.0f} single images a second, {share:.0%} of the "
        "codec in one process; this server, whose calls share one event loop, gives "
        f"{row['images_per_second']:,.0f}."
    )


def growth_table(result: Result) -> str:
    """Images a second by cores."""
    lines = ["| cores | servers | call | images/s | against one core |", "|---|---|---|---|---|"]
    first = {(r["kind"], r["form"]): r["images_per_second"] for r in reversed(result["growth"])}
    for row in result["growth"]:
        times = row["images_per_second"] / first[row["kind"], row["form"]]
        lines.append(
            f"| {row['cores']} | {row['servers']} | {row['kind']}, {row['form']} "
            f"| {row['images_per_second']:,.0f} "
            f"| {times:.2f}x |"
        )
    return "\n".join(lines)


def latency_table(result: Result) -> str:
    """Latency against offered load."""
    lines = [
        "| share of capacity | offered/s | answered/s | p50 ms | p95 ms | p99 ms | refused |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["open"]:
        ms = row["milliseconds"]
        refused = row["answers"].get("RESOURCE_EXHAUSTED", 0)
        lines.append(
            f"| {row['share_of_capacity']:.0%} | {row['offered_per_second']:,.0f} "
            f"| {row['answered_per_second']:,.0f} | {ms['p50']:.1f} | {ms['p95']:.1f} "
            f"| {ms['p99']:.1f} | {refused} |"
        )
    return "\n".join(lines)


def soak_text(result: Result) -> str:
    """What minutes of load with an overload in their middle came to."""
    soak = result.get("soak")
    if soak is None:
        return "Not measured in this run (`--soak 10`)."
    answers = ", ".join(f"{count:,} {status}" for status, count in soak["answers"].items())
    memory, back = soak["memory_mib"], soak["back_seconds"]
    later = "not within the run" if back is None else f"{back:.0f} s later"
    load = (
        f"{soak['seconds'] / 60:g} minutes of calls that decode {soak['images_of_a_request']} "
        f"images at half of the capacity of {soak['capacity_per_second']:.0f} calls a second, and "
        f"in the middle, for {soak['overload_seconds']:.0f} s, "
        f"{soak['overload_times_capacity']:.1f} times the capacity on top."
    )
    return (
        f"{load} {soak['offered']:,} calls: {answers}. Memory {memory['before']:.0f} MiB before, "
        f"at most {memory['most']:.0f}, {memory['end']:.0f} at the end "
        f"({soak['memory_change']:+.1%}). Throughput was back {later}."
    )


def targets_table(result: Result) -> str:
    """The figures to reach."""
    lines = ["| target | limit | measured | |", "|---|---|---|---|"]
    for target in result["targets"]:
        state = {True: "PASS", False: "NOT", None: "not measured"}[target["met"]]
        measured = "" if target["measured"] is None else f"{target['measured']:g}"
        lines.append(f"| {target['what']} | {target['limit']:g} | {measured} | {state} |")
    return "\n".join(lines)


def memory_line(result: Result) -> str:
    """Start and memory."""
    started, loaded = (result["memory_mib"][when] for when in ("started", "after_load"))
    return (
        f"Start to SERVING: {result['start_seconds']:.1f} s. Memory of all processes, shared pages "
        f"once: {started['pss']:,.0f} MiB when started, {loaded['pss']:,.0f} MiB after the load "
        f"above (with shared pages counted for each: {loaded['rss']:,.0f} MiB)."
    )


PARTS: dict[str, Callable[[Result], str]] = {
    "machine": machine_line,
    "rates": rates_table,
    "single calls": single_calls_text,
    "growth": growth_table,
    "latency": latency_table,
    "memory": memory_line,
    "soak": soak_text,
    "targets": targets_table,
}


def rendered(text: str, result: Result) -> str:
    """The page's text with each marked part replaced by its newest form."""
    return filled(text, {name: partial(part, result) for name, part in PARTS.items()}, PAGE.name)


def main() -> int:
    """Rewrite or check the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if stale")
    parser.add_argument("--json", type=Path, default=RESULTS / "service.json", help="the result")
    arguments = parser.parse_args()
    old = PAGE.read_text()
    new = rendered(old, json.loads(arguments.json.read_text()))
    if arguments.check:
        return int(old != new)
    write_atomically(PAGE, new.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())

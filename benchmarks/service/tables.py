"""The tables and sentences of the service's benchmark: printed, and in docs/CAPACITY.md."""

from __future__ import annotations

from benchmarks.tables import TARGETS, Result, Row, Table


def closed_rows(result: Result) -> list[Result]:
    """Each kind and form of call, with images per core-second of the server."""
    return [
        row | {"each": row["images_per_second"] / max(row["server_cpu_cores"], 1e-9)}
        for row in result["closed"]
    ]


def growth_rows(result: Result) -> list[Result]:
    """Each number of cores, beside one core."""
    first = {(r["kind"], r["form"]): r["images_per_second"] for r in reversed(result["growth"])}
    return [
        row | {"times": row["images_per_second"] / first[row["kind"], row["form"]]}
        for row in result["growth"]
    ]


RATES = Table(
    "rates",
    closed_rows,
    {
        "call": "{kind}, {form}",
        "images/s": "{images_per_second:,.0f}",
        "of the codec in one process": "{ratio_to_in_process:.0%}",
        "of the echo server": "{ratio_to_echo:.0%}",
        "cores: server, client": "{server_cpu_cores:.2f}, {client_cpu_cores:.2f}",
        "images per core-second of the server": "{each:,.0f}",
        "p50 ms": "{milliseconds[p50]:.1f}",
        "p99 ms": "{milliseconds[p99]:.1f}",
    },
    result="service",
)
GROWTH = Table(
    "growth",
    growth_rows,
    {
        "cores": "{cores}",
        "servers": "{servers}",
        "call": "{kind}, {form}",
        "images/s": "{images_per_second:,.0f}",
        "against one core": "{times:.2f}x",
    },
    more={"cores of the server": "{server_cpu_cores:.2f}"},
    result="service",
)
LATENCY = Table(
    "latency",
    "open",
    {
        "share of capacity": "{share_of_capacity:.0%}",
        "offered/s": "{offered_per_second:,.0f}",
        "answered/s": "{answered_per_second:,.0f}",
        "p50 ms": "{milliseconds[p50]:.1f}",
        "p95 ms": "{milliseconds[p95]:.1f}",
        "p99 ms": "{milliseconds[p99]:.1f}",
        "refused": lambda row: str(row["answers"].get("RESOURCE_EXHAUSTED", 0)),
    },
    more={"cores: server, client": "{server_cpu_cores:.2f}, {client_cpu_cores:.2f}"},
    result="service",
)


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


def single_calls_text(result: Result) -> str:
    """What single images cost, apart from what this server does itself."""
    row: Row = next(
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


def memory_line(result: Result) -> str:
    """Start and memory."""
    started, loaded = (result["memory_mib"][when] for when in ("started", "after_load"))
    return (
        f"Start to SERVING: {result['start_seconds']:.1f} s. Memory of all processes, shared pages "
        f"once: {started['pss']:,.0f} MiB when started, {loaded['pss']:,.0f} MiB after the load "
        f"above (with shared pages counted for each: {loaded['rss']:,.0f} MiB)."
    )


TEXTS = {
    "machine": machine_line,
    "single calls": single_calls_text,
    "memory": memory_line,
    "soak": soak_text,
}
"""What stands between markers of the page, too, and is no table."""

TABLES = (RATES, GROWTH, LATENCY, TARGETS)

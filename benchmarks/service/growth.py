"""How the service's throughput grows with the cores that it may use, and with servers on a port."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.service.load_client import Plan
from benchmarks.service.processes import Server, codec_server, load
from benchmarks.service.requests import write_requests

CALLS = (("stream of 256", 256, 2, 4), ("unary 1, 64 callers", 1, 64, 0))
"""Form, images of a message, callers or streams, messages under way on a stream."""
SINGLE_CALLS = CALLS[1:]


def growth(folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Images a second of servers that are bound to one core, two, four ..., with as many coding
    processes, and for single calls of a server a core, which share a port; clients run on any core,
    so the rows of all cores share all of them.
    """
    available = sorted(os.sched_getaffinity(0))
    counts = sorted({2**power for power in range(12) if 2**power < len(available)})
    groups = [[available[:cores]] for cores in [*counts, len(available)]]
    if counts:
        groups.append([[core] for core in available])
    found = []
    for cpus in tqdm(groups, desc="cores", disable=None, leave=False):
        with ExitStack() as stack:
            servers = _servers(stack, cpus)
            for kind in ("encode", "decode"):
                for call in CALLS if len(servers) == 1 else SINGLE_CALLS:
                    row = {"cores": sum(map(len, cpus)), "servers": len(servers), "kind": kind}
                    found.append(row | _measured(folder, servers, kind, call, seconds))
    return found


def _servers(stack: ExitStack, cpus: Sequence[Sequence[int]]) -> list[Server]:
    """A server on each of these sets of cores, all on one port."""
    servers: list[Server] = []
    for cores in cpus:
        flags = ["--coding-processes", str(len(cores)), "--share-port"]
        if servers:
            flags += ["--port", servers[0].address.rpartition(":")[2]]
        servers.append(stack.enter_context(codec_server(flags, cpus=cores)))
    return servers


def _measured(
    folder: Path,
    servers: Sequence[Server],
    kind: str,
    call: tuple[str, int, int, int],
    seconds: float,
) -> dict[str, Any]:
    form, images, callers, depth = call
    sent = write_requests(folder, kind, images, stream=depth > 0)
    plan = Plan(
        address=servers[0].address,
        method=sent.method,
        request=str(sent.path),
        seconds=seconds,
        callers=callers,
        # The system spreads connections over servers by chance: the more, the more evenly.
        channels=min(4 if len(servers) == 1 else 32, callers),
        depth=depth,
    )
    measured = load(plan, *servers)
    used = measured["server_cpu_seconds"] / measured["seconds"]
    return {
        "form": form,
        "images_per_second": round(images * measured["requests_per_second"], 1),
        "server_cpu_cores": round(used, 3),
    }

"""How the service's throughput grows with the cores that it may use, and with servers on a port."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.service.processes import Server, codec_server, load
from benchmarks.service.requests import SINGLE, STREAM, Form, write_requests
from hvae_codec.utils.progress import progress


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
    for cpus in progress("cores", groups, leave=False):
        with ExitStack() as stack:
            servers = _servers(stack, cpus)
            for kind in ("encode", "decode"):
                for form in (STREAM, SINGLE) if len(servers) == 1 else (SINGLE,):
                    row = {"cores": sum(map(len, cpus)), "servers": len(servers), "kind": kind}
                    found.append(row | _measured(folder, servers, kind, form, seconds))
    return found


def _servers(stack: ExitStack, cpus: Sequence[Sequence[int]]) -> list[Server]:
    """A server on each of these sets of cores, all on one port."""
    servers: list[Server] = []
    for cores in cpus:
        flags = ["--coding-processes", str(len(cores)), "--reuse-port"]
        if servers:
            flags += ["--port", servers[0].address.rpartition(":")[2]]
        servers.append(stack.enter_context(codec_server(flags, cpus=cores)))
    return servers


def _measured(
    folder: Path, servers: Sequence[Server], kind: str, form: Form, seconds: float
) -> dict[str, Any]:
    sent = write_requests(folder, kind, form.images, stream=form.depth > 0)
    # The system spreads connections over servers by chance: the more, the more evenly.
    channels = 4 if len(servers) == 1 else 32
    measured = load(form.plan(sent, servers[0].address, seconds, channels=channels), *servers)
    used = measured["server_cpu_seconds"] / measured["seconds"]
    return {
        "form": form.name,
        "images_per_second": round(form.images * measured["requests_per_second"], 1),
        "server_cpu_cores": round(used, 3),
    }

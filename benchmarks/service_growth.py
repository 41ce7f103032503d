"""How the service's throughput grows with the cores that it may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.service_load import Plan
from benchmarks.service_processes import codec_server, load
from benchmarks.service_requests import write_requests

CALLS = (("stream of 256", 256, 2, 4), ("unary 1, 64 callers", 1, 64, 0))
"""Form, images of a message, callers or streams, messages under way on a stream."""


def growth(folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Images a second of servers that are bound to one core, two, four ..., with as many threads
    and coding processes; clients run on any core, so the last row shares all of them.
    """
    found = []
    available = sorted(os.sched_getaffinity(0))
    counts = sorted({2**power for power in range(12) if 2**power < len(available)})
    for cores in tqdm([*counts, len(available)], desc="cores", disable=None, leave=False):
        flags = ["--coding-processes", str(cores)]
        with codec_server(flags, cpus=available[:cores]) as server:
            for kind in ("encode", "decode"):
                for form, images, callers, depth in CALLS:
                    sent = write_requests(folder, kind, images, stream=depth > 0)
                    plan = Plan(
                        address=server.address,
                        method=sent.method,
                        request=str(sent.path),
                        seconds=seconds,
                        callers=callers,
                        channels=min(4, callers),
                        depth=depth,
                    )
                    measured = load(plan, server)
                    rate = images * measured["requests_per_second"]
                    used = measured["server_cpu_seconds"] / measured["seconds"]
                    row = {"cores": cores, "kind": kind, "form": form}
                    row |= {"images_per_second": round(rate, 1)}
                    found.append(row | {"server_cpu_cores": round(used, 3)})
    return found

"""Which latency under load does gRPC in Python allow?

    python -m benchmarks.service.latency [--json benchmarks/results/service_latency.json]

The open loop of `benchmarks.service` for two servers, one after the other: the service, and the
echo server, which moves the same bytes and does nothing with them. Each is offered shares of its
own capacity, what 64 callers got from it in a closed loop. Clients and servers share this machine's
cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import environment, write_json
from benchmarks.service.__main__ import FORMS, closed_plan, open_loop
from benchmarks.service.processes import Server, codec_server, echo_server, load
from benchmarks.service.requests import write_requests

CALLERS = next(form for form in FORMS if form.callers == 64)


def capacity(folder: Path, server: Server, rounds: int, seconds: float, *, echo: bool) -> float:
    """Calls a second of 64 callers of single images, median of the rounds."""
    sent = write_requests(folder, "encode", 1, stream=False)
    method = sent.echo_method if echo else sent.method
    plan = closed_plan(CALLERS, sent, server.address, method, seconds)
    rates = [load(plan, server)["requests_per_second"] for _ in range(rounds)]
    return float(np.median(rates))


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--json", type=Path, help="write the result here")
    arguments = parser.parse_args()
    rounds, seconds = arguments.rounds, arguments.seconds
    result: dict[str, Any] = {
        "cores": os.cpu_count(),
        "rounds": rounds,
        "seconds": seconds,
        "servers": {},
    }
    with tempfile.TemporaryDirectory() as name, codec_server() as service, echo_server() as peer:
        folder = Path(name)
        for what, server in (("service", service), ("echo", peer)):
            echo = what == "echo"
            most = capacity(folder, server, rounds, seconds, echo=echo)
            rows = open_loop(folder, server, most, rounds, seconds, echo=echo)
            for row in rows:
                ms = row["milliseconds"]
                row["p99_over_p50"] = round(ms["p99"] / ms["p50"], 2)
                print(
                    f"{what:8} {row['share_of_capacity']:>5.0%} of {most:>6.0f}/s  "
                    f"p50 {ms['p50']:8.2f} ms  p99 {ms['p99']:8.2f} ms  "
                    f"{row['p99_over_p50']:6.2f}x"
                )
            result["servers"][what] = {"calls_per_second": round(most, 1), "open": rows}
    if arguments.json is not None:
        write_json(arguments.json, {**result, "environment": environment("grpcio", "psutil")})


if __name__ == "__main__":
    main()

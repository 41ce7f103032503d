"""The benchmark's client processes against its echo server: what was sent is what was counted."""

import numpy as np
import pytest

from benchmarks.service.load_client import Plan, quantile
from benchmarks.service.processes import Client, echo_server, load
from benchmarks.service.targets import targets
from tests.server.conftest import BEHIND_PROXY


@pytest.fixture(scope="module")
def echo():
    """Reached behind a proxy that does not answer."""
    with pytest.MonkeyPatch.context() as patch, echo_server() as server:
        for name, value in BEHIND_PROXY.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def plan(echo, tmp_path):
    request = tmp_path / "request"
    request.write_bytes(bytes(1000))

    def make(mode, **settings):
        common = {"seconds": 0.5, "warm": 0.1, "channels": 2} | settings
        return Plan(echo.address, f"/echo/{mode}", str(request), **common)

    return make


def test_a_closed_loop_counts_every_call(plan, echo):
    found = load(plan("unary-77", callers=4), echo)
    assert found["answers"] == {"OK": found["sent"]}
    assert found["response_bytes"] == 77
    assert found["requests_per_second"] == pytest.approx(found["sent"] / found["seconds"])
    ms = found["milliseconds"]
    assert 0 < ms["p50"] <= ms["p95"] <= ms["p99"]
    assert found["client_cpu_seconds"] > 0


def test_an_open_loop_keeps_its_rate_and_says_when_answers_came(plan):
    found = Client(plan("unary-5", rate=200.0, seconds=2.0, series=True)).result()
    assert found["answers"] == {"OK": found["sent"]}
    assert 300 < found["sent"] < 500  # Poisson: 400, 20 the standard deviation
    assert sum(found["per_second"]) <= found["sent"]
    assert len(found["per_second"]) == 2


def test_streams_are_answered_message_by_message(plan, echo):
    found = load(plan("stream-9", callers=2, depth=3), echo)
    assert found["answers"] == {"OK": found["sent"]}
    assert found["sent"] > 10


def test_refusals_are_counted_with_what_they_said(plan):
    found = Client(plan("unary-x", callers=1)).result()
    (status,) = found["answers"]
    assert found["answers"][status] == found["sent"] > 0
    assert status in found["examples"]
    assert found["milliseconds"]["p50"] is None or np.isnan(found["milliseconds"]["p50"])


def test_memory_and_time_of_a_server_are_those_of_its_processes(echo):
    usage = echo.usage()
    assert usage.cpu_seconds > 0
    assert 1 < usage.pss_mib <= usage.rss_mib < 500


def test_quantiles():
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([1.0], 0.99) == 1.0
    assert np.isnan(quantile([], 0.5))


def test_targets_are_met_or_not():
    row = {"kind": "encode", "form": "stream of 256", "ratio_to_in_process": 0.9}
    row |= {"sent": 10, "answers": {"OK": 9, "RESOURCE_EXHAUSTED": 1}}
    slow = {"share_of_capacity": 0.7, "milliseconds": {"p50": 1.0, "p99": 4.0}}
    slow |= {"sent": 5, "answers": {"OK": 4, "UNAVAILABLE": 1}}
    memory = {"after_load": {"rss": 900.0, "pss": 700.0}}
    soak = {"memory_change": -0.06, "lost": 0, "back_seconds": None}
    result = {"closed": [row], "open": [slow], "start_seconds": 3.0, "memory_mib": memory}
    found = {t["what"]: t["met"] for t in targets(result | {"soak": soak})}
    assert found == {
        "encode, stream of 256: throughput over that of the codec in one process": True,
        "p99 over p50 of single images at 70 % of capacity": False,
        "start to SERVING, seconds": True,
        "resident after load, a shared page counted once, MiB": True,
        "the same, counted for each process": True,
        "requests without an answer": False,
        "soak: change of memory": False,
        "soak: requests without an answer": True,
        "soak: seconds until throughput is back": False,
    }

"""One real Ray cluster for all tests that need one: starting it takes longer than most of them."""

import importlib
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
SOON |= {"health_check_timeout_ms": 2000, "health_check_failure_threshold": 4}
"""When a worker counts as dead: otherwise half a minute later."""

STORE_BYTES = 128 * 1024 * 1024

NEEDED = ("hvae_codec.training.sweep.chunk", "hvae_codec.codec.archive.blocks")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A head that computes nothing, and two workers of one core each, which have imported torch;
    this process has joined it. A test that kills a worker adds another one.
    """
    ray = pytest.importorskip("ray")
    # Beside other programs its workers would not get on. (Ray's name has small letters.)
    os.environ |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    store = {"object_store_memory": STORE_BYTES}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": SOON, **store}
    started = with_head(head)
    for _ in range(2):
        started.add_node(num_cpus=1, **store)
    started.wait_for_nodes()
    ray.init(address=started.address, log_to_driver=False)
    ray.get([ray.remote(num_cpus=1)(warm_up).remote() for _ in range(2)])
    yield started
    ray.shutdown()
    started.shutdown()


def with_head(arguments: dict[str, Any]) -> Any:
    """A cluster with its head alone. Now and then Ray's first question to a new head is never
    answered, and half a minute later it gives up: then another one is started.
    """
    from ray.cluster_utils import Cluster

    try:
        return Cluster(initialize_head=True, head_node_args=arguments)
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
    return Cluster(initialize_head=True, head_node_args=arguments)


def warm_up() -> None:
    """Import what tasks need; slowly enough that each worker gets one."""
    for name in NEEDED:
        importlib.import_module(name)
    time.sleep(2.0)

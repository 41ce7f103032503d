"""One real Ray cluster for these tests: a head that computes nothing, two workers of one core."""

import importlib
import os
import time

import pytest

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

from tests.server.conftest import (  # noqa: E402, F401
    codec,
    model,
    other_rung,
    rung,
    smooth_picture,
    tiles,
)

SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
SOON |= {"health_check_timeout_ms": 2000, "health_check_failure_threshold": 4}
"""When a worker counts as dead: otherwise half a minute later."""

STORE_BYTES = 128 * 1024 * 1024


@pytest.fixture(scope="session")
def cluster():
    """The cluster, joined by this process; workers have imported what codes pictures."""
    # Beside other programs its workers would not get on. (Ray's name has small letters.)
    os.environ |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": SOON}
    started = Cluster(
        initialize_head=True, head_node_args=head | {"object_store_memory": STORE_BYTES}
    )
    for _ in range(2):
        started.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    started.wait_for_nodes()
    ray.init(address=started.address, log_to_driver=False)
    ray.get([ray.remote(num_cpus=1)(warm_up).remote() for _ in range(2)])
    yield started
    ray.shutdown()
    started.shutdown()


def warm_up():
    """Import what a task needs; slowly enough that each worker gets one."""
    import hvae_codec

    importlib.import_module("hvae_codec.codec.archive_blocks")
    hvae_codec.load("cifar10")
    time.sleep(1.0)

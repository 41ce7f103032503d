"""A sweep on a real Ray cluster of two workers, one of which is killed in the middle."""

import importlib
import json
import os
import threading
import time

import pytest

from hvae_codec.errors import SweepError
from hvae_codec.training.sweep import write_plan
from hvae_codec.training.sweep_local import Work, run_locally
from hvae_codec.training.sweep_ray import run_on_ray

ray = pytest.importorskip("ray")
from ray.cluster_utils import Cluster  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
SOON |= {"health_check_timeout_ms": 2000, "health_check_failure_threshold": 4}
"""When a worker counts as dead: otherwise half a minute later."""


@pytest.fixture(scope="module")
def cluster():
    """A head that computes nothing, and two workers of one core each, which have imported torch."""
    # Beside other programs its workers would not get on. (Ray's name has small letters.)
    os.environ |= {"RAY_worker_niceness": "0"}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": SOON}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    ray.get([ray.remote(num_cpus=1)(warm_up).remote() for _ in workers])
    yield cluster, workers
    ray.shutdown()
    cluster.shutdown()


def warm_up():
    """Import what a chunk needs; slowly enough that each worker gets one."""
    importlib.import_module("hvae_codec.training.sweep_run")
    time.sleep(2.0)


def weights(directory, count):
    cards = [json.loads((directory / f"models/{i:04}.json").read_text()) for i in range(count)]
    return [card["sha256"] for card in cards]


def test_errors_are_those_of_the_chunk(cluster, make_plan, tmp_path):
    plan = make_plan()
    write_plan(tmp_path / "s", plan)
    text = (tmp_path / "s/sweep.json").read_text()
    (tmp_path / "s/sweep.json").write_text(text.replace('"test_images": 16', '"test_images": 17'))
    with pytest.raises(SweepError, match="begun with"):
        run_on_ray(Work(tmp_path / "s", threads=1), lambda images: None)


def test_a_killed_worker_costs_an_epoch_at_most(cluster, make_plan, tmp_path):
    nodes, (victim, _) = cluster
    plan = make_plan(epochs=60, chunk=1, betas=((0.1, 0.1), (1.0, 1.0)))
    for name in ("local", "ray"):
        write_plan(tmp_path / name, plan)
    run_locally(Work(tmp_path / "local", threads=1), 1, lambda images: None)

    killed = []

    def kill():
        states = [tmp_path / f"ray/chunks/00{i}/state.safetensors" for i in range(2)]
        deadline = time.monotonic() + 100
        while not all(state.exists() for state in states) and time.monotonic() < deadline:
            time.sleep(0.02)
        killed.append(all(state.exists() for state in states))
        nodes.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    seen = []
    assert run_on_ray(Work(tmp_path / "ray", threads=1), seen.append) == []
    killer.join()
    assert killed == [True]  # both were at work when one was killed
    assert weights(tmp_path / "ray", 2) == weights(tmp_path / "local", 2)
    assert sum(seen) > 0  # what was counted on the lost machine is lost

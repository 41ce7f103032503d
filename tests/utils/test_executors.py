"""Executors: jobs in this process, in processes and on Ray, with the same results and errors."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from hvae_codec.errors import ExecutorError, SweepError
from hvae_codec.utils.executors import base
from hvae_codec.utils.executors.local import LocalExecutor
from hvae_codec.utils.executors.ray import RayExecutor


@pytest.fixture(params=["one", "processes", "ray"])
def executor(request):
    """In its `with` statement."""
    if request.param == "ray":
        request.getfixturevalue("cluster")
    workers = {"one": 1, "processes": 2}
    executor = RayExecutor() if request.param == "ray" else LocalExecutor(workers[request.param])
    with executor:
        yield executor


def squared(number, report=lambda value: None):
    report(number)
    return number * number


def first_last(number):
    time.sleep(0.5 if number == 0 else 0.0)
    return number


def refused(number, report):
    raise SweepError(f"no {number}")


def killed(number, report):
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60.0)


def test_every_result_and_every_report_comes(executor):
    seen = []
    assert sorted(executor.map_unordered(squared, range(5), seen.append)) == [0, 1, 4, 9, 16]
    assert sorted(seen) == list(range(5))


def test_ordered_results_keep_the_order_of_items_that_are_read_as_needed(executor):
    read = []
    items = (read.append(number) or number for number in range(100))
    results = executor.map_ordered(first_last, items)
    assert next(results) == 0
    assert len(read) == min(100, 2 * executor.capacity)
    assert list(results) == list(range(1, 100))


def test_an_error_is_the_jobs_own(executor):
    with pytest.raises(SweepError, match=r"^no 1$"):
        list(executor.map_unordered(refused, [1, 1], lambda value: None))


def children():
    return {process.pid for process in psutil.Process().children()}


def test_a_killed_process_is_named_and_the_others_are_ended():
    before = children()
    with (
        pytest.raises(ExecutorError, match="a worker was killed, perhaps for lack of memory"),
        LocalExecutor(2) as executor,
    ):
        list(executor.map_unordered(killed, range(2), lambda value: None))
    extra = children() - before
    commands = [" ".join(psutil.Process(pid).cmdline()) for pid in extra]
    assert not [command for command in commands if "resource_tracker" not in command]


def test_a_process_that_is_killed_before_the_first_look_is_named(monkeypatch):
    """However fast it starts, and again for jobs that come after it."""
    monkeypatch.setattr(base, "POLL_SECONDS", 60.0)
    with LocalExecutor(2) as executor:
        for _ in range(2):
            with pytest.raises(ExecutorError, match="a worker was killed"):
                list(executor.map_unordered(killed, range(2), lambda value: None))
        with pytest.raises(ExecutorError, match="a worker was killed"):
            list(executor.map_ordered(first_last, range(2)))


def test_a_task_that_ray_loses_is_named(cluster):
    with (
        pytest.raises(ExecutorError, match=r"^Ray gave up: "),
        RayExecutor(retries=0) as executor,
    ):
        list(executor.map_unordered(killed, [0], lambda value: None))


def test_ray_is_optional():
    script = "import sys; sys.modules['ray'] = None\n"
    script += "from hvae_codec.utils.executors.ray import RayExecutor\nRayExecutor()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "--engine ray needs Ray: pip install 'hvae-codec[ray]'" in done.stderr

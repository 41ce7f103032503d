"""Tests marked with what this machine lacks leave the run, and the report says so."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from tests import processes

pytest_plugins = ["tests.ray_cluster"]

# How long an example takes says how busy the machine is.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

_left_out = pytest.StashKey[list[str]]()

SLOWEST_FILES = (
    "ray",
    "tests/docs/test_readme.py",
    "tests/server/test_lifecycle.py",
    "tests/server/test_connections.py",
    "tests/server/admission/test_open_calls.py",
    "tests/cli/test_main.py",
    "tests/codec/test_torch_state.py",
    "tests/stores/test_samples.py",
    "tests/training/test_map_training.py",
    "tests/training/sweep/test_sweep.py",
    "tests/server/auth/test_tls.py",
    "tests/server/admission/test_memory.py",
    "tests/server/admission/test_side_calls.py",
    "tests/server/test_faults.py",
    "tests/cli/commands/test_photo_model.py",
    "tests/cli/research/test_train.py",
    "tests/codec/tiled/test_encoder_search.py",
    "tests/models/test_deep.py",
    "tests/server/engine/test_coding_pool.py",
    "tests/codec/test_rate_control.py",
    "tests/features/test_estimator_checks.py",
    "tests/scale/test_deploy.py",
)
"""By measured time, longest first ("ray" is all files of the Ray cluster); others follow."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_browser() -> str | None:
    """Path of the first of BROWSERS on PATH."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def _lacking() -> dict[str, tuple[str, str]]:
    """Markers whose tests cannot run here, each with what is missing and where to read on."""
    lacking = {}
    if not torch.cuda.is_available():
        lacking["cuda"] = "no CUDA device", "see benchmarks/gpu_check.sh"
    if find_browser() is None:
        lacking["browser"] = "no Chromium or Chrome on PATH", "install chromium"
    if not (shutil.which("node") and shutil.which("npm")):
        lacking["node"] = "no node and npm on PATH", "install Node.js"
    return lacking


def pytest_runtest_teardown() -> None:
    """End the servers that the test has started."""
    processes.end_all()


def pytest_configure() -> None:
    """Compute on one thread, and let no proxy of the environment be asked for servers of tests.

    Threads of torch wait actively for one another: beside other programs, even another worker of
    xdist, small images cost them many times the work of one thread. Processes of tests inherit it.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["HVAE_PROGRESS_SECONDS"] = "0"  # what a slow machine would put between messages
    torch.set_num_threads(1)
    here = "127.0.0.1,localhost"
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), here)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    lines = config.stash.setdefault(_left_out, [])
    for marker, (missing, advice) in _lacking().items():
        left_out = [item for item in items if item.get_closest_marker(marker)]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if not item.get_closest_marker(marker)]
            lines.append(f"{missing}: {len(left_out)} tests marked {marker} deselected ({advice})")


SHARING = {
    "tests/benchmarks/test_rate_distortion.py": "tests/benchmarks/conftest.py",
    "tests/benchmarks/test_report.py": "tests/benchmarks/conftest.py",
}
"""Files of tests to the one whose slow session fixture they share: one worker takes them all."""


class Scheduler(LoadFileScheduling):
    """A worker of xdist takes a whole file, those of SHARING, or all that need the Ray cluster.

    The slowest files come first, so that no worker is left with one of them at the end.
    """

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "ray" if "ray" in Path(file).stem.split("_") else SHARING.get(file, file)

    def _assign_work_unit(self, node: Any) -> None:
        first = next((file for file in SLOWEST_FILES if file in self.workqueue), None)
        if first is not None:
            self.workqueue.move_to_end(first, last=False)
        super()._assign_work_unit(node)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduler:
    return Scheduler(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that reports what a worker of xdist has left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(_left_out, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    node.config.stash[_left_out] = node.workeroutput.get("left_out", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in terminalreporter.config.stash.get(_left_out, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def browser() -> str:
    """Path of a headless-capable browser."""
    path = find_browser()
    assert path is not None
    return path


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small pictures gain nothing from more, and lose much where other programs run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

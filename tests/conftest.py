"""Tests marked `cuda` leave the run where there is no CUDA device, and the report says so."""

import pytest
import torch

_left_out = pytest.StashKey[int]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    left_out = [item for item in items if item.get_closest_marker("cuda")]
    config.stash[_left_out] = len(left_out)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("cuda")]


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    count = config.stash.get(_left_out, 0)
    if not count:
        return []
    return [f"no CUDA device: {count} tests marked cuda deselected (see benchmarks/gpu_check.sh)"]

"""What the benchmarks share: the machine they ran on, work in turns, figures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.codec import Codec
from hvae_codec.codec.tiled.networks import Networks
from hvae_codec.codec.tiled.transform import TiledTransform
from hvae_codec.utils.atomic_files import write_atomically
from hvae_codec.utils.progress import progress

Key = TypeVar("Key")
Item = TypeVar("Item")
Found = TypeVar("Found")
P = ParamSpec("P")


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write `result` so that the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(result, indent=2) + "\n").encode())
    print(f"written to {path}")


def in_turns(
    work: Mapping[Key, Callable[[], float]], rounds: int, what: str = "rounds"
) -> dict[Key, list[float]]:
    """What each piece of work measures in each round: in turns, as the machine may be busier at
    one time than at another.
    """
    measured: dict[Key, list[float]] = {key: [] for key in work}
    for key in progress(what, list(work) * rounds, leave=False):
        measured[key].append(work[key]())
    return measured


def apart(work: Callable[P, Found], *arguments: P.args, **named: P.kwargs) -> Found:
    """What `work` returns in a new process of its own, whose memory and allocator are fresh."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(work, *arguments, **named).result()


def images_per_second(work: Callable[[], Any], images: int, seconds: float) -> float:
    """Rate of `work`, which handles so many images, over some seconds."""
    start = time.perf_counter()
    calls = 0
    while (elapsed := time.perf_counter() - start) < seconds:
        work()
        calls += 1
    return calls * images / elapsed


def memory_bytes(name: str) -> int:
    """A figure of this process's memory as Linux states it, such as VmHWM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {name}")


@contextmanager
def figure(path: Path, *shape: int, dpi: int = 110, **options: Any) -> Iterator[tuple[Any, Any]]:
    """Figure and axes of `matplotlib.pyplot.subplots`, written to `path` when they are drawn."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(*shape, layout="constrained", **options)
    yield drawn, axes
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, dpi=dpi)
    pyplot.close(drawn)
    print(f"written to {path}")


def photographs_crops(count: int = 256) -> NDArray[np.uint8]:
    """Crops of 32x32 pixels of scikit-learn's photographs: real images, always available."""
    from sklearn.datasets import load_sample_images

    crops = [
        photo[y : y + 32, x : x + 32]
        for photo in load_sample_images().images
        for y in range(0, 384, 8)
        for x in range(0, 352, 8)
    ]
    spread = np.linspace(0, len(crops) - 1, count).astype(int)
    return np.ascontiguousarray(np.stack([crops[index] for index in spread]))


def tiled_networks(codec: Codec) -> Networks:
    """The networks of a codec of tiles."""
    assert isinstance(codec.transform, TiledTransform)
    return codec.transform.networks

"""What is done to the items of a batch, and where: in the event loop, or in threads beside it.

Coding processes with networks import this, too, and nothing of gRPC with it.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hvae_codec import Codec, Features
from hvae_codec.codec.bitstream.files import FileCoder, Read, read_good
from hvae_codec.codec.bitstream.symbols import SymbolBatch, in_order
from hvae_codec.errors import HvaeCodecError

from .coding_pool import CodingPool

ImageArray = NDArray[np.uint8]
"""One image, uint8 [height, width, channels]."""

Result = TypeVar("Result")
Value = TypeVar("Value")


class BatchExecutor(Protocol):
    """Runs networks and codes symbols."""

    clock: Callable[[], float]
    """Seconds of a thread of networks, as they would pass in the loop."""

    async def run(self, function: Callable[[], Result]) -> Result:
        """What a function of the networks gives."""

    async def write(self, coder: FileCoder, batches: Sequence[SymbolBatch]) -> list[list[bytes]]:
        """`FileCoder.write` of each batch."""

    async def read(self, coder: FileCoder, files: Sequence[bytes], layers: int | None) -> Read:
        """`read_good`."""


class ThreadExecutor:
    """Networks in threads of which each has `cores`, coding in processes."""

    def __init__(self, name: str, threads: int, cores: int, coding: CodingPool) -> None:
        self._threads = ThreadPoolExecutor(
            threads,
            thread_name_prefix=name,
            initializer=_compute_on,
            initargs=(cores,),
        )
        self.clock = time.thread_time  # without the time in which others hold the interpreter
        self._coding = coding
        self.read = coding.read

    async def run(self, function: Callable[[], Result]) -> Result:
        """In a thread."""
        return await in_thread(self._threads, function)

    async def write(self, coder: FileCoder, batches: Sequence[SymbolBatch]) -> list[list[bytes]]:
        """All batches at once."""
        return await asyncio.gather(*(self._coding.write(coder, batch) for batch in batches))

    def stop(self) -> None:
        """Drop what has not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class InlineExecutor:
    """Everything at once in the thread that asks for it, on one core: an event loop's, in which
    nothing else happens meanwhile, or a coding process's. No method waits for anything.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        _compute_on(1)

    async def run(self, function: Callable[[], Result]) -> Result:
        """Now."""
        return function()

    async def write(self, coder: FileCoder, batches: Sequence[SymbolBatch]) -> list[list[bytes]]:
        """Now."""
        return [coder.write(batch) for batch in batches]

    async def read(self, coder: FileCoder, files: Sequence[bytes], layers: int | None) -> Read:
        """Now."""
        return read_good(coder, files, layers)


class TimedExecutor:
    """An executor, and the `seconds` that networks took there."""

    def __init__(self, executor: BatchExecutor) -> None:
        self._executor = executor
        self.clock = executor.clock
        self.write = executor.write
        self.read = executor.read
        self.seconds = 0.0

    async def run(self, function: Callable[[], Result]) -> Result:
        """What the executor gives."""

        def timed() -> Result:
            began = self.clock()
            try:
                return function()
            finally:
                self.seconds += self.clock() - began

        return await self._executor.run(timed)


async def in_thread(executor: Executor, function: Callable[..., Result], *args: Any) -> Result:
    """What a function gives in a thread, which sees this task's cancellation."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(executor, copy_context().run, function, *args)


def _compute_on(cores: int) -> None:
    """Let torch use N cores for what this thread computes."""
    torch.set_num_threads(cores)
    torch.get_num_threads()  # or the first computation would take over what another thread set


class Operation(ABC, Generic[Value, Result]):
    """What is done to the items of a batch. Operations that are equal share batches, of one model
    and, `by_point`, one operating point. `kind` is its label in the metrics.
    """

    kind: ClassVar[str]
    by_point: ClassVar[bool] = False

    @property
    def is_slow(self) -> bool:
        """Whether small images take long, too."""
        return False

    @abstractmethod
    async def run(
        self, executor: BatchExecutor, codec: Codec, values: list[Value]
    ) -> Sequence[Result | Exception]:
        """The results of all items. Raises HvaeCodecError where one of them has none."""

    def coded(self, values: list[Any], results: list[Any]) -> tuple[list[Any], list[Any]] | None:
        """The images and files of a batch; None: it did not code whole images."""
        return None


async def compute(
    executor: BatchExecutor, codec: Codec, operation: Operation[Any, Any], values: list[Any]
) -> list[Any]:
    """What a batch comes to: results, and the errors of items that have none. Where the whole
    fails, items go one by one, so that an error is that of its item.
    """
    try:
        return list(await operation.run(executor, codec, values))
    except HvaeCodecError as error:
        if len(values) == 1:
            return [error]
    return [(await compute(executor, codec, operation, [value]))[0] for value in values]


@dataclass(frozen=True)
class Encode(Operation[ImageArray, bytes]):
    """Images uint8 [H, W, C] to files; effort None: the codec's."""

    effort: int | None = None
    kind = "encode"
    by_point = True

    @property
    def is_slow(self) -> bool:
        """Of Operation."""
        return self.effort is not None and self.effort > 0

    async def run(
        self, executor: BatchExecutor, codec: Codec, values: list[ImageArray]
    ) -> list[bytes]:
        """Of Operation."""
        batches = await executor.run(partial(codec.quantise, values, effort=self.effort))
        return in_order(batches, await executor.write(codec.file_coder, batches))

    def coded(self, values: list[Any], results: list[Any]) -> tuple[list[Any], list[Any]] | None:
        """Of Operation."""
        return values, results


@dataclass(frozen=True)
class Decode(Operation[bytes, ImageArray]):
    """Files to images uint8 [H, W, C], from their first `layers` layers; None: all."""

    layers: int | None = None
    kind = "decode"

    async def run(
        self, executor: BatchExecutor, codec: Codec, values: list[bytes]
    ) -> list[ImageArray | Exception]:
        """Of Operation."""
        return await _from_files(executor, codec, values, self.layers, codec.images_of)

    def coded(self, values: list[Any], results: list[Any]) -> tuple[list[Any], list[Any]] | None:
        """Of Operation."""
        return (results, values) if self.layers is None else None


@dataclass(frozen=True)
class ReadFeatures(Operation[ImageArray, Features]):
    """Images to features [1, D] of the layer at an index (top first)."""

    layer: int
    kind = "features"
    by_point = True

    async def run(
        self, executor: BatchExecutor, codec: Codec, values: list[ImageArray]
    ) -> list[Features]:
        """Of Operation."""
        read = partial(codec.layer_features, values, self.layer + 1)
        return _rows((await executor.run(read))[self.layer])


@dataclass(frozen=True)
class ReadFileFeatures(Operation[bytes, Features]):
    """Files to features [1, D] of the layer at an index (top first)."""

    layer: int
    kind = "file features"

    async def run(
        self, executor: BatchExecutor, codec: Codec, values: list[bytes]
    ) -> list[Features | Exception]:
        """Of Operation."""

        def rows(parts: Sequence[SymbolBatch]) -> list[Features]:
            return _rows(codec.features_of(parts)[self.layer])

        return await _from_files(executor, codec, values, self.layer + 1, rows)


@dataclass(frozen=True)
class Draw:
    """Arguments of `Codec.sample`; top: latents [D] or [count, D]."""

    count: int
    seed: int
    temperature: float
    top: NDArray[np.float32] | None


@dataclass(frozen=True)
class Sample(Operation[Draw, ImageArray]):
    """Images uint8 [count, H, W, C] of each draw, or its ValueError."""

    kind = "call"
    by_point = True

    async def run(
        self, executor: BatchExecutor, codec: Codec, values: list[Draw]
    ) -> list[ImageArray | Exception]:
        """Of Operation."""

        def drawn(draw: Draw) -> ImageArray | Exception:
            try:
                return codec.sample(draw.count, draw.seed, draw.temperature, top=draw.top)
            except (HvaeCodecError, ValueError) as error:
                return error

        return [await executor.run(partial(drawn, draw)) for draw in values]


Measured = tuple[list[float], ImageArray]
"""Information content in bits per layer, top first, and the image uint8 [H, W, C]."""


@dataclass(frozen=True)
class Measure(Operation[bytes, Measured]):
    """Files to what they cost and show."""

    kind = "call"

    async def run(
        self, executor: BatchExecutor, codec: Codec, values: list[bytes]
    ) -> list[Measured]:
        """Of Operation."""

        def measured(file: bytes) -> Measured:
            (part,) = codec.file_coder.read([file])
            return codec.file_coder.information_bits(part).tolist(), codec.images_of([part])[0]

        return [await executor.run(partial(measured, file)) for file in values]


@dataclass(frozen=True)
class Call(Operation[Callable[[], Any], Any]):
    """Functions of the codec to what they give; a batch of them is one function."""

    kind = "call"

    async def run(
        self, executor: BatchExecutor, codec: Codec, values: list[Callable[[], Any]]
    ) -> list[Any]:
        """Of Operation."""
        return [await executor.run(function) for function in values]


async def _from_files(
    executor: BatchExecutor,
    codec: Codec,
    files: list[bytes],
    layers: int | None,
    finish: Callable[[Sequence[SymbolBatch]], Sequence[Result]],
) -> list[Result | Exception]:
    """What `finish` makes of the symbols of files, and the errors of those that have none."""
    parts, errors = await executor.read(codec.file_coder, files, layers)
    results: dict[int, Result | Exception] = dict(errors)
    if parts:
        good = [number for number in range(len(files)) if number not in errors]
        results |= zip(good, await executor.run(partial(finish, parts)), strict=True)
    return [results[number] for number in range(len(files))]


def _rows(features: Features) -> list[Features]:
    """Features [N, D] as N of [1, D]."""
    count = len(features.mean)
    rows = np.arange(count)[:, None]
    return [Features(features.mean[row], features.std[row]) for row in rows]

"""What computes: batches of items through networks and entropy coding.

Two lanes share the cores. Items of many callers go through the fast one in batches; what takes long
by itself (a large image, a search for a size or a quality, many samples) goes through the slow one
(`slow_lane`), and delays no small images. Bytes and images do not depend on what an item shares a
batch with: symbols are equal whatever the batch.

A batch is computed beside the event loop, in threads or in coding processes, where cores work at
once. In threads networks share the interpreter's lock with the loop, and each waits for the other
at every step; processes take the cores from a loop that is busy with calls. For a few small images
of many calls both take longer than to compute them in between.
"""

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

import torch

from hvae_codec import Codec
from hvae_codec.codec.quality_scale import OperatingPoint
from hvae_codec.utils.cancellation import Cancellation, cancelled_by

from ..observability.metrics import Metrics
from ..settings import EngineSettings
from .batch_worker import ModelNeededError, key_of, preparation, run_batch
from .batcher import Batch, Batcher
from .coding_pool import CodingPool
from .fairness import Turns
from .operations import (
    Call,
    ImageArray,
    InlineExecutor,
    Operation,
    ThreadExecutor,
    TimedExecutor,
    compute,
    in_thread,
)
from .slow_lane import SlicedExecutor, SlowLane

FILES_AT_ONCE: Final = 2
"""Calls whose image files are read or written at once."""
_logger = logging.getLogger(__name__)

SLOW_PIXELS: Final = 1 << 20
"""Pixels of one item from which it goes through the slow lane."""

_CALL_SECONDS: Final = 0.00025
"""What the loop spends on a call beside its computing."""

_HEAVY_PIXELS: Final = 1 << 17
"""Pixels of an image that takes a tenth of a second: beside it the time until a process has got the
next batch, which for small images is begun ahead of it, is little.
"""

_LEAST_CALLS: Final = 16
"""Calls whose time may always be computed in the loop: beside calls, it takes as long there."""

_SLOWING: Final = 1.02
"""Growth of the estimate per batch; lets a one-off fast batch decay."""

Result = TypeVar("Result")
Value = TypeVar("Value")


@dataclass(frozen=True)
class BatchKey:
    """What is done to the items of a batch, by a codec. Two encoders of a model may have different
    operating points; of what reads files all points are one.
    """

    operation: Operation[Any, Any]
    model_id: str
    point: OperatingPoint | None
    codec: Codec = field(compare=False)

    @classmethod
    def of(cls, operation: Operation[Any, Any], codec: Codec) -> Self:
        """The key of an operation by a codec."""
        point = codec.point if operation.by_point else None
        return cls(operation, codec.info.model_id, point, codec)


class LatencyEstimator:
    """How long the networks take for work of a kind and size, from the fastest batches of late:
    what else a machine does makes others slower, wherever they are computed.
    """

    def __init__(self) -> None:
        # For each kind seconds per weight, by the number of bits of a batch's weight.
        self._seconds: defaultdict[Hashable, dict[int, float]] = defaultdict(dict)

    def observe(self, kind: Hashable, weight: int, seconds: float) -> None:
        """Note how long a batch of a kind and weight took; one of weight 0 says nothing."""
        if weight > 0:
            known, size = self._seconds[kind], weight.bit_length()
            each = seconds / weight
            known[size] = min(each, _SLOWING * known.get(size, each))

    def should_run_inline(self, kind: Hashable, weight: int, calls: int) -> bool:
        """Whether a batch of `calls` calls takes no more of the loop than the calls themselves;
        False for a kind not seen yet.
        """
        # A larger batch takes less for its weight, so the times of smaller ones are bounds.
        known, size = self._seconds[kind], weight.bit_length()
        each = min((seconds for bits, seconds in known.items() if bits <= size), default=math.inf)
        return each * weight <= _CALL_SECONDS * max(calls, _LEAST_CALLS)


class Engine:
    """Encodes, decodes, reads features and draws samples for many callers at once.

    `run` gives a result, or the error of the item, for every item. Methods raise
    DeadlinePassedError where `deadline`, a time of the event loop's clock, passes before the work
    is begun, and stop waiting for it where the caller is cancelled.
    """

    def __init__(self, settings: EngineSettings, metrics: Metrics | None = None) -> None:
        threads = settings.threads
        self._coding = CodingPool(
            settings.coding_processes, preparation(settings.preload) if threads == 0 else None
        )
        self._metrics = metrics
        cores = torch.get_num_threads()
        # None: the coding processes take whole batches.
        self._fast = (
            ThreadExecutor("fast", threads, cores if threads == 1 else 1, self._coding)
            if threads
            else None
        )
        self._slow = SlicedExecutor(cores, self._coding)
        self._in_loop = InlineExecutor()
        self._latency = LatencyEstimator()
        # Reading and writing PNG, JPEG and WebP files.
        self._files = ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="files")
        parallel = threads or settings.coding_processes
        # Two more than are computed at once: they are coded meanwhile, or next.
        self._fast_lane: Batcher[BatchKey, Any, Any] = Batcher(
            self._run_fast,
            settings.batches,
            parallel + 2,
            self._record_batch,
            parallel,
            math.inf if threads else _HEAVY_PIXELS,
        )
        self._slow_lane = SlowLane(self._run_slow, settings.large_pixels, self._record_batch)
        self._file_turns = Turns(FILES_AT_ONCE)

    async def start(self) -> None:
        """Bring the coding processes up."""
        await self._coding.start()

    async def stop(self) -> None:
        """End all work and all processes."""
        await self._fast_lane.close()
        await self._slow_lane.close()
        if self._fast is not None:
            self._fast.stop()
        self._slow.stop()
        self._files.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._coding.stop)

    def figures(self) -> dict[str, float]:
        """How busy the engine is, by name."""
        return {
            "waiting_items": self._fast_lane.waiting + self._slow_lane.waiting,
            "batches_in_flight": self._fast_lane.under_way + self._slow_lane.under_way,
            "coding_processes": self._coding.count,
            "worker_restarts_total": self._coding.restarts,
        }

    def processes(self) -> list[int]:
        """Numbers of the coding processes in the system, at the moment."""
        return self._coding.pids

    async def on_files(self, function: Callable[..., Result], *args: object) -> Result:
        """Run what reads or writes image files, beside the networks."""
        cancellation = Cancellation()
        try:
            with cancelled_by(cancellation):
                async with self._file_turns.turn():
                    return await in_thread(self._files, function, *args)
        except asyncio.CancelledError:
            cancellation.cancel()
            raise

    async def run(
        self,
        operation: Operation[Value, Result],
        codec: Codec,
        values: Sequence[Value],
        pixels: Sequence[int],
        deadline: float | None = None,
    ) -> list[Result | Exception]:
        """The results of an operation by a codec; `pixels` are those that the networks compute of
        each value.
        """
        key = BatchKey.of(operation, codec)
        slow = [operation.is_slow or size >= SLOW_PIXELS for size in pixels]
        light = [number for number, is_slow in enumerate(slow) if not is_slow]
        heavy = [number for number, is_slow in enumerate(slow) if is_slow]
        fast = self._fast_lane.submit(
            key, [values[n] for n in light], [pixels[n] for n in light], deadline
        )
        if not heavy:
            return await fast
        slow_ones = self._slow_lane.run(
            key, [values[n] for n in heavy], [pixels[n] for n in heavy], deadline
        )
        results = await asyncio.gather(fast, slow_ones)
        answers = dict(zip([*light, *heavy], [*results[0], *results[1]], strict=True))
        return [answers[number] for number in range(len(values))]

    async def call(
        self,
        codec: Codec,
        function: Callable[[], Result],
        pixels: int,
        deadline: float | None = None,
    ) -> Result:
        """What a function of a codec gives that takes long, of an image of so many pixels; what it
        raises is raised.
        """
        work = BatchKey.of(Call(), codec)
        (result,) = await self._slow_lane.run(work, [function], [pixels], deadline)
        if isinstance(result, Exception):
            raise result
        answer: Result = result
        return answer

    def record_coded(
        self,
        model: str,
        kind: str,
        images: Sequence[ImageArray | Exception],
        files: Sequence[bytes | Exception],
    ) -> None:
        """Record how many bytes of samples and files were coded; what failed does not count."""
        if self._metrics is not None:
            both = [
                (image.nbytes, len(file))
                for image, file in zip(images, files, strict=True)
                if not isinstance(image, Exception) and not isinstance(file, Exception)
            ]
            samples = sum(size for size, _ in both)
            encoded = sum(size for _, size in both)
            self._metrics.coded(model, kind, samples, encoded)

    async def _run_fast(self, batch: Batch[BatchKey, Any]) -> list[Any]:
        work = batch.key
        kind = work.operation, work.codec.info.name
        if self._latency.should_run_inline(kind, batch.weight, batch.calls):
            results, seconds = await _timed(self._in_loop, work, batch.values)
        elif self._fast is not None:
            results, seconds = await _timed(self._fast, work, batch.values)
        else:
            results, seconds = await self._in_process(work, batch.values)
        done = sum(
            weight
            for weight, result in zip(batch.weights, results, strict=True)
            if not isinstance(result, Exception)
        )
        self._latency.observe(kind, done, seconds)
        self._record(work, batch.values, results)
        return results

    async def _in_process(self, work: BatchKey, values: list[Any]) -> tuple[list[Any], float]:
        """The results of a batch, and the seconds that its networks took, in a coding process.

        One that was started after the models' files went is given what this process has loaded.
        """
        task = key_of(work.codec), work.operation, values
        try:
            return await self._coding.run(run_batch, *task)
        except ModelNeededError as error:
            _logger.warning("a coding process is given %s: %s", _label(work.codec), error)
            return await self._coding.run(run_batch, *task, work.codec.checkpoint)

    async def _run_slow(self, work: BatchKey, values: list[Any]) -> list[Any]:
        results = await compute(self._slow, work.codec, work.operation, values)
        self._record(work, values, results)
        return results

    def _record(self, work: BatchKey, values: list[Any], results: list[Any]) -> None:
        """Record what was coded."""
        if (coded := work.operation.coded(values, results)) is not None:
            self.record_coded(_label(work.codec), work.operation.kind, *coded)

    def _record_batch(self, work: BatchKey, items: int, seconds: float) -> None:
        if self._metrics is not None:
            self._metrics.batch(_label(work.codec), work.operation.kind, items, seconds)


def _label(codec: Codec) -> str:
    """A model's name, and its quality level where it has several."""
    info = codec.info
    return info.name if info.continuous else f"{info.name}-q{info.quality}"


async def _timed(
    executor: InlineExecutor | ThreadExecutor, work: BatchKey, values: list[Any]
) -> tuple[list[Any], float]:
    """The results of a batch, and the seconds that its networks took."""
    timed = TimedExecutor(executor)
    results = await compute(timed, work.codec, work.operation, values)
    return results, timed.seconds

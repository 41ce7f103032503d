"""What is done to the items of a batch, wherever that is: through networks and entropy coding.

Coding processes import this where they have networks, and nothing of gRPC with it.
"""

import gc
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

import hvae_codec
from hvae_codec import Codec, Features
from hvae_codec.codec.bitstream.symbols import SymbolBatch, in_order
from hvae_codec.codec.checkpoint import Checkpoint
from hvae_codec.codec.operating_point import OperatingPoint
from hvae_codec.codec.registry import DEVICE_VARIABLE, MODELS_VARIABLE, codec_of
from hvae_codec.errors import CheckpointError, HvaeCodecError, UnknownModelError
from hvae_codec.utils.malloc import keep_freed_memory

from .executors import BatchExecutor, InlineExecutor, TimedExecutor

Picture = NDArray[np.uint8]
"""One image, uint8 [height, width, channels]."""

Result = TypeVar("Result")
Value = TypeVar("Value")

_VARIABLES: Final = (MODELS_VARIABLE, DEVICE_VARIABLE)


_taught: dict[str, Codec] = {}
"""By model id: what the server handed to this process."""


class ModelNeededError(Exception):
    """This process cannot get at the files of a model that the server has loaded."""


class CodecKey(NamedTuple):
    """Which codec: its model's id, and what it encodes with."""

    model_id: str
    point: OperatingPoint


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


def key_of(codec: Codec) -> CodecKey:
    """What tells a codec from all others: two of a model may have different qualities."""
    return CodecKey(codec.info.model_id, codec.point)


def preparing(warm: Sequence[tuple[str, float | None]]) -> Callable[[], None]:
    """What makes another process ready to compute batches on one core, with this one's models and
    device: it has loaded these, and their qualities (None: the default).
    """
    # Passed explicitly: the fork server may have started before the variables were set.
    return partial(_prepare, {name: os.environ.get(name) for name in _VARIABLES}, tuple(warm))


def _prepare(variables: dict[str, str | None], warm: Sequence[tuple[str, float | None]]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    keep_freed_memory()
    _place()
    for name, quality in warm:
        with suppress(HvaeCodecError):  # the server loads the same, and says what is wrong
            hvae_codec.load(name, quality)
    gc.freeze()  # collections need not walk all of torch's objects


def compute_now(
    codec: CodecKey,
    operation: Operation[Any, Any],
    values: list[Any],
    checkpoint: Checkpoint | None = None,
) -> tuple[list[Any], float]:
    """`compute` in this process, and the seconds that the networks took.

    checkpoint: the model, where this process has said that it needs it.

    Raises ModelNeededError where it is neither available here nor given.
    """
    if checkpoint is not None:
        _taught[codec.model_id] = Codec(checkpoint)
    place = TimedExecutor(_place())
    results = _at_once(compute(place, _opened(codec), operation, values))
    return results, place.seconds


@lru_cache(maxsize=1)
def _place() -> InlineExecutor:
    return InlineExecutor(time.thread_time)


@lru_cache(maxsize=256)
def _opened(key: CodecKey) -> Codec:
    codec = _taught.get(key.model_id)
    if codec is None:
        try:
            codec = codec_of(bytes.fromhex(key.model_id))
        except (UnknownModelError, CheckpointError, OSError) as error:
            raise ModelNeededError(str(error)) from error
    return codec.at_number(key.point.number).tuned(key.point.effort, key.point.trade)


def _at_once(work: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine returns that waits for nothing, as in `InlineExecutor`."""
    try:
        work.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    raise AssertionError("computing in one place waits for nothing")


@dataclass(frozen=True)
class Encode(Operation[Picture, bytes]):
    """Images uint8 [H, W, C] to files; effort None: the codec's."""

    effort: int | None = None
    kind = "encode"
    by_point = True

    @property
    def is_slow(self) -> bool:
        """Of Operation."""
        return self.effort is not None and self.effort > 0

    async def run(
        self, executor: BatchExecutor, codec: Codec, values: list[Picture]
    ) -> list[bytes]:
        """Of Operation."""
        batches = await executor.run(partial(codec.quantise, values, effort=self.effort))
        return in_order(batches, await executor.write(codec.file_coder, batches))

    def coded(self, values: list[Any], results: list[Any]) -> tuple[list[Any], list[Any]] | None:
        """Of Operation."""
        return values, results


@dataclass(frozen=True)
class Decode(Operation[bytes, Picture]):
    """Files to images uint8 [H, W, C], from their first `layers` layers; None: all."""

    layers: int | None = None
    kind = "decode"

    async def run(
        self, executor: BatchExecutor, codec: Codec, values: list[bytes]
    ) -> list[Picture | Exception]:
        """Of Operation."""
        return await _from_files(executor, codec, values, self.layers, codec.images_of)

    def coded(self, values: list[Any], results: list[Any]) -> tuple[list[Any], list[Any]] | None:
        """Of Operation."""
        return (results, values) if self.layers is None else None


@dataclass(frozen=True)
class ReadFeatures(Operation[Picture, Features]):
    """Images to features [1, D] of the layer at an index (top first)."""

    layer: int
    kind = "features"
    by_point = True

    async def run(
        self, executor: BatchExecutor, codec: Codec, values: list[Picture]
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

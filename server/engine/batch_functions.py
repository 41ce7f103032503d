"""What is done to the items of a batch, wherever that is: through networks and entropy coding.

Coding processes import this where they have networks, and nothing of gRPC with it.
"""

import gc
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, TypeVar

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

_VARIABLES: Final = (MODELS_VARIABLE, DEVICE_VARIABLE)


_taught: dict[str, Codec] = {}
"""By model id: what the server handed to this process."""


class ModelNeededError(Exception):
    """This process cannot get at the files of a model that the server has loaded."""


class CodecKey(NamedTuple):
    """Which codec: its model's id, and what it encodes with."""

    model_id: str
    point: OperatingPoint


async def compute(
    place: BatchExecutor, codec: Codec, kind: str, option: int | None, values: list[Any]
) -> list[Any]:
    """What a batch comes to: results, and the errors of items that have none. Where the whole
    fails, items go one by one, so that an error is that of its item.
    """
    try:
        return await _KINDS[kind](place, codec, option, values)
    except HvaeCodecError as error:
        if len(values) == 1:
            return [error]
    return [(await compute(place, codec, kind, option, [value]))[0] for value in values]


def key_of(codec: Codec) -> CodecKey:
    """What tells a codec from all others: two of a model may have different qualities."""
    return CodecKey(codec.info.model_id, codec.point)


def preparing(warm: Sequence[tuple[str, float | None]]) -> Callable[[], None]:
    """What makes another process ready to compute batches on one core, with this one's models and
    device: it has loaded these, and their qualities (None: the default).
    """
    # Said, not inherited: its parent is a process that may have begun before they were chosen.
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
    kind: str,
    option: int | None,
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
    results = _at_once(compute(place, _opened(codec), kind, option, values))
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


async def _encode(
    place: BatchExecutor, codec: Codec, option: int | None, pictures: list[Picture]
) -> list[bytes]:
    batches = await place.run(partial(codec.quantise, pictures, effort=option))
    return in_order(batches, await place.write(codec.file_coder, batches))


async def _decode(
    place: BatchExecutor, codec: Codec, layers: int | None, files: list[bytes]
) -> list[Picture | Exception]:
    return await _from_files(place, codec, files, layers, codec.images_of)


async def _features(
    place: BatchExecutor, codec: Codec, layer: int | None, pictures: list[Picture]
) -> list[Features]:
    assert layer is not None
    return _rows((await place.run(partial(codec.layer_features, pictures, layer + 1)))[layer])


async def _file_features(
    place: BatchExecutor, codec: Codec, layer: int | None, files: list[bytes]
) -> list[Features | Exception]:
    assert layer is not None

    def rows(parts: Sequence[SymbolBatch]) -> list[Features]:
        return _rows(codec.features_of(parts)[layer])

    return await _from_files(place, codec, files, layer + 1, rows)


async def _from_files(
    place: BatchExecutor,
    codec: Codec,
    files: list[bytes],
    layers: int | None,
    finish: Callable[[Sequence[SymbolBatch]], Sequence[Result]],
) -> list[Result | Exception]:
    """What `finish` makes of the symbols of files, and the errors of those that have none."""
    parts, errors = await place.read(codec.file_coder, files, layers)
    results: dict[int, Result | Exception] = dict(errors)
    if parts:
        good = [number for number in range(len(files)) if number not in errors]
        results |= zip(good, await place.run(partial(finish, parts)), strict=True)
    return [results[number] for number in range(len(files))]


def _rows(features: Features) -> list[Features]:
    """Features [N, D] as N of [1, D]."""
    count = len(features.mean)
    rows = np.arange(count)[:, None]
    return [Features(features.mean[row], features.std[row]) for row in rows]


# Each gives the results of all items, or raises HvaeCodecError where one of them has none.
_KINDS: Final[
    dict[str, Callable[[BatchExecutor, Codec, int | None, Any], Awaitable[list[Any]]]]
] = {
    "encode": _encode,
    "decode": _decode,
    "features": _features,
    "file features": _file_features,
}

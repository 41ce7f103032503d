"""What a coding process with networks does: whole batches, by the server's models and device.

Coding processes import this, and nothing of gRPC with it.
"""

import gc
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, TypeVar

import hvae_codec
from hvae_codec import Codec
from hvae_codec.codec.checkpoint import Checkpoint
from hvae_codec.codec.quality_scale import OperatingPoint
from hvae_codec.codec.registry import DEVICE_VARIABLE, MODELS_VARIABLE, codec_of
from hvae_codec.errors import CheckpointError, HvaeCodecError, UnknownModelError
from hvae_codec.utils.malloc import keep_freed_memory

from .operations import InlineExecutor, Operation, TimedExecutor, compute

Result = TypeVar("Result")

_VARIABLES: Final = (MODELS_VARIABLE, DEVICE_VARIABLE)

_given: dict[str, Codec] = {}
"""By model id: what the server gave to this process."""


class ModelNeededError(Exception):
    """This process cannot get at the files of a model that the server has loaded."""


class CodecKey(NamedTuple):
    """Which codec: its model's id, and what it encodes with."""

    model_id: str
    point: OperatingPoint


def key_of(codec: Codec) -> CodecKey:
    """What tells a codec from all others: two of a model may have different qualities."""
    return CodecKey(codec.info.model_id, codec.point)


def preparation(preload: Sequence[tuple[str, float | None]]) -> Callable[[], None]:
    """What makes another process ready to compute batches on one core, with this one's models and
    device: it has loaded these, and their qualities (None: the default).
    """
    # Passed explicitly: the fork server may have started before the variables were set.
    return partial(_prepare, {name: os.environ.get(name) for name in _VARIABLES}, tuple(preload))


def _prepare(variables: dict[str, str | None], preload: Sequence[tuple[str, float | None]]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    keep_freed_memory()
    _executor()
    for name, quality in preload:
        with suppress(HvaeCodecError):  # the server loads the same, and says what is wrong
            hvae_codec.load(name, quality)
    gc.freeze()  # collections need not walk all of torch's objects


def run_batch(
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
        _given[codec.model_id] = Codec(checkpoint)
    executor = TimedExecutor(_executor())
    results = _run_sync(compute(executor, _opened(codec), operation, values))
    return results, executor.seconds


@lru_cache(maxsize=1)
def _executor() -> InlineExecutor:
    return InlineExecutor(time.thread_time)


@lru_cache(maxsize=256)
def _opened(key: CodecKey) -> Codec:
    codec = _given.get(key.model_id)
    if codec is None:
        try:
            codec = codec_of(bytes.fromhex(key.model_id))
        except (UnknownModelError, CheckpointError, OSError) as error:
            raise ModelNeededError(str(error)) from error
    return codec.at_number(key.point.number).tuned(key.point.effort, key.point.trade)


def _run_sync(work: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine returns that waits for nothing, as in `InlineExecutor`."""
    try:
        work.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    raise AssertionError("an inline executor waits for nothing")

"""Inference that is the same whatever a program has set in torch for work of its own.

The default dtype and device are not looked at: code here and below names both for every tensor that
it makes. What is left is what holds for operations: autocast, the mode of gradients, and threads
that a forked process does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch

from hvae_codec.utils.forking import keep_to_one_thread

_AUTOCAST_DEVICES = ("cpu", "cuda")
_NOTHING = nullcontext()

Given = ParamSpec("Given")
Result = TypeVar("Result")


def full_precision() -> AbstractContextManager[Any]:
    """Within, autocast is off, and torch has the threads that this process has."""
    keep_to_one_thread()
    cast = [device for device in _AUTOCAST_DEVICES if torch.is_autocast_enabled(device)]
    if not cast:  # the usual case, in which a small image is not to wait for contexts
        return _NOTHING
    stack = ExitStack()
    for device in cast:
        stack.enter_context(torch.autocast(device, enabled=False))
    return stack


def inference(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """A function that runs in `full_precision` and torch's inference mode."""

    @wraps(function)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        with full_precision(), torch.inference_mode():
            return function(*args, **kwargs)

    return run


def loading(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """A function that makes tensors to keep. A caller's inference mode would be theirs for good,
    and no gradient could pass them; a caller's default device likewise.
    """

    @wraps(function)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        with (
            full_precision(),
            torch.inference_mode(False),
            torch.no_grad(),
            torch.device("cpu"),
        ):
            return function(*args, **kwargs)

    return run

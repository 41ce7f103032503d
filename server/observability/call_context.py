"""What is known of the call that is being answered, for logs, traces and limits."""

import random
import re
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final

from ..auth.quota import UNLIMITED, Quota
from .tracing import Span

REQUEST_ID: Final = "x-request-id"
"""Metadata key: the caller's name for a call, which logs repeat and the answer carries."""

_SANE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")

_numbers = count()


@dataclass
class CallContext:
    """One call. `method` is its name without the service's; `token` the token's name, if any, and
    `quota` the token's; `owner` the token's name or the connection, once its message is there. No
    two calls of a process have one `number`.
    """

    method: str = ""
    request_id: str = ""
    stream: bool = False
    token: str | None = None
    quota: Quota = UNLIMITED
    owner: str | None = None
    span: Span | None = None
    items: int = 0
    began: float = field(default_factory=time.perf_counter)
    number: int = field(default_factory=lambda: next(_numbers))


_current: ContextVar[CallContext | None] = ContextVar("call", default=None)


def current_call() -> CallContext:
    """The call that this task answers; outside of calls an empty one."""
    return _current.get() or CallContext()


def set_current_call(call: CallContext) -> None:
    """Say that this task answers `call`. gRPC makes a task for every call."""
    _current.set(call)


def answer_metadata() -> tuple[tuple[str, str], ...]:
    """Trailing metadata of the call that this task answers, if it is of the codec's service."""
    request_id = current_call().request_id
    return ((REQUEST_ID, request_id),) if request_id else ()


def request_id_of(metadata: Any) -> str:
    """The caller's request id where it is one word of sane characters, else a new one."""
    given = [value for key, value in metadata if key == REQUEST_ID]
    if len(given) == 1 and isinstance(given[0], str) and _SANE.fullmatch(given[0]):
        return given[0]
    return f"{random.getrandbits(64):016x}"

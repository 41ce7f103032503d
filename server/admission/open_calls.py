"""Which calls may be open: how many, how long without a message, and none once the server stops.

Calls are counted in all and of each token, or of each host where there are no tokens, streams
apart from other calls. gRPC's own bound counts calls of all kinds and callers together, health
included, and refuses without a time to retry.
A silent call is one whose next message does not come. It holds one of the calls that may be open,
so it ends after a while, and soon where others are rejected for it.
An answer that nobody reads holds memory and its call's place, so that call ends likewise. gRPC
cannot end a call while it sends an answer of it, so a stream is told to end: it computes nothing
more, frees what it holds beside that answer, and says why once that is read. Where it still is not,
and of a call of one message, the connection is closed: nothing else frees the answer.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from google.protobuf.descriptor import ServiceDescriptor

from ..errors import OverloadError, SilentCallError, StoppingError
from ..observability.calls import current_call
from ..settings import OpenLimits
from .capacity import Admission

PATIENCE_SECONDS: Final = 5.0
"""How long a call may be silent while others are refused."""

_RETRY_SECONDS: Final = 1.0
"""Delay after which to retry: nothing says when calls that are open will end."""

_CALLER_SHARE: Final = 4
"""By default one caller may have the n-th part of the open calls."""

_HOST_SHARE: Final = 3 / 4
"""The part of the open calls that one host may have, where there are no tokens."""

_SILENCE_LOOK_SECONDS: Final = 1.0
_QUIET_SECONDS: Final = 0.1
_MOST_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.01


def host_of(peer: str) -> str | None:
    """The host of a connection, as gRPC names its peer; None for a socket in the file system."""
    kind, _, address = peer.partition(":")
    return address.rpartition(":")[0] if kind in ("ipv4", "ipv6") else None


@dataclass(eq=False)
class _Silent:
    owner: str | None
    host: str | None
    since: float
    end: Callable[[], object]
    reading: bool


class Silence:
    """The calls that are silent at the moment, the longest silent first.

    Args:
        seconds: how long a call may be silent.
        clock: seconds that only grow.
    """

    patience: float = PATIENCE_SECONDS
    """How many seconds where others need its room."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._calls: dict[_Silent, None] = {}

    def begin(
        self, owner: str | None, end: Callable[[], object], *, reading: bool = False
    ) -> Callable[[], object]:
        """A call of an owner is silent from now on; returns what says that it is no more.

        `end` ends the call; it is called once at most. `reading`: it is a call of one message,
        which is being read, not a stream.
        """
        call = _Silent(owner, host_of(owner or ""), self._clock(), end, reading)
        self._calls[call] = None
        return lambda: self._calls.pop(call, None)

    def make_room(self, owner: str | None = None, *, reading: bool = False) -> None:
        """End the longest silent call of a kind, of this owner, or host of owners, unless that is
        None, if it was silent for longer than `patience`. `reading` as for `begin`.
        """
        latest = self._clock() - self.patience
        for call in list(self._calls):
            if call.since > latest:
                return
            if call.reading == reading and owner in (None, call.owner, call.host):
                self._end(call)
                return

    def look(self) -> None:
        """End the calls that have been silent for too long."""
        latest = self._clock() - self.seconds
        for call in list(self._calls):
            if call.since > latest:
                return
            self._end(call)

    async def watch(self) -> None:
        """`look` again and again, for ever."""
        while True:
            await asyncio.sleep(min(_SILENCE_LOOK_SECONDS, self.seconds / 2))
            self.look()

    def error(self, since: str) -> SilentCallError:
        """The error of a call that was ended; `since` says what did not come."""
        return SilentCallError(
            f"{since} did not come in time: this server waits {self.seconds:g} s for it, or "
            f"{self.patience:g} s while others are rejected for it; send it in a new call"
        )

    def _end(self, call: _Silent) -> None:
        del self._calls[call]
        call.end()


@dataclass(eq=False)
class _Unread:
    held: Callable[[], int]
    end: Callable[[], object] | None
    is_stream: bool
    peer: str
    token: str | None
    since: float

    def is_of(self, caller: str | None) -> bool:
        """Whether it is of a token or host; every one is of None."""
        return caller in (None, self.token or host_of(self.peer))


class UnreadAnswers:
    """The calls whose answers are not read at the moment, the longest unread first.

    Args:
        seconds: how long an answer may wait for its reader.
        close: closes the connection of a peer.
        wanted: whether others wait for memory.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        seconds: float,
        close: Callable[[str], object] = lambda peer: None,
        wanted: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._close = close
        self._wanted = wanted
        self._clock = clock
        self._calls: dict[_Unread, None] = {}
        self._closed = -math.inf

    def begin(
        self, peer: str, held: Callable[[], int], end: Callable[[], object] | None = None
    ) -> Callable[[], object]:
        """An answer of a call waits for its reader from now on; returns what says that it is read.

        `held` gives the bytes that the call holds. `end` ends a stream as soon as that is possible;
        it is called once at most.
        """
        token = current_call().token
        call = _Unread(held, end, end is not None, peer, token, self._clock())
        self._calls[call] = None
        return lambda: self._calls.pop(call, None)

    @contextmanager
    def waiting(
        self, peer: str, held: Callable[[], int], end: Callable[[], object]
    ) -> Iterator[None]:
        """`begin` for a block, in which the answer is sent."""
        is_read = self.begin(peer, held, end)
        try:
            yield
        finally:
            is_read()

    def make_room(self, caller: str | None = None, *, stream: bool | None = None) -> None:
        """End the stream that holds most, of those unread for longer than PATIENCE_SECONDS; where
        none of them can end, close the connection that holds most, of calls unread for twice that.
        `caller`: of this token or host, or None; `stream`: of streams, or of other calls, or None.
        """
        late = self._since(PATIENCE_SECONDS)
        late = [c for c in late if c.is_of(caller) and stream in (None, c.is_stream)]
        if ending := [call for call in late if call.end is not None]:
            _end(max(ending, key=lambda call: call.held()))
            return
        held: Counter[str] = Counter()
        for call in late:
            if call.since <= self._clock() - 2 * PATIENCE_SECONDS:
                held[call.peer] += call.held()
        # To find a connection takes a while, and so does gRPC to free what a closed one held.
        if held and self._clock() - self._closed >= _SILENCE_LOOK_SECONDS:
            self._closed = self._clock()
            self._close(held.most_common(1)[0][0])

    def look(self) -> None:
        """End the calls that have been unread for too long, first those that hold most, and close
        the connections of those that could not end.
        """
        for call in sorted(self._since(self._seconds), key=lambda call: -call.held()):
            _end(call)
        for peer in {call.peer for call in self._since(self._seconds + PATIENCE_SECONDS)}:
            self._close(peer)
        if self._wanted():
            self.make_room()

    def _since(self, seconds: float) -> list[_Unread]:
        """The calls that are unread for so long, the longest first."""
        latest = self._clock() - seconds
        return list(takewhile(lambda call: call.since <= latest, self._calls))

    async def watch(self) -> None:
        """`look` again and again, for ever."""
        while True:
            await asyncio.sleep(min(_SILENCE_LOOK_SECONDS, self._seconds / 2))
            self.look()

    def error(self) -> SilentCallError:
        """The error of a call that was ended."""
        return SilentCallError(
            f"the answers of this call were not read in time: this server keeps one for "
            f"{self._seconds:g} s, or {PATIENCE_SECONDS:g} s while others are rejected for it; "
            "send what has no answer in a new call"
        )


def _end(call: _Unread) -> None:
    if call.end is not None:
        call.end()
        call.end = None


class OpenCalls:
    """Counts open calls; one lasts until its task has ended, and so until its answer was taken."""

    def __init__(
        self, limits: OpenLimits, silence: Silence, unread: UnreadAnswers | None = None
    ) -> None:
        """silence, unread: end calls that keep others out."""
        self._most = {False: limits.calls, True: limits.streams}
        self._silence = silence
        self._unread = unread or UnreadAnswers(math.inf)
        self._open = {False: 0, True: 0}
        self._of_caller: Counter[tuple[str, bool]] = Counter()  # by token, or host

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return self._open[True]

    def enter(self, caller: str | None, most: int | None = None, *, stream: bool) -> None:
        """Count the call that this task answers.

        Args:
            caller: who calls; None where the server does not tell callers apart.
            most: most streams of the caller; None: a quarter of all.

        Raises:
            OverloadError: as many are open as may be.
        """
        kind = "streams" if stream else "calls"
        if self._open[stream] >= self._most[stream]:
            self._make_room(self._greatest(stream=stream), stream=stream)
            raise OverloadError(
                f"{self._open[stream]:,} {kind} are open, as many as this server has at once; try "
                f"again in {_RETRY_SECONDS:g} s",
                _RETRY_SECONDS,
            )
        if caller is not None:
            share = max(1, self._most[stream] // _CALLER_SHARE)
            most = min(self._most[stream], most) if stream and most is not None else share
            self._count(caller, most, "this token", stream=stream)
        self._open[stream] += 1
        _at_the_end(lambda: self._leave(stream))

    def enter_host(self, host: str | None, *, stream: bool) -> None:
        """Count the call that this task answers as its host's, unless it has a token.

        Raises:
            OverloadError: one host has as many as it may.
        """
        if host is not None and current_call().token is None:
            most = max(1, int(_HOST_SHARE * self._most[stream]))
            self._count(host, most, "your host", stream=stream)

    def _count(self, caller: str, most: int, named: str, *, stream: bool) -> None:
        """Count a call of a caller, or refuse it beyond `most`."""
        own = self._of_caller[caller, stream]
        if own >= most:
            self._make_room(caller, stream=stream)
            kind = "streams" if stream else "calls"
            raise OverloadError(
                f"{named} has {own:,} {kind} open, as many as it may have; end some, or try "
                f"again in {_RETRY_SECONDS:g} s",
                _RETRY_SECONDS,
            )
        self._of_caller[caller, stream] = own + 1
        _at_the_end(lambda: self._leave_caller(caller, stream))

    def _make_room(self, caller: str | None, *, stream: bool) -> None:
        """End a call of this caller, or of any, that is silent or whose answer is not read."""
        self._silence.make_room(caller, reading=not stream)
        self._unread.make_room(caller, stream=stream)

    def _greatest(self, *, stream: bool) -> str | None:
        """The caller with the most open calls of a kind; None where none is known."""
        counts = {name: n for (name, kind), n in self._of_caller.items() if kind == stream}
        return max(counts, key=lambda name: counts[name], default=None)

    def _leave(self, stream: bool) -> None:
        self._open[stream] -= 1

    def _leave_caller(self, caller: str, stream: bool) -> None:
        self._of_caller[caller, stream] -= 1
        if not self._of_caller[caller, stream]:
            del self._of_caller[caller, stream]


def _at_the_end(leave: Callable[[], object]) -> None:
    """Call this function once the task has ended that calls this."""
    task = asyncio.current_task()
    assert task is not None
    task.add_done_callback(lambda _: leave())


class OverloadGuard:
    """Bounds the calls of one service. Probes of others get answers to the end, whatever else is
    open; `SideCalls` bounds their streams.
    """

    def __init__(
        self, service: ServiceDescriptor, admission: Admission, open_calls: OpenCalls
    ) -> None:
        self._prefix = f"/{service.full_name}/"
        self._admission = admission
        self._open = open_calls
        self._closed = False
        self._rejected = 0.0
        self._entered = 0.0

    def check(self, method: str, *, stream: bool) -> None:
        """Count the call of a method that this task answers.

        Raises:
            StoppingError: the server is stopping.
            OverloadError: as many calls are open as may be, or the capacity is taken.
        """
        try:
            if method.startswith(self._prefix):
                self._enter(stream)
        except (StoppingError, OverloadError):
            self._rejected = time.monotonic()
            raise

    def _enter(self, stream: bool) -> None:
        if self._closed:
            raise StoppingError("the server is stopping; call again, and another one answers")
        if not stream:
            self._admission.check()
        call = current_call()
        self._open.enter(call.token, call.quota.max_streams, stream=stream)
        self._entered = time.monotonic()

    async def empty(self, seconds: float) -> None:
        """Wait until no more calls come, `seconds` at most; those that come are let in."""
        began = time.monotonic()
        while (now := time.monotonic()) < began + seconds:
            if now - max(began, self._entered) >= _QUIET_SECONDS:
                return
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self, seconds: float) -> None:
        """Reject all calls from now on; returns when those inside have ended and no more come,
        or at the latest after `seconds`.

        gRPC cancels calls that come while it stops itself, without a reason.
        """
        self._closed = True
        began = time.monotonic()
        latest = began + min(seconds, _MOST_SECONDS)
        while (now := time.monotonic()) < latest:
            since = max(began, self._rejected)
            if self._admission.is_idle and now - since >= _QUIET_SECONDS:
                return
            await asyncio.sleep(_LOOK_SECONDS)

"""A pool of processes, each with a thread that talks to it.

What crosses is large, the images of a call: a socket takes them at once, where the pools of the
standard library hand them through two threads and pipes of 64 KiB (measured while tuning: a tenth
of a server's time). If a worker dies, only its current task is lost; it is retried once.
"""

import logging
import multiprocessing
import os
import pickle
import queue
import signal
import socket
import threading
from asyncio import get_running_loop
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import forkserver
from typing import Any, Final, TypeVar

from hvae_codec.utils.cancellation import (
    Cancellation,
    CancelledWorkError,
    cancelled_if,
    current_cancellation,
)

from ..errors import WorkerLostError

_logger = logging.getLogger(__name__)

Result = TypeVar("Result")

BATCH_WORKER: Final = f"{__package__}.batch_worker"
"""The module whose imports coding processes with networks share."""

_TRIES: Final = 2
_ENDING_SECONDS: Final = 5.0
_LENGTH_BYTES: Final = 8


class _LostError(Exception):
    """The process is gone."""


class _Process:
    """A process that does one thing after the other; `prepare()` is the first."""

    def __init__(self, context: Any, prepare: Callable[[], object]) -> None:
        self._ours, theirs = socket.socketpair()
        self._cancels, heard = socket.socketpair(type=socket.SOCK_DGRAM)
        self._cancels.setblocking(False)
        self._number = 0
        with theirs, heard:
            args = (theirs, heard, prepare)
            self._process = context.Process(target=_serve, args=args, daemon=True)
            self._process.start()

    @property
    def pid(self) -> int:
        """Its number in the system."""
        return int(self._process.pid)

    def do(
        self,
        function: Callable[..., Result],
        *args: Any,
        cancellation: Cancellation | None = None,
    ) -> Result:
        """What a function of a module gives there, or raises, CancelledWorkError on a cancellation.

        Raises _LostError.
        """
        self._number += 1
        request = _bytes((self._number, function, args))
        cancel = partial(self._cancel, self._number)
        try:
            with (cancellation or Cancellation()).telling(cancel):
                _send(self._ours, request)
                received = _receive(self._ours)
        except (EOFError, OSError) as error:
            raise _LostError from error
        good, result = pickle.loads(received)
        if good:
            answer: Result = result
            return answer
        raise result

    def _cancel(self, number: int) -> None:
        """Let it give up the work of this number, if it still does that."""
        with suppress(OSError):  # it has ended, or never looks
            self._cancels.send(_length(number))

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.terminate()
        self._process.join(_ENDING_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._ours.close()
        self._cancels.close()


class _ThisProcess:
    """In place of another process: work is done in the thread that asks for it."""

    def do(
        self,
        function: Callable[..., Result],
        *args: Any,
        cancellation: Cancellation | None = None,
    ) -> Result:
        """What a function gives."""
        return function(*args)


def share_imports() -> None:
    """Begin to import what coding processes with networks share. An import of torch takes longer
    than all else at a server's start, so this comes first.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        multiprocessing.get_context("forkserver").set_forkserver_preload([BATCH_WORKER])
        forkserver.ensure_running()


class ProcessPool:
    """N processes; with 0, one thread of this one. A process that dies is replaced, and its work is
    tried once more.

    prepare: what each process with networks does first; what it raises is logged there. None: the
    processes have no networks.
    """

    def __init__(self, count: int, prepare: Callable[[], object] | None = None) -> None:
        self.count = count
        self.restarts = 0
        self._prepare = prepare or os.getpid
        self._context: Any = multiprocessing.get_context("spawn")
        if prepare is not None and "forkserver" in multiprocessing.get_all_start_methods():
            share_imports()
            self._context = multiprocessing.get_context("forkserver")
        # The one that was busy last comes first: its memory is still in the cores' caches.
        self._idle: queue.LifoQueue[_Process | _ThisProcess | None] = queue.LifoQueue()
        for _ in range(count):
            self._idle.put(None)
        if count == 0:
            self._idle.put(_ThisProcess())
        self._all: set[_Process] = set()
        self._lock = threading.Lock()
        self._stopped = False
        self._threads = ThreadPoolExecutor(max(1, count), thread_name_prefix="processes")

    @property
    def pids(self) -> list[int]:
        """Their numbers in the system, at the moment."""
        with self._lock:
            return [process.pid for process in self._all]

    async def start(self) -> None:
        """Bring them up before the first work needs them. Raises WorkerLostError."""
        await get_running_loop().run_in_executor(self._threads, self._start)

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """What a function of a module gives in one of them, or raises. It is given up, with
        CancelledWorkError, on the cancellation of this task's work.

        Raises WorkerLostError.
        """
        work = (function, args, current_cancellation())
        return await get_running_loop().run_in_executor(self._threads, self._do, *work)

    def stop(self) -> None:
        """End them; callers that wait get WorkerLostError or are cancelled."""
        with self._lock:
            self._stopped = True
            running = list(self._all)
        for process in running:
            process.end()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _start(self) -> None:
        processes = [self._idle.get() or self._new() for _ in range(self.count)]
        try:
            for process in processes:  # which all get ready at once
                process.do(os.getpid)
        except _LostError as error:
            raise WorkerLostError("a process ended while it was starting") from error
        finally:
            for process in processes:
                self._idle.put(process)

    def _do(
        self,
        function: Callable[..., Result],
        args: tuple[Any, ...],
        cancellation: Cancellation,
    ) -> Result:
        for _ in range(_TRIES):
            if cancellation.cancelled:
                raise CancelledWorkError("no caller waits for this work any more")
            process = self._idle.get()  # there is one: as many as threads
            try:
                process = process or self._new()
                return process.do(function, *args, cancellation=cancellation)
            except _LostError:
                assert isinstance(process, _Process)
                self._remove(process)
                process = None
            finally:
                self._idle.put(process)
        raise WorkerLostError("a process ended twice over this work; try again")

    def _new(self) -> _Process:
        with self._lock:
            if self._stopped:
                raise WorkerLostError("the processes are stopping")
            process = _Process(self._context, self._prepare)
            self._all.add(process)
        return process

    def _remove(self, process: _Process) -> None:
        with self._lock:
            self._all.discard(process)
            stopped = self._stopped
        if not stopped:
            _logger.error("a coding process ended unexpectedly: starting a new one")
            self.restarts += 1
            process.end()


class _Cancels:
    """In a new process: which work was given up, by its number."""

    def __init__(self, heard: socket.socket) -> None:
        self._heard = heard
        self._heard.setblocking(False)
        self._last = 0
        self.current = 0

    def __call__(self) -> bool:
        """Whether that is so of the current work."""
        with suppress(OSError):  # nothing more was said
            while data := self._heard.recv(_LENGTH_BYTES):
                self._last = max(self._last, int.from_bytes(data, "little"))
        return self._last >= self.current


def _serve(asks: socket.socket, heard: socket.socket, prepare: Callable[[], object]) -> None:
    """In a new process: run tasks until the parent closes the socket.

    Ctrl-C in the server's terminal is left to it. SIGTERM ends the process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        prepare()
    except Exception:
        _logger.exception("a coding process is not prepared")
    cancels = _Cancels(heard)
    with suppress(EOFError, OSError):  # the parent is gone
        while True:
            _send(asks, _answer(_receive(asks), cancels))


def _answer(request: bytearray, cancels: _Cancels) -> bytes:
    """Whether what was asked for went well, and its result or error, as bytes."""
    try:
        cancels.current, function, args = pickle.loads(request)
        with cancelled_if(cancels):
            return _bytes((True, function(*args)))
    except Exception as error:
        with suppress(Exception):  # some cannot be sent
            return _bytes((False, error))
        return _bytes((False, RuntimeError(repr(error))))
    except BaseException as error:  # where an extension in Rust panics, that is no Exception
        return _bytes((False, RuntimeError(repr(error))))


def _bytes(message: object) -> bytes:
    return pickle.dumps(message, pickle.HIGHEST_PROTOCOL)


def _length(number: int) -> bytes:
    return number.to_bytes(_LENGTH_BYTES, "little")


def _send(to: socket.socket, message: bytes) -> None:
    to.sendall(_length(len(message)))
    to.sendall(message)


def _receive(asks: socket.socket) -> bytearray:
    """A message. Raises EOFError where the other side is gone."""
    length = int.from_bytes(_exactly(asks, _LENGTH_BYTES), "little")
    return _exactly(asks, length)


def _exactly(asks: socket.socket, size: int) -> bytearray:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        got = asks.recv_into(view[done:], flags=socket.MSG_WAITALL)
        if got == 0:
            raise EOFError
        done += got
    return data


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

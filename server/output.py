"""Text for standard output and standard error, which the server can do without."""

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO


def put(stream: TextIO | None, text: str) -> None:
    """Write text at once, as far as the stream takes it; waits as long as that takes.

    A pipe without a reader, a full disk and a stream that is closed are no errors. Nothing stays in
    a buffer, which the interpreter would fail to write when it ends.
    """
    if stream is None:
        return
    with suppress(OSError, ValueError):
        try:
            number = stream.fileno()
        except (OSError, AttributeError):  # no file of the system
            stream.write(text)
            stream.flush()
            return
        data = text.encode(stream.encoding or "utf-8", "backslashreplace")
        while data:
            data = data[os.write(number, data) :]


def announce(stream: TextIO | None, lines: Sequence[str]) -> None:
    """Write lines from a thread of their own: a pipe without a reader blocks nothing."""
    text = "".join(f"{line}\n" for line in lines)
    threading.Thread(target=put, args=(stream, text), name="output", daemon=True).start()

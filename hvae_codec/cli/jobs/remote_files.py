"""Many files through a server's streams, a bad one among them failing alone."""

from __future__ import annotations

import argparse
import re
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hvae_codec.cli.common import path, positive_int
from hvae_codec.cli.jobs.batches import Row, Rows, progress_of
from hvae_codec.cli.jobs.files import Job
from hvae_codec.errors import HvaeCodecError, InputWarning, MissingDependencyError

if TYPE_CHECKING:
    from hvae_codec.client import Client

Value = TypeVar("Value")
Result = TypeVar("Result")

_PLACE = re.compile(r"^\w+\[(\d+)\]: ")
"""What leads an item's error or warning; of a file its name says more."""


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Which server does the work, if one does, and how to reach it."""
    server = parser.add_argument_group("server")
    server.add_argument(
        "--server",
        metavar="HOST:PORT",
        help="the server that does the work; default: this machine",
    )
    server.add_argument(
        "--token-file", type=path, metavar="FILE", help="holds the token that the server wants"
    )
    server.add_argument(
        "--root-certificates",
        type=path,
        metavar="FILE",
        help="PEM of the authorities to trust; encrypts",
    )
    server.add_argument(
        "--certificate", type=path, metavar="FILE", help="PEM of what to show of oneself; encrypts"
    )
    server.add_argument("--private-key", type=path, metavar="FILE", help="its key, PEM")
    server.add_argument(
        "--tls", action="store_true", help="encrypt, trusting the authorities that gRPC knows"
    )
    server.add_argument(
        "--insecure",
        action="store_true",
        help="let the token travel unencrypted to another machine",
    )
    server.add_argument(
        "--max-message-bytes",
        type=positive_int,
        metavar="BYTES",
        help="largest message either way, as the server's flag of that name; default: 4 MiB",
    )
    server.add_argument(
        "--balancing",
        choices=("round_robin", "pick_first"),
        default="round_robin",
        help="which of the server's addresses calls go to: each in turn, or the first that answers "
        "(default: %(default)s)",
    )


def has_server(arguments: argparse.Namespace) -> bool:
    """Whether a server is to do the work.

    Options of a connection without one, and `remote` without one, are wrong usage.
    """
    if arguments.server is not None:
        return True
    if getattr(arguments, "remote", False):
        arguments.usage_error("the following arguments are required: --server")
    files = ("token_file", "root_certificates", "certificate", "private_key")
    others = ("tls", "insecure", "max_message_bytes")
    given = [name for name in (*files, *others) if getattr(arguments, name)]
    if given:
        arguments.usage_error(f"--{given[0].replace('_', '-')} needs --server HOST:PORT")
    return False


@contextmanager
def connected(arguments: argparse.Namespace) -> Iterator[Client]:
    """A client of the server that `add_server_arguments` name.

    Raises:
        HvaeCodecError: the arguments contradict each other, or, inside, a call fails.
        MissingDependencyError: gRPC is not installed.
    """
    try:
        from hvae_codec.client import Client, ServiceError, Streaming
    except ImportError as error:
        raise MissingDependencyError(
            f"--server needs gRPC, which is not installed ({error}): "
            "pip install 'hvae-codec[server]'"
        ) from error
    named = ("root_certificates", "certificate", "private_key", "tls", "insecure", "balancing")
    settings = {name: getattr(arguments, name) for name in named}
    if arguments.max_message_bytes is not None:
        settings["max_message_bytes"] = arguments.max_message_bytes
    token = None if arguments.token_file is None else _token(arguments.token_file)
    # Files are available: read in this thread, as many as a message takes.
    streaming = Streaming(delay_seconds=None)
    try:
        with Client(arguments.server, token=token, streaming=streaming, **settings) as client:
            yield client
    except ServiceError as error:
        raise HvaeCodecError(str(error)) from error


def _token(file: Path) -> str:
    """What a file of --token-file holds. Raises HvaeCodecError or OSError."""
    try:
        return file.read_text("ascii").strip()
    except UnicodeDecodeError as error:
        raise HvaeCodecError(f"{file} holds no token: that is printable ASCII text") from error


def run_streamed(
    jobs: Sequence[Job],
    label: str,
    *,
    read: Callable[[Path], Value],
    answers: Callable[[Iterator[Value]], Iterator[Result | Exception]],
    finish: Callable[[Job, Result], Row],
) -> list[Row]:
    """Read every file, stream them through a call, finish each; one row a file, in order.

    `answers` makes of an iterator of values one of results, exceptions in the place of those that
    failed. These, and files that fail with a HvaeCodecError or OSError here, are reported on
    standard error, and the other files are still done; the progress is shown as of local commands.
    Where the call itself fails, the files that it was not done with failed with it.
    """
    from hvae_codec.client import ServiceError

    places: list[int] = []  # the jobs of all items that were sent
    with progress_of(jobs, label) as bar, _warnings_of_files(jobs, places):
        rows: Rows[Result] = Rows(jobs, finish, bar)
        sent: deque[int] = deque()

        def values() -> Iterator[Value]:
            for index, job in enumerate(jobs):
                rows.begin(index)
                try:
                    value = read(job.source)
                except (HvaeCodecError, OSError) as error:
                    rows.fail(index, error)
                else:
                    sent.append(index)
                    places.append(index)
                    yield value

        try:
            for result in answers(values()):
                index = sent.popleft()
                if isinstance(result, Exception):
                    rows.fail(index, HvaeCodecError(_PLACE.sub("", str(result))))
                else:
                    rows.finish(index, result)
        except ServiceError as error:
            rows.fail_others(error)
    return rows.in_order()


@contextmanager
def _warnings_of_files(jobs: Sequence[Job], places: Sequence[int]) -> Iterator[None]:
    """Let warnings of items name their files; `places` are the jobs of the items."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            item = _PLACE.match(str(message)) if issubclass(category, InputWarning) else None
            if item is not None:
                source = jobs[places[int(item[1])]].source
                message = f"{source}: {str(message)[item.end() :]}"
            usual(message, category, *rest, **more)

        vars(warnings)["showwarning"] = show
        yield

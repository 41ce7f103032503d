"""How far `hvae-codec pack` has come, and what could not be packed."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from hvae_codec.cli.common import describe, print_error


@dataclass(frozen=True)
class Failure:
    """An image that could not be packed, and why."""

    label: str
    message: str

    @staticmethod
    def of(label: str, error: Exception) -> Failure:
        """Of an error, whose message need not say which image it is about."""
        message = describe(error)
        return Failure(label, message if label in message else f"{label}: {message}")


class Bar:
    """Images done, a second and still to do, on standard error; and what failed, a line each."""

    def __init__(self, total: int, work: str = "packing") -> None:
        from hvae_codec.utils.progress import progress

        self._bar = progress(work, total=total, unit="images")
        self.failed: list[Failure] = []

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def update(self, pictures: int = 1) -> None:
        """Count images as done, whether they failed or not."""
        self._bar.update(pictures)

    def fail(self, failure: Failure) -> None:
        """Say what failed."""
        with self._bar.external_write_mode(file=sys.stderr):
            print_error(failure.message)
        self.failed.append(failure)

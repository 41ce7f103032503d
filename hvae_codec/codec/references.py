"""Codecs in other processes: pickled as the name of what they were loaded from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Self

from hvae_codec.errors import CheckpointError


class Source(Protocol):
    """Where a codec was loaded from; small to pickle."""

    def open(self) -> Any:
        """The codec, loaded at most once per process. Raises HvaeCodecError."""


class ByReference:
    """A loaded model that pickles as its source. Copies share the model, deep ones too: no call
    changes it.
    """

    source: Source | None = None
    """Where it was loaded from; None if it was made in this process."""

    settings: tuple[str, ...] = ()
    """Attributes in which two of one source may differ."""

    def __copy__(self) -> Self:
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if self.source is None:
            raise CheckpointError(
                "a codec is pickled as what it was loaded from, and this one was made in memory: "
                "save its checkpoint and use load_file"
            )
        return _reopened, (self.source, {name: getattr(self, name) for name in self.settings})


def _reopened(source: Source, settings: dict[str, Any]) -> Any:
    codec = source.open()
    if all(getattr(codec, name) == value for name, value in settings.items()):
        return codec
    other = codec.__copy__()
    vars(other).update(settings)
    return other

"""Which model each image of a run of `hvae-codec encode` goes through."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import hvae_codec
from hvae_codec.cli.common import load, print_warning
from hvae_codec.errors import UnknownQualityError


class Choice:
    """The codecs that --model, --quality and --effort name: one, or one for each size of images
    where the model is "auto".

    Raises:
        UnknownModelError, UnknownQualityError: no such model or quality; or a quality was given,
            no model, and the images take several, which have other scales.
    """

    def __init__(self, arguments: argparse.Namespace, sources: Sequence[Path]) -> None:
        from hvae_codec.codec.model_choice import AUTO

        self._arguments = arguments
        self._by_size = arguments.model == AUTO
        self._codecs: dict[str, hvae_codec.Codec] = {}
        if not self._by_size:
            self.codec(arguments.model)
        elif arguments.quality is not None and sources:
            for name in _one_model(sources, arguments.quality):
                self.codec(name)

    def model(self, height: int, width: int) -> str:
        """The name of the model for an image of this size."""
        from hvae_codec.codec.registry import model_for

        return model_for(height, width) if self._by_size else str(self._arguments.model)

    def codec(self, name: str) -> hvae_codec.Codec:
        """The codec of a model, loaded once, with the quality and effort asked for."""
        if name not in self._codecs:
            self._codecs[name] = load(self._arguments, name)
        return self._codecs[name]


def one_model(
    arguments: argparse.Namespace,
    sizes: Iterable[tuple[int, int] | None],
    available: Collection[str] | None = None,
) -> str:
    """The name of the model that codes all images of a run: --model's, or that of the largest.

    Args:
        arguments: with --model, "auto" for a choice by size.
        sizes: height and width of each image, None where it cannot be read; read as needed.
        available: names of the models of a server; None for those available.
    """
    from hvae_codec.codec.model_choice import AUTO, model_of_all

    if arguments.model != AUTO:
        return str(arguments.model)
    if available is None:
        from hvae_codec.codec.registry import model_names

        available = model_names()
    name, mixed = model_of_all((size for size in sizes if size is not None), available)
    if mixed:
        print_warning(f"the small images take the model of the large ones, {name}; --model sets it")
    return name


def _one_model(sources: Sequence[Path], quality: float) -> set[str]:
    """The model that all images take; none if no size can be read: that is said in its place.

    Raises:
        UnknownQualityError: they take several.
    """
    from hvae_codec.codec.registry import model_for, scale_of

    names = {model_for(*size) for source in sources if (size := size_of(source)) is not None}
    if len(names) > 1:
        scales = " and ".join(f"{name} (qualities {scale_of(name)})" for name in sorted(names))
        raise UnknownQualityError(
            f"--quality {quality:g} is another one to each model, and by their sizes these "
            f"images take {scales}: name one with --model"
        )
    return names


def size_of(source: Path) -> tuple[int, int] | None:
    """Height and width of the image in a file; None if it cannot be read, or only once."""
    from hvae_codec.codec.images.load import picture_size

    try:
        return picture_size(source) if source.is_file() else None
    except (OSError, ValueError):
        return None

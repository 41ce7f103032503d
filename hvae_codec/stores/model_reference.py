"""The model that a store's settings name: what a chunk is coded with, without its networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from hvae_codec.codec.codec import Codec
from hvae_codec.codec.registry import chosen_info, load
from hvae_codec.errors import HvaeCodecError, WrongModelError
from hvae_codec.utils.arguments import real, shown, whole


@dataclass(frozen=True)
class ModelReference:
    """A model available, and what it encodes with, as a store's metadata have it.

    Its networks are loaded when they are first used, once per process, so it pickles as its fields.

    Args:
        model: name of an available model, see `hvae_codec.models()`.
        quality: as `hvae_codec.load` takes it; None becomes the model's default.
        effort: as `hvae_codec.load` takes it.
        model_id: of the model's weights, as metadata state it; None becomes that of the model.

    Raises:
        UnknownModelError, UnknownQualityError: as `hvae_codec.load`.
        WrongModelError: the model of this name and quality here has another id.
        HvaeCodecError: an argument is of another kind.
    """

    model: str
    quality: float | None = None
    effort: int | None = None
    model_id: str | None = None

    def __post_init__(self) -> None:
        info = chosen_info(self.model, self.quality)
        quality = info.quality if self.quality is None else real("quality", self.quality)
        object.__setattr__(self, "quality", int(quality) if quality == int(quality) else quality)
        if self.effort is not None:
            object.__setattr__(self, "effort", whole("effort", self.effort))
        if self.model_id is None:
            object.__setattr__(self, "model_id", info.model_id)
        if self.model_id != info.model_id:
            raise WrongModelError(
                f"the store is coded with model {self.model!r}, quality {self.quality:g}, of id "
                f"{shown(self.model_id)}; the one available here is {info.model_id}: the weights "
                "that wrote the store are needed, in a folder that HVAE_MODELS names"
            )

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> Self:
        """The reference that metadata state. Raises as the class, and for other settings."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(settings) - set(known))
        if unknown or "model" not in settings:
            found = f"unknown: {', '.join(unknown)}" if unknown else "model is missing"
            raise HvaeCodecError(f"settings of this codec are {', '.join(known)}; {found}")
        return cls(**settings)

    @property
    def settings(self) -> dict[str, Any]:
        """What metadata state: values that JSON holds; what is None is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def open(self) -> Codec:
        """The codec, loaded once per process. Raises as `hvae_codec.load`."""
        return load(self.model, self.quality, effort=self.effort)

    @contextmanager
    def named_in_errors(self, label: str) -> Iterator[None]:
        """Errors of this library raised within say what `label` is, and the model."""
        try:
            yield
        except HvaeCodecError as error:
            where = f"{label}, model {self.model!r}, quality {self.quality:g}, id {self.model_id}"
            raise type(error)(f"{where}: {error}") from error

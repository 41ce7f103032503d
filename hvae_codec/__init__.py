"""Hierarchical VAEs as one lossy image codec, feature extractor and sampler.

import hvae_codec
codec = hvae_codec.load("cifar10", quality=3)
blob = codec.encode(image)        # uint8 array, PIL image, path or torch tensor -> bytes
image = codec.decode(blob)      # uint8 [H, W, C]
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hvae_codec.utils import forking, import_time  # noqa: F401  # before anything computes

if TYPE_CHECKING:
    from hvae_codec.codec.archive.reader import Archive
    from hvae_codec.codec.archive.writer import ArchiveWriter
    from hvae_codec.codec.checkpoint import ModelInfo
    from hvae_codec.codec.codec import Codec
    from hvae_codec.codec.features import Features
    from hvae_codec.codec.rate_control.targets import encode, encode_within
    from hvae_codec.codec.registry import codec_for, decode, load, load_file, models
    from hvae_codec.features.transformer import HVAEFeatures as HVAEFeatures

__version__ = "0.1.0"

__all__ = [
    "Archive",
    "ArchiveWriter",
    "Codec",
    "Features",
    "ModelInfo",
    "codec_for",
    "decode",
    "encode",
    "encode_within",
    "load",
    "load_file",
    "models",
]

_REGISTRY = "hvae_codec.codec.registry"
_HOMES = {
    "Archive": "hvae_codec.codec.archive.reader",
    "ArchiveWriter": "hvae_codec.codec.archive.writer",
    "Codec": "hvae_codec.codec.codec",
    "Features": "hvae_codec.codec.features",
    "HVAEFeatures": "hvae_codec.features.transformer",  # not in __all__: it needs an extra
    "ModelInfo": "hvae_codec.codec.checkpoint",
    **dict.fromkeys(("encode", "encode_within"), "hvae_codec.codec.rate_control.targets"),
    **dict.fromkeys(("codec_for", "decode", "load", "load_file", "models"), _REGISTRY),
}


class _Package(ModuleType):
    """This package, whose public names are imported when they are used: torch, which they need,
    takes longer to import than `hvae-codec --help` should.

    A module's `__getattr__` would not do, because it is not asked for names that are there, and
    the import system puts the subpackage `models` where the public function of that name belongs.
    """

    def __getattribute__(self, name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        return super().__getattribute__(name)

    def __dir__(self) -> list[str]:
        hidden = {name for name in super().__dir__() if name.startswith("__")}
        return sorted({*hidden, *_HOMES})


sys.modules[__name__].__class__ = _Package

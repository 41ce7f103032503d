"""Hierarchical VAEs as data (`spec`, `zoo`) and as PyTorch modules (`hvae`)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvae_codec.models.hvae import ForwardOutput, HierarchicalVAE, Posterior
    from hvae_codec.models.spec import ModelSpec
    from hvae_codec.models.zoo import SPECS, get_spec

__all__ = ["SPECS", "ForwardOutput", "HierarchicalVAE", "ModelSpec", "Posterior", "get_spec"]

_HOMES = {
    **dict.fromkeys(("HierarchicalVAE", "ForwardOutput", "Posterior"), "hvae_codec.models.hvae"),
    "ModelSpec": "hvae_codec.models.spec",
    **dict.fromkeys(("SPECS", "get_spec"), "hvae_codec.models.zoo"),
}


def __getattr__(name: str) -> Any:
    """Import the modules of the public names when they are used: specs need no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

"""Hierarchical VAEs as data (`spec`, `zoo`) and as PyTorch modules (`hvae`)."""

from hvae_codec.models.hvae import HierarchicalVAE, Outcome, Posterior
from hvae_codec.models.spec import ModelSpec
from hvae_codec.models.zoo import SPECS, get_spec

__all__ = ["SPECS", "HierarchicalVAE", "ModelSpec", "Outcome", "Posterior", "get_spec"]

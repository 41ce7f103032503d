"""Training: what a run is (`recipe`), how it goes (`trainer`), how it survives a kill (`state`)."""

from hvae_codec.training.recipe import Recipe
from hvae_codec.training.run_state import load_history
from hvae_codec.training.trainer import snapshot, train

__all__ = ["Recipe", "load_history", "snapshot", "train"]

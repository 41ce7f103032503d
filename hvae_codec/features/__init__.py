"""z2 as features for classifiers, in scikit-learn's form."""

from hvae_codec.features.transformer import LatentFeatures

__all__ = ["LatentFeatures"]

"""Latents as features for classifiers, in scikit-learn's form."""

from hvae_codec.features.archive_pictures import ArchivePicture, ArchivePictures
from hvae_codec.features.transformer import HVAEFeatures

__all__ = ["ArchivePicture", "ArchivePictures", "HVAEFeatures"]

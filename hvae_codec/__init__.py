"""Hierarchical VAEs as one lossy image codec, feature extractor and sampler.

import hvae_codec
codec = hvae_codec.load("cifar10", quality=3)
blob = codec.encode(image)        # uint8 array, PIL image, path or torch tensor -> bytes
picture = codec.decode(blob)      # uint8 [H, W, C]
"""

from hvae_codec.codec.checkpoint import ModelInfo
from hvae_codec.codec.codec import Codec, Features
from hvae_codec.codec.registry import codec_for, decode, load, load_file, models

__version__ = "0.1.0"

__all__ = [
    "Codec",
    "Features",
    "ModelInfo",
    "codec_for",
    "decode",
    "load",
    "load_file",
    "models",
]

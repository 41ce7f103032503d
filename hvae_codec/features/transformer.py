"""A scikit-learn transformer from pictures, or from their encoded bytes, to z2."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

import hvae_codec
from hvae_codec.codec.codec import Features
from hvae_codec.errors import HvaeCodecError


class LatentFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The means (and, if asked, standard deviations) of q(z2|x) as a feature matrix.

    Args:
        model: name of a shipped model, see `hvae_codec.models()`.
        quality: its rung.
        statistics: "mean" gives [N, D] columns, "mean+std" [N, 2 D].

    `transform` takes what `Codec.features` takes, or a list of encoded `bytes`, whose z2 is read
    without decoding the rest. There is nothing to fit: the model was trained without labels.
    """

    def __init__(
        self,
        model: str = "cifar10",
        quality: int = 3,
        statistics: Literal["mean", "mean+std"] = "mean",
    ) -> None:
        self.model = model
        self.quality = quality
        self.statistics = statistics

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803 (scikit-learn's name)
        """Load the model; X and y are not looked at.

        Raises:
            UnknownModelError, UnknownQualityError: no such model or rung.
            HvaeCodecError: `statistics` is neither of the two.
        """
        if self.statistics not in ("mean", "mean+std"):
            raise HvaeCodecError(f"statistics {self.statistics!r}; allowed: 'mean', 'mean+std'")
        self.codec_ = hvae_codec.load(self.model, quality=self.quality)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """Features float32 [N, D] or [N, 2 D] of N pictures or N encoded pictures."""
        codec = self.codec_ if hasattr(self, "codec_") else self.fit(X).codec_
        features = self._features(codec, X)
        if self.statistics == "mean":
            return features.mean
        return np.concatenate([features.mean, features.std], axis=1)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the columns: z2_mean_0, ..., and z2_std_0, ... if asked for."""
        dims = self.codec_.info.z_dims[0]
        names = [f"z2_{kind}_{i}" for kind in self.statistics.split("+") for i in range(dims)]
        return np.array(names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    @staticmethod
    def _features(codec: hvae_codec.Codec, pictures: Iterable[Any]) -> Features:
        items = pictures if isinstance(pictures, np.ndarray) else list(pictures)
        if isinstance(items, list) and items and isinstance(items[0], bytes):
            return codec.features_from_bytes(items)
        return codec.features(items)

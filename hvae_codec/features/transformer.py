"""A scikit-learn transformer from pictures, or from their encoded bytes, to z2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

import hvae_codec
from hvae_codec.errors import HvaeCodecError


class LatentFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The means (and, if asked, standard deviations) of q(z2|x) as a feature matrix.

    Args:
        model: name of a model at hand, see `hvae_codec.models()`.
        quality: its rung; None for the middle one.
        statistics: "mean" gives [N, D] columns, "mean+std" [N, 2 D].

    `transform` takes what `Codec.features` takes, or a list of encoded `bytes`, whose z2 is read
    without decoding the rest. There is nothing to fit: the model was trained without labels. The
    transformer holds its parameters alone, so copies of it, and of pipelines with it, are small.
    """

    def __init__(
        self,
        model: str = "cifar10",
        quality: int | None = None,
        statistics: Literal["mean", "mean+std"] = "mean",
    ) -> None:
        self.model = model
        self.quality = quality
        self.statistics = statistics

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803 (scikit-learn's name)
        """Check the parameters; X and y are not looked at.

        Raises:
            UnknownModelError, UnknownQualityError: no such model or rung.
            HvaeCodecError: `statistics` is neither of the two.
        """
        self._codec()
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """Features float32 [N, D] or [N, 2 D] of N pictures or N encoded pictures.

        Raises:
            ImageError, BitstreamError: as `Codec.features` and `Codec.features_from_bytes`; and as
            `fit`.
        """
        codec = self._codec()
        if isinstance(X, np.ndarray) and X.dtype.kind in "OU":  # an array of bytes or of paths
            X = X.tolist()  # noqa: N806
        if isinstance(X, Sequence) and X and all(isinstance(item, bytes) for item in X):
            features = codec.features_from_bytes(X)
        else:
            features = codec.features(X)
        if self.statistics == "mean":
            return features.mean
        return np.concatenate([features.mean, features.std], axis=1)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the columns: z2_mean_0, ..., and z2_std_0, ... if asked for."""
        dims = self._codec().info.z_dims[0]
        names = [f"z2_{kind}_{i}" for kind in self.statistics.split("+") for i in range(dims)]
        return np.array(names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def _codec(self) -> hvae_codec.Codec:
        if self.statistics not in ("mean", "mean+std"):
            raise HvaeCodecError(f"statistics {self.statistics!r}; allowed: 'mean', 'mean+std'")
        return hvae_codec.load(self.model, quality=self.quality)

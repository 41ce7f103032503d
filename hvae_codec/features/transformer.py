"""A scikit-learn transformer from images, or from their encoded bytes, to latents."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

import hvae_codec
from hvae_codec.codec.registry import load_file_once
from hvae_codec.errors import (
    HvaeCodecError,
    MissingDependencyError,
    UnknownModelError,
    UnknownQualityError,
    WrongModelError,
)
from hvae_codec.features.inputs import Rows, check_rows, features_of, refuse_sparse
from hvae_codec.utils.arguments import is_real, is_unordered, is_whole, path_of, shown
from hvae_codec.utils.atomic_files import write_atomically

try:
    from sklearn.base import BaseEstimator, TransformerMixin
except ImportError as error:
    raise MissingDependencyError(
        "HVAEFeatures needs scikit-learn: pip install hvae-codec[features]"
    ) from error

_FORMAT = "hvae-codec features 1"
_CHECKPOINT_SUFFIX = ".safetensors"


class HVAEFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The means (and, if asked, standard deviations) of layers of latents as a feature matrix.

    Args:
        model: name of an available model, see `hvae_codec.models()`, or path of a checkpoint
            (.safetensors).
        quality: quality level of the model, None for the middle one; of "photo" a number
            from 1 to 100, None for its default.
        layers: name of a layer, "z2" or "z1" of two, or a sequence of names, whose columns then
            stand side by side in this order; None for the top layer.
        statistics: "mean" gives [N, D] columns of D latent dimensions, "mean+std" [N, 2 D].
        batch_size: most images or files that are read at once.
        rows: order of the values of flat rows, "interleaved" (height, width, channels) or "planar"
            (channels, height, width), which the files of CIFAR-10 have.

    `transform` takes an array of images uint8 [N, H, W, C]; flat rows [N, H*W*C] of the model's
    own size, in this order unless `rows` says otherwise, or [N, H*W] if grey; a list of arrays,
    Pillow images or paths; a list of `.hvae` bytes or paths; the path of a `.hvaa` archive, an
    `Archive`, or `ArchivePictures` of it. Arrays of numbers other than uint8 are grey levels 0..255
    or, as fractions, levels divided by 255 (`hvae_codec.features.inputs` says it to the letter).

    Of an image, features are the modes of its posteriors, each given those above; of encoded ones
    the latents as they were coded, for which no image is decoded. Layers that are maps, those of
    "photo", are averaged over their map: D columns for D channels, whatever the size of an image,
    and of an image the same as of its file. There is nothing to fit: the model was trained without
    labels. The transformer holds its parameters alone, so copies of it, and of pipelines with it,
    are small.
    """

    rows: Rows = "interleaved"  # of pickles from before it was a parameter

    def __init__(
        self,
        model: str | os.PathLike[str] = "cifar10",
        quality: float | None = None,
        layers: str | Sequence[str] | None = None,
        statistics: Literal["mean", "mean+std"] = "mean",
        batch_size: int = 256,
        rows: Rows = "interleaved",
    ) -> None:
        self.model = model
        self.quality = quality
        self.layers = layers
        self.statistics = statistics
        self.batch_size = batch_size
        self.rows = rows

    def fit(self, X: Any = None, y: Any = None) -> Self:  # noqa: N803 (scikit-learn's name)
        """Check the parameters; y is not looked at, X only for what it cannot be at all.

        Raises:
            ImageError: X is a sparse matrix.
            UnknownModelError, UnknownQualityError, CheckpointError: no such model, quality level
                or layer.
            HvaeCodecError: another parameter is none of those that there are.
        """
        refuse_sparse(X)
        self._indices(self._codec())
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:  # noqa: N803
        """Features float32 [N, columns] of N images or N encoded images.

        Raises:
            ImageError: X is or holds something that is no image.
            BitstreamError: encoded images are damaged or of another model (WrongModelError). And
                as `fit`.
        """
        codec = self._codec()
        indices = self._indices(codec)
        found = features_of(codec, X, max(indices) + 1, self.batch_size, self.rows)
        columns = [
            getattr(found[index], kind) for index in indices for kind in self.statistics.split("+")
        ]
        return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the columns: z2_mean_0, ..., and z2_std_0, ... if asked for, layer by layer."""
        codec = self._codec()
        names = [
            f"{codec.model.spec.layer_name(index)}_{kind}_{column}"
            for index in self._indices(codec)
            for kind in self.statistics.split("+")
            for column in range(codec.info.z_dims[index])
        ]
        return np.array(names, dtype=object)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the parameters, and which model they mean by its hash, as JSON.

        Raises:
            OSError: the file cannot be written. And as `fit`.
        """
        info = self._codec().info
        self.fit()
        layers = self.layers
        parameters = {
            **{name: _plain(value) for name, value in self.get_params().items()},
            "model": os.fspath(self.model),
            "layers": layers if layers is None or isinstance(layers, str) else list(layers),
        }
        saved = {
            "format": _FORMAT,
            "model_id": info.model_id,
            "sha256": info.card["sha256"],
            "parameters": parameters,
        }
        write_atomically(path_of("path", path), (json.dumps(saved, indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The transformer that `save` wrote.

        Raises:
            WrongModelError: the model available of this name is another one than when it was saved.
            HvaeCodecError: the file is none that `save` wrote. And as `fit`.
        """
        file = path_of("path", path)
        try:
            saved = json.loads(file.read_text())
            if saved["format"] != _FORMAT:
                raise HvaeCodecError(f"format {saved['format']!r}; this release reads {_FORMAT!r}")
            parameters, wanted = dict(saved["parameters"]), str(saved["sha256"])
            if isinstance(parameters["layers"], list):
                parameters["layers"] = tuple(parameters["layers"])
            features = cls(**parameters)
        except (KeyError, TypeError, ValueError) as error:
            raise HvaeCodecError(f"{path} is no saved HVAEFeatures: {error!r}") from error
        info = features.fit()._codec().info
        if info.card["sha256"] != wanted:
            raise WrongModelError(
                f"{path} is of model {saved.get('model_id')}; the available {features.model!r} is "
                f"{info.model_id}"
            )
        return features

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True  # X is read by hvae_codec, which knows images
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _codec(self) -> hvae_codec.Codec:
        if not isinstance(self.model, str | os.PathLike):
            raise UnknownModelError(f"model must be a name or a path; got {shown(self.model)}")
        model = os.fspath(self.model)
        if not model.endswith(_CHECKPOINT_SUFFIX):
            return hvae_codec.load(model, quality=self.quality)
        if self.quality is not None:
            raise HvaeCodecError("quality is of available models; a checkpoint's path has none")
        return load_file_once(model)

    def _indices(self, codec: hvae_codec.Codec) -> list[int]:
        """Positions of the layers that were asked for, top first; checks the other parameters."""
        if not isinstance(self.statistics, str) or self.statistics not in ("mean", "mean+std"):
            raise HvaeCodecError(
                f"statistics {shown(self.statistics)}; allowed: 'mean', 'mean+std'"
            )
        if not (is_whole(self.batch_size) and self.batch_size >= 1):
            raise HvaeCodecError(f"batch_size {shown(self.batch_size)}; allowed: 1 and more")
        check_rows(self.rows)
        if self.layers is None:
            return [0]
        spec = codec.model.spec
        names = [spec.layer_name(index) for index in range(len(spec.latents))]
        listed = not isinstance(self.layers, str) and isinstance(self.layers, Iterable)
        single = getattr(self.layers, "ndim", 1) == 0  # an array that cannot be iterated over
        if is_unordered(self.layers):
            raise UnknownQualityError(
                f"layers {shown(self.layers)} have no order, which the columns take: give a list"
            )
        wanted: list[Any] = list(self.layers) if listed and not single else [self.layers]
        known = all(isinstance(name, str) and name in names for name in wanted)
        if not wanted or not known or len(set(wanted)) < len(wanted):
            raise UnknownQualityError(
                f"layers {shown(self.layers)}; allowed: one or more of {', '.join(names)}, "
                "each once"
            )
        return [names.index(name) for name in wanted]


def _plain(value: Any) -> Any:
    """A number of any kind as Python's own, which JSON has; else the value itself."""
    if is_whole(value):
        return int(value)
    return float(value) if is_real(value) else value

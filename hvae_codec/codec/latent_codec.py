"""What a codec says of latents: symbols and features, of images and of files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hvae_codec.codec.bitstream.encoded import Encoded, as_files, one_or_more
from hvae_codec.codec.bitstream.files import FileCoder
from hvae_codec.codec.bitstream.symbols import SymbolBatch, checked_batches, order_of
from hvae_codec.codec.checkpoint import ModelInfo
from hvae_codec.codec.entropy.tables import Int32Array
from hvae_codec.codec.features import Features, none_of
from hvae_codec.codec.images.load import as_batch
from hvae_codec.codec.model_shape import ModelShape, Pictures
from hvae_codec.codec.quality_scale import OperatingPoint
from hvae_codec.codec.references import ByReference
from hvae_codec.codec.transform import Transform
from hvae_codec.utils.arguments import layer_count


class LatentCodec(ByReference):
    """What a `Codec` says of latents, of images and of files."""

    info: ModelInfo
    """What the model's card says."""
    point: OperatingPoint
    """What is encoded with where a call says nothing else."""
    transform: Transform
    """The half with the networks."""
    file_coder: FileCoder
    """The half without networks, which can be sent to other processes."""
    shape: ModelShape
    """Of the images that the model takes."""

    def symbols(self, blobs: Iterable[Encoded]) -> list[Int32Array]:
        """The integer symbols of many files as rows per layer, top first: int32 [T, D_l] for T
        tiles in all, or [N, C * h * w] of N files of one size of a fully convolutional model.

        No network takes part: these are equal on every machine.

        Raises:
            BitstreamError: as `decode_batch`. ValueError: sizes or qualities differ.
        """
        return self.file_coder.symbols(as_files(blobs))

    def features(self, images: Pictures) -> Features:
        """Mean and standard deviation of q(z_L|x), the top layer, of N images, float32 [N, D] each.

        Raises:
            ImageError: as `encode_batch`.
        """
        return self.layer_features(images, 1)[0]

    def layer_features(self, images: Pictures, layers: int | None = None) -> list[Features]:
        """Mean and standard deviation of q(z_l|z_>l, x), float32 [N, D_l] each, for the first
        `layers` layers (None: all), top first; each layer given the modes of those above it.

        Raises:
            ImageError: as `encode_batch`. ValueError: there are not so many layers.
        """
        layers = layer_count(layers, len(self.info.z_dims))
        prepared = [self.shape.prepare(picture)[0] for picture in as_batch(images)]
        if not prepared:
            return none_of(self.info.z_dims[:layers])
        return self.transform.posterior_features(prepared, layers, self.point)

    def features_from_bytes(self, blobs: Encoded | Iterable[Encoded]) -> Features:
        """The top layer of files as it was coded, and its standard deviation under quantisation.

        Only the first bytes of each file are read; it may be cut off behind them.

        Raises:
            BitstreamError: as `decode`, for the part that is read.
        """
        return self.layer_features_from_bytes(blobs, 1)[0]

    def layer_features_from_bytes(
        self, blobs: Encoded | Iterable[Encoded], layers: int | None = None
    ) -> list[Features]:
        """`features_from_bytes` of the first `layers` layers (None: all), top first.

        No image is decoded: the top layer takes no network, others the priors down to their own.
        With more than one layer the files must be whole.

        Raises:
            BitstreamError: as `decode`, for the part that is read. ValueError: there are not so
                many layers.
        """
        layers = layer_count(layers, len(self.info.z_dims))
        files = one_or_more(blobs)
        if not files:
            return none_of(self.info.z_dims[:layers])
        return self.features_of(self.file_coder.read(files, layers))

    def features_of(self, batches: Sequence[SymbolBatch]) -> list[Features]:
        """The latents of symbols, in order of their numbers: the second half of
        `layer_features_from_bytes`.

        Raises:
            HvaeCodecError: they are no list of `SymbolBatch`.
        """
        batches = checked_batches(batches)
        if not batches:
            return none_of(self.info.z_dims)
        order = order_of(batches)
        found = self.transform.features(batches)
        return [Features(layer.mean[order], layer.std[order]) for layer in found]

"""The codec: images to bytes and back, latents as features, previews and samples.

image --prepare--> Transform.encode --SymbolBatch--> FileCoder.write --> bytes
bytes --> FileCoder.read --SymbolBatch--> Transform.decode --> image
                                          Transform.features --> features
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray

from hvae_codec.codec.bitstream.encoded import Encoded, as_file, as_files
from hvae_codec.codec.bitstream.header import Header, read_header
from hvae_codec.codec.bitstream.symbols import SymbolBatch, checked_batches, in_order, order_of
from hvae_codec.codec.checkpoint import Checkpoint, model_info
from hvae_codec.codec.halves import halves_of
from hvae_codec.codec.images.load import Picture, as_batch, as_uint8
from hvae_codec.codec.latent_codec import LatentCodec
from hvae_codec.codec.model_shape import ModelShape, Pictures
from hvae_codec.codec.quality_scale import (
    OperatingPoint,
    checked_number,
    quality_number,
    stated_quality,
)
from hvae_codec.codec.tiled.tiling import assembled
from hvae_codec.codec.transform import Pixels, Trades
from hvae_codec.errors import (
    CorruptError,
    HvaeCodecError,
    ImageError,
    UnknownQualityError,
    WrongModelError,
)
from hvae_codec.models.build import CodingModel
from hvae_codec.utils.arguments import sample_arguments, shown


class Codec(LatentCodec):
    """A trained model as a codec. It keeps no state between calls, so threads may share it.

    It pickles as the name of what it was loaded from and its model's id.

    An image is a uint8 array [H, W], [H, W, 1] or [H, W, 3], a PIL image, a path, or a torch uint8
    tensor [C, H, W]; many images are an array [N, H, W, C], a tensor [N, C, H, W] or a list of
    images of any sizes. A colour model codes a grey image as colour and gives it back grey; a
    grey model refuses colour.

    A model of one image size codes a larger image in tiles, the last ones padded by repeating
    the edge; its encoder takes an `effort`: 0 rounds what the networks say; 1 and 2 search for
    symbols that give a better image for fewer bytes (`hvae_codec.codec.tiled.encoder_search`), at
    more time. With effort above 0, `trade` steers that search: 2 asks for fewer bytes (each is to
    save twice as much distortion), 0.5 for a better image.

    A fully convolutional model codes images whole and has many qualities (`at_quality`), no
    effort but 0 and no trade. Its features are latents as they are coded, averaged over positions.

    A file is given as its bytes in any buffer or uint8 array, or by its path. A codec decodes the
    files of its model of any quality, effort and trade.
    """

    settings: tuple[str, ...] = ("point",)

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.info = model_info(checkpoint.card)
        self.checkpoint = checkpoint
        self.shape = ModelShape(self.info.name, *checkpoint.model.spec.image_shape)
        self.file_coder, self.transform, self.point = halves_of(checkpoint)

    @property
    def model(self) -> CodingModel:
        """The model itself, in evaluation mode."""
        return self.transform.model

    @property
    def number(self) -> int | None:
        """The quality's number in files, 0..255; None for a model of one quality."""
        return self.point.number

    @property
    def quality(self) -> float:
        """The quality that is encoded with, as users state it."""
        number = self.point.number
        return self.info.quality if number is None else stated_quality(number)

    def __repr__(self) -> str:
        name, point = self.info.name, self.point
        tuning = f", effort {point.effort}, trade {point.trade:g}" if point.effort else ""
        return f"<Codec {name!r}, quality {self.quality:g}{tuning}, model {self.info.model_id}>"

    def tuned(self, effort: int, trade: float = 1.0) -> Codec:
        """This codec with another default effort and trade; the networks are shared.

        Raises:
            ValueError: as `encode`.
        """
        self.transform.check_point(effort, trade)
        return self._at(self.point._replace(effort=effort, trade=trade))

    def at_quality(self, quality: float) -> Codec:
        """This codec with another quality of a model of many; the networks are shared.

        Raises:
            UnknownQualityError: the model has no such quality.
        """
        return self.at_number(quality_number(quality))

    def at_number(self, number: int | None) -> Codec:
        """`at_quality`, by the quality's number in files, 0..255; None: this codec.

        Raises:
            UnknownQualityError: the model has no such quality.
        """
        if number is None:
            return self
        if self.point.number is None:
            raise UnknownQualityError(
                f"model {self.info.name!r} has no qualities by number: {number}"
            )
        return self._at(self.point._replace(number=checked_number(number)))

    def encode(
        self, image: Picture, *, effort: int | None = None, trade: float | None = None
    ) -> bytes:
        """One image as a `.hvae` file.

        Raises:
            ImageError: the image cannot be taken (`AlphaError`, `ImageTooLargeError` among them).
            ValueError: no such effort, or a trade that is out of range or without an effort.
            CheckpointError: the model's card lacks what an effort above 0 needs.
        """
        prepared = [self.shape.prepare(as_uint8(image))]
        (batch,) = self.transform.encode(prepared, self._point(effort), trade)
        return self.file_coder.write(batch)[0]

    def encode_batch(
        self, images: Pictures, *, effort: int | None = None, trade: Trades | None = None
    ) -> list[bytes]:
        """Each image as a `.hvae` file of its own; many go through the networks at once.

        `trade` is one for all images, or one for each.

        Raises:
            ImageError, ValueError, CheckpointError: as `encode`; messages about an image say which
                it is.
        """
        batches = self.quantise(images, effort=effort, trade=trade)
        return in_order(batches, map(self.file_coder.write, batches))

    def encode_block(
        self, images: Pictures, *, effort: int | None = None, trade: float | None = None
    ) -> bytes:
        """Images of one size as one `.hvae` block: the fewest bytes, without random access.

        Raises:
            ImageError: as `encode`, and when there is no image or sizes or channels differ.
            ValueError, CheckpointError: as `encode`.
        """
        return self.file_coder.write(self.quantise_block(images, effort=effort, trade=trade))[0]

    def quantise(
        self, images: Pictures, *, effort: int | None = None, trade: Trades | None = None
    ) -> list[SymbolBatch]:
        """Images through the networks: the first half of `encode_batch`, whose second half is
        `file_coder.write`.

        Raises:
            ImageError, ValueError, CheckpointError: as `encode_batch`.
        """
        prepared = []
        for index, picture in enumerate(as_batch(images)):
            try:
                prepared.append(self.shape.prepare(picture))
            except ImageError as error:
                raise type(error)(f"image {index} of the batch: {error}") from error
        return self.transform.encode(prepared, self._point(effort), trade)

    def quantise_block(
        self, images: Pictures, *, effort: int | None = None, trade: float | None = None
    ) -> SymbolBatch:
        """Images of one size through the networks: the first half of `encode_block`.

        Raises:
            ImageError, ValueError, CheckpointError: as `encode_block`.
        """
        point = self._point(effort)
        if trade is not None:
            self.transform.check_point(point.effort, trade)
            point = point._replace(trade=trade)
        return self.transform.encode_block(self.shape.prepare_block(images), point)

    def decode(self, blob: Encoded, *, partial: bool = False) -> Pixels:
        """The image uint8 [H, W, C] of a `.hvae` file; C is 1 if it was grey, else 3.

        With `partial`, a file that is cut off or damaged behind the top layer, which has a check
        sum of its own, gives its preview.

        Raises:
            BitstreamError: the bytes are not such a file (`NotAnHvaeFileError`), of another model
                (`WrongModelError`) or version, damaged (`CorruptError`) or cut (`TruncatedError`).
        """
        blob = as_file(blob)
        try:
            return self._decode(blob, None)
        except CorruptError:
            if not partial:
                raise
        return self.preview(blob)

    def preview(self, blob: Encoded) -> Pixels:
        """The image that the top layer alone stands for, uint8 [H, W, C], of a file or its start.

        Raises:
            BitstreamError: as `decode`, for the part that is read.
        """
        return self._decode(as_file(blob), 1)

    def decode_rows(self, blob: Encoded, *, preview: bool = False) -> Iterator[Pixels]:
        """`decode` (or `preview`) in strips uint8 [h, W, C] from the top.

        The image never lies in memory whole, which matters from some ten megapixels on. All
        checks are done before this returns.

        Raises:
            BitstreamError: as `decode`.
        """
        return self.transform.decode_rows(as_file(blob), 1 if preview else None)[1]

    def decode_batch(self, blobs: Iterable[Encoded]) -> Pixels | list[Pixels]:
        """The images of many `.hvae` files: uint8 [N, H, W, C] if all have one shape, else a
        list.

        Raises:
            BitstreamError: as `decode`; the message says which file.
        """
        pictures = self.images_of(self.file_coder.read(as_files(blobs)))
        same = len({picture.shape for picture in pictures}) == 1
        return np.stack(pictures) if same else pictures

    def decode_block(self, blob: Encoded) -> Pixels:
        """The images uint8 [N, H, W, C] of a `.hvae` block.

        Raises:
            BitstreamError: as `decode`.
        """
        return np.stack(self.images_of([self.file_coder.read_block(as_file(blob))]))

    def images_of(self, batches: Sequence[SymbolBatch]) -> list[Pixels]:
        """The images uint8 [H, W, C] of symbols, in order of their numbers: the second half of
        `decode_batch` and `decode_block`, or of `preview` where they have one layer.

        Raises:
            HvaeCodecError: they are no list of `SymbolBatch`.
        """
        batches = checked_batches(batches)
        if not batches:
            return []
        decoded = self.transform.decode(batches)
        return [decoded[position] for position in order_of(batches)]

    def sample(
        self,
        count: int,
        seed: int = 0,
        temperature: float = 1.0,
        *,
        top: NDArray[np.floating] | None = None,
    ) -> Pixels:
        """Images drawn from the model's prior, uint8 [count, H, W, C].

        Equal arguments give equal images. `temperature` scales the prior's standard deviations.
        `top` [count, D] or [D] are the top layer's latents, such as `features` gives; the layers
        below it are drawn given them. Fully convolutional models take no `top`.

        Raises:
            HvaeCodecError: count < 1, a negative seed, a temperature that is negative or not
                finite, others than numbers, or latents of another shape or not finite.
        """
        count, seed, temperature = sample_arguments(count, seed, temperature)
        return self.transform.sample(count, self.point, seed=seed, temperature=temperature, top=top)

    def information_bits(self, images: Pictures) -> NDArray[np.float64]:
        """Information content under the tables, in bits per layer (top first), float64 [N, L].

        Raises:
            ImageError: as `encode_batch`, or an image is not of the model's size.
        """
        prepared = [self.shape.prepare(picture)[0] for picture in as_batch(images)]
        return self.transform.information_bits(prepared, self.point)

    def reference(self, images: Pixels) -> Pixels:
        """What a perfect decoder would give for uint8 images: themselves, binarised if the
        model's are.

        Raises:
            ImageError: it is no array of numbers.
        """
        try:
            copied = torch.from_numpy(np.array(images))  # it may be read-only
        except (TypeError, ValueError, RuntimeError) as error:
            raise ImageError(f"images must be a uint8 array; got {shown(images)}") from error
        pixels = self.model.likelihood.pixels(copied, torch.float32)
        return (pixels * 255.0).round().to(torch.uint8).numpy()

    def computed_pixels(self, height: int, width: int) -> int:
        """Pixels that the networks compute of an image: those of all its tiles, or of the image
        padded.
        """
        rows, columns = self.file_coder.form.padded(height, width)
        return rows * columns

    def picture_shape(self, blob: Encoded) -> tuple[int, int, int, int]:
        """(height, width, channels, images) that a file's header states; no check sum is
        verified.

        Raises:
            BitstreamError: the header cannot be read or is of another model.
        """
        return self.stated_shape(read_header(as_file(blob)))

    def stated_shape(self, header: Header) -> tuple[int, int, int, int]:
        """`picture_shape` of a file whose header has been read.

        Raises:
            BitstreamError: it is of another model. HvaeCodecError: it is no header.
        """
        if not isinstance(header, Header):
            raise HvaeCodecError(
                f"a header is what `read_header` returns; got {type(header).__name__}"
            )
        own_id = self.file_coder.model_id
        if header.model_id != own_id:
            raise WrongModelError(
                f"the file is of model {header.model_id.hex()}, not {own_id.hex()}"
            )
        return self.shape.stated(header)

    def _at(self, point: OperatingPoint) -> Codec:
        if point == self.point:
            return self
        other = copy(self)
        other.point = point
        return other

    def _point(self, effort: int | None) -> OperatingPoint:
        """The codec's own point with this effort (None: its own)."""
        return self.point if effort is None else self.point._replace(effort=effort)

    def _decode(self, file: bytes, layers: int | None) -> Pixels:
        height, rows = self.transform.decode_rows(file, layers)
        return assembled(rows, height)


def checked_codec(given: object) -> Codec:
    """A codec that a caller gave. Raises HvaeCodecError for anything else, such as a name."""
    if isinstance(given, Codec):
        return given
    kind = f"{type(given).__name__} {shown(given)}"
    raise HvaeCodecError(f"a codec is needed, as `hvae_codec.load` returns it; got {kind}")

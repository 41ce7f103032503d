"""The codec: pictures to bytes and back, z2 as features, previews and samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray

from hvae_codec.codec.arguments import finite, real, whole
from hvae_codec.codec.checkpoint import Checkpoint, ModelInfo, model_info, rate_weight
from hvae_codec.codec.container import (
    MAX_TILES,
    pack,
    tiles_of,
    unpack,
    unpack_many,
    unpack_runs,
)
from hvae_codec.codec.effort import EncoderSearch, per_tile
from hvae_codec.codec.encoded import Encoded, as_file, as_files, one_or_more
from hvae_codec.codec.entropy import EntropyCoding, Part, TileEntropy, in_order, refuse_block
from hvae_codec.codec.format import Header, read_header
from hvae_codec.codec.images import Picture, as_batch, as_uint8
from hvae_codec.codec.latents import Features, averaged, none_of
from hvae_codec.codec.networks import Networks, Refine
from hvae_codec.codec.references import ByReference
from hvae_codec.codec.streaming import picture_rows, symbols_of
from hvae_codec.codec.tables import Int32Array
from hvae_codec.codec.tiling import assembled, coding_rmse_of, merge, split_all, tile_grid
from hvae_codec.errors import (
    CorruptError,
    HvaeCodecError,
    ImageError,
    UnknownQualityError,
    WrongModelError,
)
from hvae_codec.models.hvae import HierarchicalVAE
from hvae_codec.models.inference import loading

Pixels = NDArray[np.uint8]
Pictures = Pixels | torch.Tensor | Iterable[Picture]


@dataclass(frozen=True)
class Block:
    """Pictures of one size between the networks and the bytes.

    header: their size (filled in), number and whether they were grey.
    symbols: int32 [T, D_l] a layer, top first, the tiles of one picture after those of another.
    """

    header: Header
    symbols: list[Int32Array]

    def select(self, pictures: Sequence[int] | NDArray[np.integer]) -> Block:
        """The block of the pictures at these positions, each in 0..count-1, in this order."""
        rows = np.asarray(pictures, np.intp)
        each = [layer.reshape(self.header.count, -1, layer.shape[1]) for layer in self.symbols]
        chosen = [layer[rows].reshape(-1, layer.shape[2]) for layer in each]
        return Block(replace(self.header, count=len(pictures)), chosen)


class Codec(ByReference):
    """A trained model as a codec. It keeps no state between calls, so threads may share it.

    Pickled, it is the name of what it was loaded from and its model's id; a process that unpickles
    it loads that.

    A picture is a uint8 array [H, W], [H, W, 1] or [H, W, 3], a PIL image, a path, or a torch uint8
    tensor [C, H, W]; many pictures are an array [N, H, W, C], a tensor [N, C, H, W] or a list of
    pictures of any sizes. A picture larger than the model's own size is cut into tiles, the last
    ones padded by repeating the edge. A colour model codes a grey picture as colour and gives it
    back grey; a grey model refuses colour.

    A file is given as its bytes in any buffer or uint8 array, or by its path.

    Encoding takes an `effort`: 0 rounds what the networks say; 1 and 2 search for symbols that give
    a better picture for fewer bytes (`hvae_codec.codec.effort`), at more time. With effort above 0,
    `trade` steers that search: 2 asks for fewer bytes (each is to save twice as much distortion),
    0.5 for a better picture. Files of any effort are decoded alike.
    """

    effort = 0
    trade = 1.0
    settings: tuple[str, ...] = ("effort", "trade")

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self.info: ModelInfo = model_info(checkpoint.card)
        model, tables = checkpoint.of_one_size
        self.networks = Networks(model, tables)
        self._id = checkpoint.model_id
        self._channels, height, width = checkpoint.model.spec.image_shape
        self._tile = (height, width)
        self._tiles = TileEntropy(tables, self._id, self._tile)
        self._coding_rmse = coding_rmse_of(self.info.psnr_db)

    @property
    def checkpoint(self) -> Checkpoint:
        """What the codec was opened from, which can be sent to other processes."""
        return self._checkpoint

    @property
    def entropy(self) -> EntropyCoding:
        """The half that needs no network, which can be sent to other processes."""
        return self._tiles

    @property
    def number(self) -> int | None:
        """The quality's number in files, 0..255; None for a model of one quality."""
        return None

    @property
    def model(self) -> HierarchicalVAE:
        """The model itself, in evaluation mode."""
        return self.networks.model

    def tuned(self, effort: int, trade: float = 1.0) -> Codec:
        """This codec with another default effort and trade; the networks are shared.

        Raises:
            ValueError: as `encode`.
        """
        other = copy(self)
        other.effort, other.trade = effort, trade
        other._refine(effort, trade, [])
        return other

    def encode(
        self, image: Picture, *, effort: int | None = None, trade: float | None = None
    ) -> bytes:
        """One picture as a `.hvae` file.

        Raises:
            ImageError: the picture cannot be taken (`AlphaError`, `ImageTooLargeError` among them).
            ValueError: no such effort, or a trade that is out of range or without an effort.
            CheckpointError: the model's card lacks what an effort above 0 needs.
        """
        (part,) = self._parts([self._model_picture(as_uint8(image))], effort, trade)
        return self.entropy.write(part)[0]

    def encode_batch(
        self,
        images: Pictures,
        *,
        effort: int | None = None,
        trade: float | Sequence[float] | None = None,
    ) -> list[bytes]:
        """Each picture as a `.hvae` file of its own; many go through the networks at once.

        `trade` is one for all pictures, or one for each.

        Raises:
            ImageError, ValueError, CheckpointError: as `encode`; messages about a picture say which
            it is.
        """
        parts = self.quantise(images, effort=effort, trade=trade)
        return in_order((part.numbers, self.entropy.write(part)) for part in parts)

    def quantise(
        self,
        images: Pictures,
        *,
        effort: int | None = None,
        trade: float | Sequence[float] | None = None,
    ) -> list[Part]:
        """Pictures through the networks: the first half of `encode_batch`, whose second half is
        `entropy.write`.

        Raises:
            ImageError, ValueError, CheckpointError: as `encode_batch`.
        """
        pictures = []
        for index, picture in enumerate(as_batch(images)):
            try:
                pictures.append(self._model_picture(picture))
            except ImageError as error:
                raise type(error)(f"picture {index} of the batch: {error}") from error
        return self._parts(pictures, effort, trade)

    def encode_block(
        self, images: Pictures, *, effort: int | None = None, trade: float | None = None
    ) -> bytes:
        """Pictures of one size as one `.hvae` block: the fewest bytes, without random access.

        Raises:
            ImageError: as `encode`, and when there is no picture or sizes or channels differ.
            ValueError, CheckpointError: as `encode`.
        """
        return self.write_block(self.block(images, effort=effort, trade=trade))

    def block(
        self, images: Pictures, *, effort: int | None = None, trade: float | None = None
    ) -> Block:
        """Pictures of one size through the networks: the first half of `encode_block`.

        Raises:
            ImageError: as `encode_block`.
        """
        header, tiles = self._block_tiles(images)
        return Block(
            header, self.networks.symbols(tiles, self._refine(effort, trade, [len(tiles)]))
        )

    def write_block(self, block: Block) -> bytes:
        """The second half of `encode_block`: entropy coding, without the networks."""
        header = block.header
        assert header.width is not None
        assert header.height is not None
        return pack(
            self._tiles.coder,
            self._id,
            block.symbols,
            tile=self._tile,
            width=header.width,
            height=header.height,
            count=header.count,
            grey=header.grey,
            block=True,
        )

    def decode(self, blob: Encoded, *, partial: bool = False) -> Pixels:
        """The picture uint8 [H, W, C] of a `.hvae` file; C is 1 if it was grey, else 3.

        With `partial`, a file that is cut off or damaged behind z2 gives its preview, which z2's
        own check sum vouches for; without, and where z2 is not whole, that is an error.

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

    def decode_rows(self, blob: Encoded, *, preview: bool = False) -> Iterator[Pixels]:
        """`decode` (or `preview`) in strips uint8 [h, W, C] from the top, a row of tiles each.

        The picture never lies in memory whole, which matters from some ten megapixels on. All
        checks are done before this returns.

        Raises:
            BitstreamError: as `decode`.
        """
        return self._rows(as_file(blob), 1 if preview else None)[1]

    def decode_batch(self, blobs: Iterable[Encoded]) -> Pixels | list[Pixels]:
        """The pictures of many `.hvae` files: uint8 [N, H, W, C] if all have one shape, else a
        list.

        Raises:
            BitstreamError: as `decode`; the message says which file.
        """
        pictures = self.pictures_of(self.entropy.read(as_files(blobs)))
        same = len({picture.shape for picture in pictures}) == 1
        return np.stack(pictures) if same else pictures

    def pictures_of(self, parts: Sequence[Part]) -> list[Pixels]:
        """The pictures uint8 [H, W, C] of parts that `entropy.read` gave, in order of their
        numbers: the second half of `decode_batch`, or of `preview` where they have one layer.
        """
        return in_order(
            (part.numbers, self._pictures(part.headers, self.networks.tiles(part.symbols)))
            for part in parts
        )

    def features_of(self, parts: Sequence[Part]) -> list[Features]:
        """The latents of parts that `entropy.read` gave, in order of their numbers: the second half
        of `layer_features_from_bytes`.
        """
        (part,) = parts
        tiles = [tiles_of(header, self._tile) for header in part.headers]
        return averaged(self.networks.latents(part.symbols), tiles)

    def decode_block(self, blob: Encoded) -> Pixels:
        """The pictures uint8 [N, H, W, C] of a `.hvae` block.

        Raises:
            BitstreamError: as `decode`.
        """
        return np.stack(self.block_pictures([self.read_block(blob)]))

    def read_block(self, blob: Encoded, layers: int | None = None) -> Block:
        """The first half of `decode_block`: all checks and entropy decoding, without the networks.

        layers 1: z2 alone, verified by its own check; what follows may be cut off or damaged. With
        more, the file must be whole.

        Raises:
            BitstreamError: as `decode`.
        """
        file = as_file(blob)
        return Block(*unpack(self._tiles.coder, self._id, file, tile=self._tile, layers=layers))

    def block_pictures(self, blocks: Sequence[Block]) -> list[Pixels]:
        """The pictures of one or more blocks, all through the networks together."""
        layers = zip(*(block.symbols for block in blocks), strict=True)
        tiles = self.networks.tiles([np.concatenate(layer) for layer in layers])
        return self._pictures(_each_header(blocks), tiles)

    def block_features(self, blocks: Sequence[Block]) -> list[Features]:
        """The latents as they were coded, of each picture of one or more blocks, float32 [N, D_l]
        for each layer whose symbols the blocks hold, top first.
        """
        layers = zip(*(block.symbols for block in blocks), strict=True)
        moments = self.networks.latents([np.concatenate(layer) for layer in layers])
        return averaged(moments, [tiles_of(h, self._tile) for h in _each_header(blocks)])

    def symbols(self, blobs: Iterable[Encoded]) -> list[Int32Array]:
        """The integer symbols of many files, int32 [T, D_l] a layer, top first, T tiles in all.

        No network takes part: these are equal on every machine.

        Raises:
            BitstreamError: as `decode_batch`.
        """
        files = as_files(blobs)
        if not files:
            return [np.zeros((0, dims), dtype=np.int32) for dims in self.info.z_dims]
        return unpack_many(self._tiles.coder, self._id, files, tile=self._tile)[1]

    def preview(self, blob: Encoded) -> Pixels:
        """The picture that z2 alone stands for, uint8 [H, W, C]; the file may be cut off behind z2.

        Raises:
            BitstreamError: as `decode`, for the part that is read.
        """
        return self._decode(as_file(blob), 1)

    def features(self, images: Pictures) -> Features:
        """Mean and standard deviation of q(z2|x) of N pictures, float32 [N, D] each.

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
        layers = self._layers(layers)
        pictures = [self._model_picture(picture)[0] for picture in as_batch(images)]
        if not pictures:
            return none_of(self.info.z_dims[:layers])
        moments = self.networks.posteriors(split_all(pictures, self._tile), layers)
        counts = [math.prod(tile_grid(len(p), p.shape[1], self._tile)) for p in pictures]
        return averaged(moments, counts)

    def features_from_bytes(self, blobs: Encoded | Iterable[Encoded]) -> Features:
        """z2 as it was coded, and its standard deviation under quantisation, of one or many files.

        Only the first bytes of each file are read; it may be cut off behind z2.

        Raises:
            BitstreamError: as `decode`, for the part that is read.
        """
        return self.layer_features_from_bytes(blobs, 1)[0]

    def layer_features_from_bytes(
        self, blobs: Encoded | Iterable[Encoded], layers: int | None = None
    ) -> list[Features]:
        """`features_from_bytes` of the first `layers` layers (None: all), top first.

        No picture is decoded: z2 takes no network, a layer below it the priors down to its own.
        With more than one layer the files must be whole.

        Raises:
            BitstreamError: as `decode`, for the part that is read. ValueError: there are not so
                many layers.
        """
        layers = self._layers(layers)
        files = one_or_more(blobs)
        if not files:
            return none_of(self.info.z_dims[:layers])
        return self.features_of(self.entropy.read(files, layers))

    def sample(
        self,
        count: int,
        seed: int = 0,
        temperature: float = 1.0,
        *,
        top: NDArray[np.floating] | None = None,
    ) -> Pixels:
        """Pictures drawn from the model's prior, uint8 [count, H, W, C].

        Equal arguments give equal pictures. `temperature` scales the prior's standard deviations.
        `top` [count, D] or [D] are the top layer's latents, such as `features` gives; the layers
        below it are drawn given them.

        Raises:
            HvaeCodecError: count < 1, a negative seed, a temperature that is negative or not
                finite, others than numbers, or latents of another shape or not finite.
        """
        count, seed, temperature = sample_arguments(count, seed, temperature)
        if top is None:
            return self.networks.sample(count, seed=seed, temperature=temperature)
        dims = self.info.z_dims[0]
        given = finite("top", top)
        if given.shape not in {(dims,), (count, dims)}:
            raise HvaeCodecError(
                f"top: need latents of shape [{dims}] or [{count}, {dims}], got {list(given.shape)}"
            )
        given = np.array(np.broadcast_to(given, (count, dims)))  # torch takes no read-only views
        return self.networks.sample(count, seed=seed, temperature=temperature, top=given)

    def information_bits(self, images: Pictures) -> NDArray[np.float64]:
        """Information content under the tables, in bits per layer (top first), float64 [N, L].

        Raises:
            ImageError: as `encode_batch`, or a picture is not of the model's size.
        """
        pictures = [self._model_picture(picture)[0] for picture in as_batch(images)]
        if any(picture.shape[:2] != self._tile for picture in pictures):
            raise ImageError(
                f"pictures must be of the model's size, {self._tile[1]}x{self._tile[0]}"
            )
        return self._tiles.tables.information_bits(self.networks.symbols(np.stack(pictures)))

    def reference(self, images: Pixels) -> Pixels:
        """What a perfect decoder would give for uint8 pictures: themselves, binarised if the
        model's are.
        """
        copied = torch.from_numpy(np.array(images))  # it may be read-only
        pixels = self.model.likelihood.pixels(copied, torch.float32)
        return (pixels * 255.0).round().to(torch.uint8).numpy()

    @property
    def most_block_tiles(self) -> int:
        """Tiles of a block below which one more picture of its size still fits into it."""
        return MAX_TILES // 2

    def check_channels(self, channels: int) -> None:
        """Raises ImageError unless the model can code pictures of so many channels."""
        if channels not in (1, self._channels):
            raise ImageError(
                f"model {self.info.name!r} codes grey pictures; got {channels} channels: "
                "convert to grey first"
            )

    def picture_shape(self, blob: Encoded) -> tuple[int, int, int, int]:
        """(height, width, channels, pictures) that a file's header states; no check sum is
        verified.

        Raises:
            BitstreamError: the header cannot be read or is of another model.
        """
        return self.stated_shape(read_header(as_file(blob)))

    def stated_shape(self, header: Header) -> tuple[int, int, int, int]:
        """`picture_shape` of a file whose header has been read.

        Raises:
            BitstreamError: it is of another model.
        """
        if header.model_id != self._id:
            raise WrongModelError(
                f"the file is of model {header.model_id.hex()}, not {self._id.hex()}"
            )
        height, width = header.height or self._tile[0], header.width or self._tile[1]
        return height, width, 1 if header.grey else self._channels, header.count

    def _layers(self, layers: int | None) -> int:
        total = len(self.info.z_dims)
        if layers is None:
            return total
        if not (isinstance(layers, int | np.integer) and 1 <= layers <= total):
            raise UnknownQualityError(f"layers must lie in 1..{total}, not {layers!r}")
        return int(layers)

    def _block_tiles(self, images: Pictures) -> tuple[Header, Pixels]:
        """What a block of these pictures says of itself, and their tiles."""
        if self._is_tiles(images):  # nothing to check or copy picture by picture
            return Header(self._id, self._tile[1], self._tile[0], len(images), block=True), images
        pictures = as_batch(images)
        shapes = sorted({picture.shape for picture in pictures})
        if len(shapes) != 1:
            found = ", ".join(map(str, shapes)) or "no picture"
            raise ImageError(f"a block holds one or more pictures of one shape; got {found}")
        prepared, grey = zip(*(self._model_picture(picture) for picture in pictures), strict=True)
        height, width, _ = shapes[0]
        header = Header(self._id, width, height, len(pictures), grey=grey[0], block=True)
        return header, split_all(prepared, self._tile)

    def _is_tiles(self, images: Pictures) -> TypeGuard[Pixels]:
        """Whether these are pictures of the model's size and channels in one array."""
        return (
            type(images) is np.ndarray  # masks of some kinds of them are not to be dropped
            and images.dtype == np.uint8
            and images.shape[1:] == (*self._tile, self._channels)
            and len(images) > 0
            and images.flags.c_contiguous
        )

    def _model_picture(self, picture: Pixels) -> tuple[Pixels, bool]:
        """The picture with the model's number of channels, and whether it was grey for a colour
        model.
        """
        channels = picture.shape[2]
        self.check_channels(channels)
        if channels == self._channels:
            return picture, False
        return np.broadcast_to(picture, (*picture.shape[:2], self._channels)), True

    def _parts(
        self,
        pictures: list[tuple[Pixels, bool]],
        effort: int | None,
        trade: float | Sequence[float] | None,
    ) -> list[Part]:
        counts = [math.prod(tile_grid(len(p), p.shape[1], self._tile)) for p, _ in pictures]
        refine = self._refine(effort, trade, counts)
        if not pictures:
            return []
        headers = [
            Header(self._id, picture.shape[1], picture.shape[0], grey=grey)
            for picture, grey in pictures
        ]
        symbols: Sequence[NDArray[np.integer]]
        if len(pictures) == 1 and counts[0] > 1:
            tables = self._tiles.tables
            symbols = symbols_of(self.networks, tables, pictures[0][0], self._tile, refine)
        else:
            tiles = split_all([picture for picture, _ in pictures], self._tile)
            symbols = self.networks.symbols(tiles, refine)
        return [Part(range(len(pictures)), headers, symbols)]

    @cached_property
    @loading
    def _search(self) -> EncoderSearch:
        return EncoderSearch(*self._checkpoint.of_one_size, rate_weight(self._checkpoint.card))

    def _refine(
        self, effort: int | None, trade: float | Sequence[float] | None, tiles: Sequence[int]
    ) -> Refine | None:
        """What is done to the rounded symbols of pictures of so many tiles each."""
        if effort is None:
            effort = self.effort
        if effort == 0 and trade is None:
            return None
        if trade is None:
            trade = self.trade
        trades = per_tile(effort, trade, tiles)
        return None if effort == 0 else partial(self._search.improve_part, effort, trades)

    def _decode(self, blob: bytes, layers: int | None) -> Pixels:
        height, rows = self._rows(blob, layers)
        return assembled(rows, height)

    def _rows(self, blob: bytes, layers: int | None) -> tuple[int, Iterator[Pixels]]:
        """Height and strips of a picture, from its first layers."""
        header, runs = unpack_runs(
            self._tiles.coder, self._id, blob, tile=self._tile, layers=layers
        )
        refuse_block(header)
        assert header.height is not None
        assert header.width is not None
        rows = picture_rows(
            self.networks, runs, header.height, header.width, self._tile, self._coding_rmse
        )
        return header.height, map(as_grey, rows) if header.grey else rows

    def _pictures(self, headers: Sequence[Header], tiles: Pixels) -> list[Pixels]:
        if all((h.height, h.width) == self._tile and not h.grey for h in headers):
            return list(tiles)
        pictures, end = [], 0
        for header in headers:
            start, end = end, end + tiles_of(header, self._tile)
            pictures.append(self._picture(header, tiles[start:end]))
        return pictures

    def _picture(self, header: Header, tiles: Pixels) -> Pixels:
        assert header.height is not None
        assert header.width is not None
        picture = merge(tiles, header.height, header.width, self._coding_rmse)
        return as_grey(picture) if header.grey else picture


def sample_arguments(count: Any, seed: Any, temperature: Any) -> tuple[int, int, float]:
    """Arguments of `sample` as Python's own numbers. Raises HvaeCodecError for others."""
    number, start = whole("count", count), whole("seed", seed)
    if not (number >= 1 and 0 <= start < 2**63):
        raise HvaeCodecError(
            f"count must be at least 1 and seed in 0..2^63-1; got {count!r}, {seed!r}"
        )
    scale = real("temperature", temperature)
    if not 0.0 <= scale < math.inf:
        raise HvaeCodecError(f"temperature must be finite and at least 0; got {temperature!r}")
    return number, start, scale


def _each_header(blocks: Sequence[Block]) -> list[Header]:
    """A header for every picture of the blocks."""
    headers: list[Header] = []
    for block in blocks:
        headers += [replace(block.header, count=1)] * block.header.count
    return headers


def as_grey(picture: Pixels) -> Pixels:
    """The mean of the channels, [H, W, 1], halves rounded up."""
    channels = picture.shape[2]
    total = picture.sum(axis=2, keepdims=True, dtype=np.uint16) + channels // 2
    grey: Pixels = (total // channels).astype(np.uint8)
    return grey

"""Images in arrays of zarr 3: a codec that turns chunks into `.hvae` files and blocks.

    import zarr
    from hvae_codec.stores.zarr import HvaeCodec

    array = zarr.create_array(
        "images.zarr", shape=(50_000, 32, 32, 3), chunks=(500, 32, 32, 3), dtype="uint8",
        serializer=HvaeCodec("cifar10", quality=3), compressors=None,
    )

Arrays are uint8 [..., H, W, 3], or [..., H, W, 1] for grey; a chunk holds one or more images or
parts of them. zarr finds the codec by its name where this package is installed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from hvae_codec.codec.images.limits import check_size
from hvae_codec.codec.registry import chosen_info
from hvae_codec.errors import ImageError, MissingDependencyError
from hvae_codec.stores.chunks import (
    ALLOWED,
    check_chunk,
    check_stated,
    decode_chunks,
    encode_chunks,
)
from hvae_codec.stores.model_reference import ModelReference

try:
    from zarr.abc.codec import ArrayBytesCodec
    from zarr.core.common import parse_named_configuration
except ImportError as error:
    raise MissingDependencyError(
        "the codec for zarr needs zarr 3: pip install 'hvae-codec[stores]'"
    ) from error

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer
    from zarr.core.chunk_grids import ChunkGrid
    from zarr.core.dtype.wrapper import TBaseDType, TBaseScalar, ZDType

    from hvae_codec.codec.codec import Codec

NAME = "hvae_codec"
"""Of the codec, in the metadata of arrays."""

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class HvaeCodec(ModelReference, ArrayBytesCodec):
    """A lossy codec of images for `serializer=` of an array.

    Trailing images of a chunk that are all fill value are not coded, nor, with a fully
    convolutional model, trailing rows and columns: they come back as they were. So the padding of
    chunks at the array's ends damages no image. With tiled models the height and width of chunks
    divide those of the array.

    Writing a part of a chunk codes all of it again, which costs quality: write whole chunks.

    The metadata hold model, quality, effort and the model's id. A reader with other weights cannot
    open the array. Errors of chunks name codec and model.

    Args:
        model: name of an available model, see `hvae_codec.models()`.
        quality, effort: as `hvae_codec.load` takes them.
        model_id: of the model's weights, as metadata state it.

    Raises:
        UnknownModelError, UnknownQualityError: there is no such model or quality.
        WrongModelError: the model here has another id. ImageError: when an array is created whose
            dtype, shape or chunks do not suit.
    """

    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The codec that an array's metadata state. Raises as the class, and HvaeCodecError."""
        _, configuration = parse_named_configuration(data, NAME)
        return cls.of_settings(configuration)

    def to_dict(self) -> dict[str, Any]:
        """What the metadata hold."""
        return {"name": NAME, "configuration": self.settings}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Sizes vary: raise NotImplementedError, as zarr asks."""
        raise NotImplementedError

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        """This codec; zarr asks also codecs within shards, which it does not `validate`.

        Raises:
            ImageError: arrays of this dtype and shape are not coded.
        """
        check_chunk(array_spec.dtype.to_native_dtype(), array_spec.shape)
        own = chosen_info(self.model, self.quality).image_shape[0]
        if array_spec.shape[-1] not in (1, own):
            raise ImageError(
                f"model {self.model!r} codes grey images, [..., H, W, 1]; got an array "
                f"{list(array_spec.shape)}"
            )
        return self

    def validate(
        self,
        *,
        shape: tuple[int, ...],
        dtype: ZDType[TBaseDType, TBaseScalar],
        chunk_grid: ChunkGrid,
    ) -> None:
        """Check an array's chunks. Raises ImageError where they do not suit."""
        chunks = getattr(chunk_grid, "chunk_shape", None)
        if chunks is None:
            raise ImageError(f"chunks are of one shape; got {type(chunk_grid).__name__}")
        if len(chunks) != len(shape) or chunks[-1] != shape[-1]:
            raise ImageError(
                f"{ALLOWED}: a chunk has all channels; got chunks {list(chunks)} of an array "
                f"{list(shape)}"
            )
        check_size(chunks[-2], chunks[-3])
        if self._is_tiled and any(s % c for s, c in zip(shape[-3:-1], chunks[-3:-1], strict=True)):
            raise ImageError(
                f"with model {self.model!r} the height and width of chunks divide those of the "
                f"array; got chunks {list(chunks)} of an array {list(shape)}"
            )

    async def encode(
        self, chunks_and_specs: Iterable[tuple[NDBuffer | None, ArraySpec]]
    ) -> list[Buffer | None]:
        """Code many chunks; None stays None.

        Raises:
            HvaeCodecError: as `Codec.encode`, naming codec and model.
        """
        return await _of_those_there(self._encode_all, chunks_and_specs)

    async def decode(
        self, chunks_and_specs: Iterable[tuple[Buffer | None, ArraySpec]]
    ) -> list[NDBuffer | None]:
        """Decode many chunks; None stays None. Sizes are checked before any is decoded.

        Raises:
            BitstreamError: as `Codec.decode`, or a chunk states another size; naming codec and
                model.
        """
        return await _of_those_there(self._decode_all, chunks_and_specs)

    @property
    def _is_tiled(self) -> bool:
        return not chosen_info(self.model, self.quality).continuous

    def _encode_all(self, given: Sequence[tuple[NDBuffer, ArraySpec]]) -> list[Buffer]:
        with self.named_in_errors(f"zarr codec {NAME!r}"):
            images = [
                _without_fill(chunk.as_numpy_array(), spec.fill_value, spatial=not self._is_tiled)
                for chunk, spec in given
            ]
            blobs = encode_chunks(self.open(), images)
        return [
            spec.prototype.buffer.from_bytes(blob)
            for blob, (_, spec) in zip(blobs, given, strict=True)
        ]

    def _decode_all(self, given: Sequence[tuple[Buffer, ArraySpec]]) -> list[NDBuffer]:
        blobs = [chunk.to_bytes() for chunk, _ in given]
        specs = [spec for _, spec in given]
        with self.named_in_errors(f"zarr codec {NAME!r}"):
            codec = self.open()
            self._check_all(codec, blobs, specs)
            decoded = decode_chunks(codec, blobs)
        return [
            spec.prototype.nd_buffer.from_numpy_array(_with_fill(images, spec))
            for images, spec in zip(decoded, specs, strict=True)
        ]

    def _check_all(self, codec: Codec, blobs: list[bytes], specs: list[ArraySpec]) -> None:
        for blob, spec in zip(blobs, specs, strict=True):
            check_stated(codec, blob, spec.shape, smaller=not self._is_tiled, fewer=True)


async def _of_those_there(
    code: Callable[[Sequence[tuple[_Given, ArraySpec]]], list[_Made]],
    given: Iterable[tuple[_Given | None, ArraySpec]],
) -> list[_Made | None]:
    """What `code` makes, in a thread, of the chunks that are not None; None for the others."""
    pairs = list(given)
    there = [(chunk, spec) for chunk, spec in pairs if chunk is not None]
    made = iter(await asyncio.to_thread(code, there) if there else [])
    return [None if chunk is None else next(made) for chunk, _ in pairs]


def _without_fill(chunk: NDArray[np.uint8], fill: int, *, spatial: bool) -> NDArray[np.uint8]:
    """The images [N, H, W, C] of a chunk up to the last that is not all fill value; if `spatial`,
    their rows and columns too. At least one image of one pixel is left.
    """
    images = chunk.reshape(-1, *chunk.shape[-3:])
    written = (images != fill).any(axis=-1)
    axes = range(3 if spatial else 1)
    for axis in axes:
        others = tuple({0, 1, 2} - {axis})
        last = np.flatnonzero(written.any(axis=others))
        images = images.take(range(last[-1] + 1 if len(last) else 1), axis=axis)
    return images


def _with_fill(images: NDArray[np.uint8], spec: ArraySpec) -> NDArray[np.uint8]:
    """Images as the first of a chunk whose other values are the fill value."""
    *lead, height, width, channels = spec.shape
    full = (prod(lead), height, width, channels)
    if images.shape == full:
        return images.reshape(spec.shape)
    chunk = np.full(full, spec.fill_value, np.uint8)
    count, rows, columns, _ = images.shape
    chunk[:count, :rows, :columns] = images
    return chunk.reshape(spec.shape)

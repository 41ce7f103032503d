"""Images in chunks of zarr's version 2 format, and of others who use numcodecs.

    import zarr
    from hvae_codec.stores.numcodecs import HvaeNumcodec

    array = zarr.create_array(
        "images.zarr", shape=(50_000, 32, 32, 3), chunks=(500, 32, 32, 3), dtype="uint8",
        zarr_format=2, compressors=HvaeNumcodec("cifar10", quality=3),
    )

A chunk is a `.hvae` file or block: `.hvae` files that are there already can be the chunks of an
array, by references as kerchunk writes them.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hvae_codec.errors import CorruptError, ImageError, MissingDependencyError
from hvae_codec.stores.chunks import ALLOWED, check_chunk, decode_chunks, encode_chunks
from hvae_codec.stores.model_reference import ModelReference

try:
    from numcodecs.abc import Codec as Numcodec
    from numcodecs.compat import ensure_bytes, ensure_contiguous_ndarray
except ImportError as error:
    raise MissingDependencyError(
        "the codec for numcodecs needs numcodecs: pip install 'hvae-codec[stores]'"
    ) from error


class HvaeNumcodec(Numcodec):  # type: ignore[misc]
    """A lossy codec of chunks of images, uint8 [..., H, W, 3] or [..., H, W, 1].

    The configuration holds model, quality, effort and the model's id. Errors name codec and model.
    numcodecs knows neither the array's shape nor its fill value. So chunks whose height or width
    do not divide those of the array have their padding coded with the image.

    Args:
        model: name of an available model, see `hvae_codec.models()`.
        quality, effort: as `hvae_codec.load` takes them.
        model_id: of the model's weights, as a configuration states it.

    Raises:
        UnknownModelError, UnknownQualityError: there is no such model or quality.
        WrongModelError: the model here has another id.
    """

    codec_id = "hvae_codec"

    def __init__(
        self,
        model: str,
        quality: float | None = None,
        *,
        effort: int | None = None,
        model_id: str | None = None,
    ) -> None:
        self._reference = ModelReference(model, quality, effort, model_id)

    def get_config(self) -> dict[str, Any]:
        """What metadata hold."""
        return {"id": self.codec_id, **self._reference.settings}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The codec that metadata state. Raises as the class, and HvaeCodecError."""
        return cls(**ModelReference.of_settings(config).settings)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._reference.settings.items())
        return f"{type(self).__name__}({given})"

    def encode(self, buf: Any) -> bytes:
        """The `.hvae` file or block of a chunk, uint8 [..., H, W, C] in C order.

        Raises:
            ImageError: it is no such array. And as `Codec.encode`; naming codec and model.
        """
        with self._reference.named_in_errors(f"numcodecs codec {self.codec_id!r}"):
            if not isinstance(buf, np.ndarray):
                raise ImageError(f"{ALLOWED}; got {type(buf).__name__}, which has no shape")
            check_chunk(buf.dtype, buf.shape)
            if not buf.flags.c_contiguous:
                raise ImageError(
                    "chunks are in C order: of another one zarr would give the values back in "
                    'wrong places; create the array with order="C"'
                )
            (blob,) = encode_chunks(self._reference.open(), [buf])
        return blob

    def decode(self, buf: Any, out: Any = None) -> NDArray[np.uint8]:
        """The images of a chunk: uint8 [H, W, C] of a file, [N, H, W, C] of a block.

        With `out`, a buffer that can be written, they are put there and it is given back.

        Raises:
            CorruptError: the chunk states more or fewer bytes than `out` has; nothing is decoded.
            BitstreamError: as `Codec.decode`; naming codec and model.
        """
        blob = ensure_bytes(buf)
        with self._reference.named_in_errors(f"numcodecs codec {self.codec_id!r}"):
            codec = self._reference.open()
            height, width, channels, count = codec.picture_shape(blob)
            size = count * height * width * channels
            target = None if out is None else ensure_contiguous_ndarray(out)
            if target is not None and target.nbytes != size:
                raise CorruptError(
                    f"the chunk states {count} images {[height, width, channels]}, {size} bytes; "
                    f"the buffer for them has {target.nbytes}"
                )
            (images,) = decode_chunks(codec, [blob])
        if target is not None:
            target.view(np.uint8).reshape(-1)[:] = images.reshape(-1)
            return out  # type: ignore[no-any-return]
        return images[0] if len(images) == 1 else images

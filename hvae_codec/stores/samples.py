"""Fields of samples coded and decoded, for pipelines that map a function over samples.

    from hvae_codec.stores.samples import DecodeFields, EncodeFields

    litdata.optimize(EncodeFields(codec, "image"), samples, "images", chunk_bytes="64MB")
    litdata.StreamingDataset("images", transform=DecodeFields("image"))
    datasets.load_from_disk("images").with_transform(DecodeFields("image"))
    webdataset.WebDataset("images.tar").map(DecodeFields("hvae"), handler=warn_and_continue)

Both pickle by reference: weights are loaded in the process that uses them, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from hvae_codec.codec.bitstream.encoded import as_file
from hvae_codec.codec.bitstream.header import read_header
from hvae_codec.codec.codec import Codec, checked_codec
from hvae_codec.codec.registry import codec_for, decode
from hvae_codec.codec.transform import Pixels
from hvae_codec.errors import HvaeCodecError
from hvae_codec.utils.arguments import is_whole, shown


class _Fields(ABC):
    """A function of samples that changes some fields, in a copy.

    Args:
        fields: keys of a mapping, or positions in a tuple or list; at least one.

    Raises:
        HvaeCodecError: there is no field, or one of another kind.
    """

    def __init__(self, *fields: str | int) -> None:
        if not fields or not all(isinstance(field, str) or is_whole(field) for field in fields):
            raise HvaeCodecError(f"fields are names or positions, at least one; got {fields}")
        self.fields = fields

    def __call__(self, sample: Any) -> Any:
        """A dict of a mapping, else a tuple or list as the sample is.

        Raises:
            HvaeCodecError: the sample lacks a field, or is of another kind. And as what changes
                the field, naming it and the sample's `__key__`.
        """
        changed = _copied(sample)
        for field in self.fields:
            try:
                value = changed[field]
            except (KeyError, IndexError, TypeError) as error:
                there = ", ".join(map(str, changed)) if isinstance(changed, dict) else len(changed)
                raise HvaeCodecError(f"a sample lacks field {field!r}; it has {there}") from error
            try:
                changed[field] = self._changed(value)
            except HvaeCodecError as error:
                raise type(error)(f"{field_label(field, sample)}: {error}") from error
        return tuple(changed) if isinstance(sample, tuple) else changed

    @abstractmethod
    def _changed(self, value: Any) -> Any:
        """The new value of a field. Raises HvaeCodecError."""


class EncodeFields(_Fields):
    """Samples with the images of some fields as `.hvae` files, bytes.

    A sample is a mapping, a tuple or a list. A field holds an image, as `Codec.encode` takes it, a
    path among others; or the bytes of a `.hvae` file, which stay. A list of these, as in a batch of
    samples, is coded at once.

    Args:
        codec: as `hvae_codec.load` returns it.
        fields: keys of a mapping, or positions in a tuple or list; at least one.

    Raises:
        HvaeCodecError: it is no codec; there is no field, or one of another kind.
    """

    def __init__(self, codec: Codec, *fields: str | int) -> None:
        super().__init__(*fields)
        self.codec = checked_codec(codec)

    def _changed(self, value: Any) -> bytes | list[bytes]:
        if isinstance(value, list) and not any(isinstance(each, bytes) for each in value):
            return self.codec.encode_batch(value)
        if isinstance(value, list):
            return [encoded(self.codec, each) for each in value]
        return encoded(self.codec, value)


class DecodeFields(_Fields):
    """Samples with the `.hvae` files of some fields decoded, each to uint8 [H, W, C].

    A sample is a mapping, a tuple or a list. A field holds a file, as `hvae_codec.decode` takes it,
    or what `Image(decode=False)` of Hugging Face gives. A list of these, as in a batch of samples,
    is decoded at once.

    Args:
        fields: keys of a mapping, or positions in a tuple or list; at least one.

    Raises:
        HvaeCodecError: there is no field, or one of another kind.
    """

    def _changed(self, value: Any) -> Pixels | list[Pixels]:
        if not isinstance(value, list):
            return decode(_file(value))
        files = [_file(each) for each in value]
        if len({read_header(file).model_id for file in files}) == 1:
            return list(codec_for(files[0]).decode_batch(files))
        return [decode(file) for file in files]


def encoded(codec: Codec, value: Any) -> bytes:
    """The `.hvae` file of an image; one that is a file already stays.

    Raises:
        ImageError: as `Codec.encode`. BitstreamError: bytes are no `.hvae` file.
    """
    if not isinstance(value, bytes):
        return codec.encode(value)
    read_header(value)
    return value


def field_label(field: str | int, sample: Any) -> str:
    """A field as messages name it, with the key of a sample of webdataset."""
    key = sample.get("__key__") if isinstance(sample, Mapping) else None
    return f"field {field!r}" + (f" of sample {key!r}" if key is not None else "")


def _copied(sample: Any) -> Any:
    if isinstance(sample, Mapping):
        return dict(sample)
    if isinstance(sample, tuple | list):
        return list(sample)
    raise HvaeCodecError(
        f"a sample is a mapping, tuple or list; got {type(sample).__name__} {shown(sample)}"
    )


def _file(value: Any) -> bytes:
    """The file of a field, or of a mapping {"bytes": ..., "path": ...} of Hugging Face."""
    if isinstance(value, Mapping):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    return as_file(value)

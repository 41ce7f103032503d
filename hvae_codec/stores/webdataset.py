"""`.hvae` members of webdataset's tar files.

    import webdataset as wds
    from hvae_codec.stores.webdataset import TarEncoder, decoder

    with wds.TarWriter("images.tar", encoder=TarEncoder(codec)) as tar:
        tar.write({"__key__": "0", "hvae": image, "cls": 3})
    for sample in wds.WebDataset("images.tar").decode(decoder):
        sample["hvae"]  # uint8 [H, W, C]

Without `decoder`, webdataset gives the bytes of a `.hvae` member as they are, as of every suffix
that it does not know. To pass over damaged members, map `hvae_codec.stores.samples.DecodeFields`:
its errors say what is wrong, while `decode` gives handlers a `DecodingError` without words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hvae_codec.codec.codec import Codec, checked_codec
from hvae_codec.codec.registry import decode
from hvae_codec.codec.transform import Pixels
from hvae_codec.errors import HvaeCodecError, MissingDependencyError
from hvae_codec.stores.samples import EncodeFields

SUFFIX = "hvae"


def decoder(key: str, data: bytes) -> Pixels | None:
    """The image uint8 [H, W, C] of a `.hvae` member, for `WebDataset(...).decode(decoder)`.

    Args:
        key: the member's suffixes, ".hvae" or ".left.hvae".
        data: its bytes.

    Returns:
        None of a member of another suffix: the next handler takes it.

    Raises:
        BitstreamError, UnknownModelError: as `hvae_codec.decode`, naming the member.
    """
    if not _is_own(key):
        return None
    try:
        return decode(data)
    except HvaeCodecError as error:
        raise type(error)(f"member {key!r}: {error}") from error


class TarEncoder:
    """Samples as webdataset's writers take them, `.hvae` fields coded: `TarWriter(encoder=...)`.

    Such a field holds an image, as `Codec.encode` takes it, a path among others, or the bytes of a
    `.hvae` file. Others are encoded as webdataset does it.

    Args:
        codec: as `hvae_codec.load` returns it.

    Raises:
        HvaeCodecError: it is no codec. MissingDependencyError: webdataset is not installed.
    """

    def __init__(self, codec: Codec) -> None:
        try:
            from webdataset.writer import make_encoder
        except ImportError as error:
            raise MissingDependencyError(
                "writing tar files needs webdataset: pip install 'hvae-codec[stores]'"
            ) from error
        self._codec = checked_codec(codec)
        self._other = make_encoder(True)

    def __call__(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """The sample with bytes in every field.

        Raises:
            ImageError: as `Codec.encode`; BitstreamError: bytes are no `.hvae` file; both naming
                field and sample. ValueError: webdataset does not know another field's suffix.
        """
        own = [field for field in sample if _is_own(field)]
        coded = EncodeFields(self._codec, *own)(sample) if own else sample
        return dict(self._other(coded))  # which leaves bytes as they are


def _is_own(key: str) -> bool:
    return key.lower().rpartition(".")[2] == SUFFIX

"""What an archive says of itself, of its images, and of what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hvae_codec.codec.archive.labels import Label


@dataclass(frozen=True)
class ArchiveInfo:
    """What an archive says of itself.

    model_id: hexadecimal; `tile` is (height, width) of the model's images, `channels` theirs.
    pictures, blocks: their numbers; `named` says whether any image has a name, `labels` whether
    images can have labels.
    file_bytes: the whole archive; `block_file_bytes` of it are the `.hvae` blocks that it holds.
    problem: why the archive's own index or header could not be used, or None.
    """

    model_id: str
    tile: tuple[int, int]
    channels: int
    pictures: int
    blocks: int
    named: bool
    labels: bool
    file_bytes: int
    block_file_bytes: int
    problem: str | None


@dataclass(frozen=True)
class PictureInfo:
    """An image of an archive: its number, name or None, size in pixels, and label or None."""

    number: int
    name: str | None
    height: int
    width: int
    channels: int
    label: Label | None = field(default=None, hash=False)  # an object has no hash


@dataclass(frozen=True)
class Damage:
    """Images first..first+count-1 cannot be read, for this reason; some of them may still be."""

    first: int
    count: int
    reason: str


@dataclass(frozen=True)
class ArchiveSource:
    """What an archive was opened from; `Archive.reopen` opens the same one again, elsewhere too.

    path: absolute. blocks: their number at that time. digest: of these blocks, their places and
    lengths and a sample of what they hold.
    """

    path: Path
    blocks: int
    digest: str

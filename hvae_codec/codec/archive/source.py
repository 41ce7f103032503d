"""Where an archive was opened from, so that it can be opened again elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hvae_codec.errors import ArchiveError

if TYPE_CHECKING:
    from hvae_codec.codec.archive.reader import Archive
    from hvae_codec.codec.codec import Codec


@dataclass(frozen=True)
class ArchiveSource:
    """What an archive was opened from; it opens the same archive again, also elsewhere.

    path: absolute. blocks: their number at that time. digest: of these blocks, their places and
    lengths and a sample of what they hold.
    """

    path: Path
    blocks: int
    digest: str

    def open(self, codec: Codec | None = None) -> Archive:
        """The archive anew; it may have grown.

        Raises:
            ArchiveError: another archive lies at the path. And as `Archive`.
        """
        from hvae_codec.codec.archive.reader import Archive

        archive = Archive(self.path, codec)
        if not archive.is_of(self):
            archive.close()
            raise ArchiveError(
                f"{self.path} is no longer the archive that was opened, pickled or copied"
            )
        return archive

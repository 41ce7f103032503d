"""Where data sets are looked for, and where a download goes."""

import os
from pathlib import Path

from hvae_codec.errors import DatasetError

ROOT_VARIABLE = "HVAE_DATA"
"""Environment variable that names the only directory in which data sets are looked for."""


def search_roots(root: str | os.PathLike[str] | None = None) -> list[Path]:
    """Directories to look in, first to last; a download goes into the last.

    A given `root` is the only one, else the directory named by HVAE_DATA is, else
    ~/.cache/hvae_codec/data. Raises DatasetError where `root` is no path.
    """
    if root is not None:
        if not isinstance(root, str | os.PathLike):
            raise DatasetError(f"root is a directory's path; got {type(root).__name__}")
        return [Path(root).expanduser()]
    if named := os.environ.get(ROOT_VARIABLE):
        return [Path(named).expanduser()]
    return [Path.home() / ".cache" / "hvae_codec" / "data"]


def default_root() -> Path:
    """The first directory in which data sets are looked for when no other is given."""
    return search_roots()[0]

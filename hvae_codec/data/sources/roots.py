"""Where data sets are looked for, and where a download goes."""

import os
from pathlib import Path

ROOT_VARIABLE = "HVAE_DATA"
"""Environment variable that names the only directory in which data sets are looked for."""

_CHECKOUT = Path(__file__).resolve().parents[3]


def search_roots(root: str | os.PathLike[str] | None = None) -> list[Path]:
    """Directories to look in, first to last; a download goes into the last.

    A given `root` is the only one; else the directory named by HVAE_DATA is; else they are
    ../shared/data beside the checkout, where that exists, and ~/.cache/hvae_codec/data.
    """
    if root is not None:
        return [Path(root).expanduser()]
    if named := os.environ.get(ROOT_VARIABLE):
        return [Path(named).expanduser()]
    shared = _CHECKOUT.parent / "shared" / "data"
    cache = Path.home() / ".cache" / "hvae_codec" / "data"
    return [shared, cache] if shared.is_dir() else [cache]


def default_root() -> Path:
    """The first directory in which data sets are looked for when no other is given."""
    return search_roots()[0]

"""Images into the codec: files and arrays, their colour, and the limits on them.

Names of `hvae_codec.codec.images.load` are found here as well, as in releases before 1.0.
"""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """A name of `load`, which is imported when it is first asked for: it needs Pillow."""
    return getattr(import_module(f"{__name__}.load"), name)

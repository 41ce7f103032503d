"""Tensors in safetensors files, read whole.

The library's own reader maps the file: tensors would show what others write into it later, and one
that is cut meanwhile kills the process.
"""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load
from torch import Tensor

_LENGTH_BYTES = 8


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, by name, and its metadata.

    Raises:
        SafetensorError: the file is damaged. OSError: it cannot be read.
    """
    data = path.read_bytes()
    tensors = load(data)  # which has checked the header
    header = json.loads(data[_LENGTH_BYTES:][: int.from_bytes(data[:_LENGTH_BYTES], "little")])
    metadata: dict[str, str] = header.get("__metadata__", {})
    return tensors, metadata

"""Learned codecs whose speed ours is compared with, with random weights: how fast, not how good.

Neither can be an extra of this package: CompressAI asks for numpy < 2, lossy-vae is not on the
package index. To have them in the comparison, install them beside it:

    pip install --no-deps compressai && pip install einops pandas torch-geometric
    pip install --no-deps git+https://github.com/duanzhihao/lossy-vae && pip install timm
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray


@dataclass(frozen=True)
class LearnedPeer:
    """A codec at work on one batch of images: `encode` gives what `decode` takes."""

    name: str
    encode: Callable[[], Any]
    decode: Callable[[Any], Any]


def learned_peers(images: NDArray[np.uint8]) -> tuple[list[LearnedPeer], dict[str, str]]:
    """The peers that can be loaded, for images uint8 [N, H, W, 3], and why each other cannot."""
    found, left_out = [], {}
    for name, make in (
        ("CompressAI bmshj2018_factorized", _compressai),
        ("lossy-vae qres17m", _lossy_vae),
    ):
        try:
            found.append(make(name, images))
        except ImportError as error:
            left_out[name] = f"{error} (see {__name__})"
    return found, left_out


def hyperprior(images: NDArray[np.uint8]) -> tuple[LearnedPeer | None, dict[str, str] | None]:
    """CompressAI's scale hyperprior for photographs uint8 [N, H, W, 3], or why it cannot be."""
    name = "CompressAI bmshj2018_hyperprior"
    try:
        return _compressai(name, images), None
    except ImportError as error:
        return None, {name: f"{error} (see {__name__})"}


def _compressai(name: str, images: NDArray[np.uint8]) -> LearnedPeer:
    kind = name.split()[-1]
    model = getattr(import_module("compressai.zoo"), kind)(1, pretrained=False).eval()
    model.update(force=True)
    x = _input(images)

    def decode(made: dict[str, Any]) -> Any:
        with torch.inference_mode():
            return model.decompress(made["strings"], made["shape"])

    return LearnedPeer(name, lambda: _inference(model.compress, x), decode)


def _lossy_vae(name: str, images: NDArray[np.uint8]) -> LearnedPeer:
    """One image at a time, padded to the 64 pixels that it takes at least."""
    model = import_module("lvae").get_model("qres17m", lmb=8, pretrained=False).eval()
    model.compress_mode(True)
    x = _input(images)
    x = F.pad(x, (0, -x.shape[3] % 64, 0, -x.shape[2] % 64))

    def encode() -> list[Any]:
        return [_inference(model.compress, one[None]) for one in x]

    def decode(made: list[Any]) -> list[Any]:
        return [_inference(model.decompress, one) for one in made]

    return LearnedPeer(name, encode, decode)


def _inference(function: Callable[[Any], Any], x: Any) -> Any:
    with torch.inference_mode():
        return function(x)


def _input(images: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0

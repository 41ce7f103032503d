"""The classical codecs that ours is measured against, each at the settings that serve it best.

A peer that needs a package or a library that is not there is left out, and `LeftOut` says which and
why: nothing disappears in silence. The settings were chosen for the smallest files at equal PSNR.
The quick ones take a small part of the time: fewer qualities, and faster efforts of AVIF and
JPEG XL.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from hvae_codec.evaluation.rate_distortion.container_bytes import payload_bytes

Pixels = NDArray[np.uint8]

Setting = int | str | None

PERCEPTUAL_AVIF = "AVIF, default tuning"

SMALL_SIDE = 64
"""Images with a shorter side up to this, in pixels, are small: they get settings of their own."""


@dataclass(frozen=True)
class Peer:
    """A codec of Pillow's, or of one of its plugins.

    kind: of its files, as `container_bytes.KINDS` names them. settings: the qualities, in their own
    unit; one is None where there is nothing to set. options: for one quality, the keyword arguments
    of each way to save; the smallest file of these ways is the peer's. remark: encoder, decoder,
    settings and threads. plugin: module whose import teaches Pillow the format. feature: what
    Pillow must be built with.
    """

    name: str
    kind: str
    save_as: str
    settings: Sequence[Setting]
    options: Callable[[Any], list[dict[str, Any]]]
    remark: str
    mode: str = "RGB"
    plugin: str | None = None
    feature: str | None = None

    def encode(self, pixels: Pixels, setting: Setting) -> bytes:
        """An image uint8 [H, W, C] as a file."""
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        grey = pixels.shape[2] == 1 and self.mode == "RGB"
        picture = picture.convert("L" if grey else self.mode, dither=Image.Dither.NONE)
        return min((self._save(picture, way) for way in self.options(setting)), key=len)

    def decode(self, blob: bytes, channels: int) -> Pixels:
        """The image uint8 [H, W, channels] of a file."""
        with Image.open(io.BytesIO(blob)) as picture:
            array = np.asarray(picture.convert("RGB" if channels == 3 else "L"))
        return array.reshape(*array.shape[:2], channels)

    def payload(self, blob: bytes) -> int:
        """Bytes of a file without its container (`container_bytes`)."""
        return payload_bytes(self.kind, blob)

    def missing(self) -> str | None:
        """Why the peer cannot run here; None if it can."""
        if self.plugin is not None:
            try:
                import_module(self.plugin)
            except ImportError:
                return f"no module {self.plugin} (pip install hvae-codec[peers])"
        if self.feature is not None and not features.check(self.feature):
            return f"Pillow is built without {self.feature}: install one of python-pillow.org"
        return None

    def _save(self, picture: Image.Image, way: dict[str, Any]) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, self.save_as, **way)
        return buffer.getvalue()


@dataclass(frozen=True)
class ProgramPeer(Peer):
    """A codec whose encoder is a program: it reads a PNG file and writes the file, by pipes.

    program: its name on PATH. arguments: for one quality, those before input and output.
    """

    program: str = ""
    arguments: Callable[[Any], list[str]] = lambda _: []

    def encode(self, pixels: Pixels, setting: Setting) -> bytes:
        """An image uint8 [H, W, C] as a file.

        Raises:
            subprocess.CalledProcessError: the program failed.
        """
        buffer = io.BytesIO()
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(
            buffer, "PNG", compress_level=1
        )
        command = [self.program, *self.arguments(setting), "-o", "-", "--", "-"]
        done = subprocess.run(command, input=buffer.getvalue(), capture_output=True, check=True)
        return done.stdout

    def missing(self) -> str | None:
        """Why the peer cannot run here; None if it can."""
        if shutil.which(self.program) is None:
            return f"no program {self.program} on PATH: install it"
        return super().missing()


def program_version(program: str) -> str:
    """The first version number that a program prints when asked for it."""
    done = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "unknown"


class LeftOut(NamedTuple):
    """A peer that is not measured, and why."""

    name: str
    reason: str


WEBP_QUALITIES = (0, 3, 8, 18, 32, 50, 70, 85)
SMALL_WEBP_QUALITIES = (0, 1, 2, 3, 5, 8, 12, 18, 26, 36, 50, 65)
JPEG_QUALITIES = (3, 6, 10, 16, 25, 40, 60, 80)
SMALL_JPEG_QUALITIES = (1, 3, 5, 8, 12, 18, 26, 38, 52, 66)
FLAT_STEPS = (150, 108, 76, 54, 38, 26, 18, 12, 8)
"""Quantisation steps of JPEG's flat tables: PSNR weighs all frequencies alike, its own do not."""

_FLAT = "flat "


def _jpeg_ways(setting: Setting, progressive: Sequence[bool]) -> list[dict[str, Any]]:
    """JPEG's ways to save: its own tables at a quality, or flat ones of one step."""
    tables: dict[str, Any] = {"quality": setting}
    if isinstance(setting, str):
        tables = {"qtables": [[int(setting.removeprefix(_FLAT))] * 64] * 2}
    common = {**tables, "optimize": True, "subsampling": "4:2:0"}
    return [{**common, "progressive": way} for way in progressive]


def _webp(small: bool) -> Peer:
    """WebP by its own program, whose settings reach further than Pillow's, where it is there."""
    pillow = Peer(
        "WebP",
        "WebP",
        "WEBP",
        SMALL_WEBP_QUALITIES if small else WEBP_QUALITIES,
        lambda quality: [{"quality": quality, "method": 6}],
        "Pillow's encoder (cwebp is not on PATH: install libwebp's programs), method 6, one thread",
        feature="webp",
    )
    if shutil.which("cwebp") is None:
        return pillow
    encoder = f"cwebp {program_version('cwebp')} -m 6 -sns 0 -sharp_yuv"
    return ProgramPeer(
        **(vars(pillow) | {"remark": f"{encoder}, one thread; Pillow's decoder"}),
        program="cwebp",
        arguments=lambda q: ["-quiet", "-q", str(q), "-m", "6", "-sns", "0", "-sharp_yuv"],
    )


def _avif_ways(quality: Setting, advanced: dict[str, str] | None) -> list[dict[str, Any]]:
    way = {"quality": quality, "speed": 0, "subsampling": "4:4:4", "max_threads": 1}
    return [way if advanced is None else {**way, "advanced": advanced}]


def lossy_peers(shorter_side: int) -> list[Peer]:
    """The codecs for colour images with a shorter side of so many pixels."""
    small = shorter_side <= SMALL_SIDE
    jpeg_ways = (False,) if small else (False, True)
    avif = Peer(
        "AVIF",
        "AVIF",
        "AVIF",
        (0, 8, 17, 28, 40, 52) if small else (5, 15, 25, 35, 45, 58),
        lambda quality: _avif_ways(quality, {"tune": "psnr"}),
        "Pillow's libavif, one thread, speed 0, 4:4:4, tuned for PSNR",
        feature="avif",
    )
    # As it is tuned by default, for comparisons by perceptual measures.
    perceptual = replace(
        avif,
        name=PERCEPTUAL_AVIF,
        options=lambda quality: _avif_ways(quality, None),
        remark="Pillow's libavif, one thread, speed 0, 4:4:4, its default tuning",
    )
    return [
        Peer(
            "JPEG",
            "JPEG",
            "JPEG",
            (
                *(SMALL_JPEG_QUALITIES if small else JPEG_QUALITIES),
                *(f"{_FLAT}{step}" for step in FLAT_STEPS),
            ),
            lambda setting: _jpeg_ways(setting, jpeg_ways),
            "Pillow's libjpeg-turbo, one thread, optimised Huffman tables, 4:2:0, its own or flat "
            "quantisation tables" + ("" if small else ", baseline or progressive"),
        ),
        _webp(small),
        *([avif] if small else [avif, perceptual]),
        Peer(
            "JPEG 2000",
            "JPEG 2000",
            "JPEG2000",
            tuple(range(180, 340, 20)) if small else (200, 220, 240, 260, 280, 310, 340, 370),
            lambda tenths: [
                {
                    "irreversible": True,
                    "mct": 1,
                    "quality_mode": "dB",
                    "quality_layers": [tenths / 10.0],
                    "num_resolutions": 3 if small else 6,
                    "no_jp2": True,
                    "comment": b" ",
                }
            ],
            "Pillow's OpenJPEG, 9/7 wavelet, colour transform, bare code stream; tenths of dB",
            feature="jpg_2000",
        ),
        Peer(
            "JPEG XL",
            "JPEG XL",
            "JXL",
            (0, 5, 10, 16, 24, 34, 46, 60, 75) if small else (0, 5, 10, 20, 35, 50, 70, 85),
            lambda quality: [
                {"quality": quality, "effort": 9 if small else 8, "num_threads": 1},
            ],
            f"libjxl, effort {9 if small else 8}, one thread, bare code stream, perceptual as ever",
            plugin="pillow_jxl",
        ),
    ]


QUICK_CHANGES: dict[str, dict[str, Any]] = {"AVIF": {"speed": 6}, "JPEG XL": {"effort": 7}}
"""By kind of file, what the quick settings change of the ways to save."""


def quick_peers(shorter_side: int) -> list[Peer]:
    """As `lossy_peers`, with about half of the settings, and faster efforts by QUICK_CHANGES."""
    return [_quick(peer) for peer in lossy_peers(shorter_side)]


def _quick(peer: Peer) -> Peer:
    changes = QUICK_CHANGES.get(peer.kind, {})
    remark = peer.remark
    for name, value in changes.items():
        remark = re.sub(rf"{name} \d+", f"{name} {value}", remark)
    return replace(
        peer,
        settings=thinned(peer.settings),
        options=lambda setting: [way | changes for way in peer.options(setting)],
        remark=remark,
    )


def thinned(settings: Sequence[Any]) -> tuple[Any, ...]:
    """Every second of the settings, with the first and the last."""
    return tuple(dict.fromkeys((*settings[::2], settings[-1])))


def binary_peers() -> list[Peer]:
    """The lossless codecs for black and white images."""
    return [
        Peer("PNG", "PNG", "PNG", (None,), lambda _: [{"optimize": True}], "1 bit", mode="1"),
        Peer(
            "CCITT G4",
            "TIFF",
            "TIFF",
            (None,),
            lambda _: [{"compression": "group4"}],
            "1 bit, in TIFF",
            mode="1",
            feature="libtiff",
        ),
        Peer(
            "WebP lossless",
            "WebP",
            "WEBP",
            (None,),
            lambda _: [{"lossless": True, "quality": 100, "method": 6}],
            "method 6, quality 100",
            feature="webp",
        ),
        Peer(
            "JPEG XL lossless",
            "JPEG XL",
            "JXL",
            (None,),
            lambda _: [{"lossless": True, "effort": effort, "num_threads": 1} for effort in (7, 9)],
            "the smaller of efforts 7 and 9, bare code stream",
            mode="L",
            plugin="pillow_jxl",
        ),
    ]


JBIG2 = LeftOut("JBIG2", "no package on PyPI writes it")


def available_peers(peers: Sequence[Peer]) -> tuple[list[Peer], list[LeftOut]]:
    """The peers that can run here, and the others with the reason."""
    reasons = [peer.missing() for peer in peers]
    here = [peer for peer, reason in zip(peers, reasons, strict=True) if reason is None]
    pairs = zip(peers, reasons, strict=True)
    return here, [LeftOut(peer.name, reason) for peer, reason in pairs if reason is not None]


def versions(peers: Sequence[Peer]) -> dict[str, str]:
    """Version of the library behind each feature of Pillow's that the peers use."""
    names = sorted({peer.feature for peer in peers if peer.feature} | {"libjpeg_turbo"})
    found = {name: features.version(name) for name in names}
    return {name: version for name, version in found.items() if version}

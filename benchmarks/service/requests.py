"""What the service's benchmark sends: images of real photographs, raw, and their files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hvae_codec
from benchmarks.common import photographs_crops
from benchmarks.service.load_client import Plan
from hvae_codec.v1 import codec_pb2

Pixels = NDArray[np.uint8]

SERVICE = "/hvae_codec.v1.CodecService"
MODEL = "cifar10"


@dataclass(frozen=True)
class Sent:
    """One request: method, and that of the echo server which answers with as many bytes; file with
    its bytes, images in it, and bytes of its answer.
    """

    method: str
    echo_method: str
    path: Path
    images: int
    response_bytes: int


@dataclass(frozen=True)
class Form:
    """How a closed loop calls: images of a message, callers or streams, messages under way on a
    stream (0: unary).
    """

    name: str
    images: int
    callers: int
    depth: int = 0

    def plan(
        self, sent: Sent, address: str, seconds: float, *, channels: int = 4, echo: bool = False
    ) -> Plan:
        """What a client process is to do, on at most so many channels."""
        return Plan(
            address=address,
            method=sent.echo_method if echo else sent.method,
            request=str(sent.path),
            seconds=seconds,
            callers=self.callers,
            channels=min(channels, self.callers),
            depth=self.depth,
        )


SINGLE = Form("unary 1, 64 callers", 1, 64)
STREAM = Form("stream of 256", 256, 2, depth=4)


def write_requests(folder: Path, kind: str, images: int, *, stream: bool) -> Sent:
    """A request of so many images that encodes or decodes, serialised into `folder`; the bytes of
    its answer are those that the codec itself would give.
    """
    codec = hvae_codec.load(MODEL)
    pictures = photographs_crops(max(images, 16))[:images]
    files = codec.encode_batch(pictures)
    selector = codec_pb2.ModelSelector(name=MODEL, quality=int(codec.info.quality))
    request: codec_pb2.EncodeRequest | codec_pb2.DecodeRequest
    response: codec_pb2.EncodeResponse | codec_pb2.DecodeResponse
    if kind == "encode":
        request = codec_pb2.EncodeRequest(model=selector, images=map(_image, pictures))
        results = [codec_pb2.EncodeResult(encoded=file) for file in files]
        response = codec_pb2.EncodeResponse(results=results)
    else:
        raw = codec_pb2.IMAGE_FORMAT_RAW
        request = codec_pb2.DecodeRequest(model=selector, encoded=files, format=raw)
        decoded = [codec_pb2.DecodeResult(image=_image(picture)) for picture in pictures]
        response = codec_pb2.DecodeResponse(results=decoded)
    method = kind.capitalize()
    if stream:
        message = getattr(codec_pb2, f"Stream{method}Request")(request=request)
        answer = getattr(codec_pb2, f"Stream{method}Response")(response=response)
    else:
        message, answer = request, response
    path = folder / f"{kind}-{images}{'-stream' if stream else ''}"
    path.write_bytes(message.SerializeToString())
    name = f"{SERVICE}/{'Stream' if stream else ''}{method}"
    size = answer.ByteSize()
    return Sent(name, f"/echo/{'stream' if stream else 'unary'}-{size}", path, images, size)


def _image(picture: Pixels) -> codec_pb2.Image:
    height, width, channels = picture.shape
    raw = codec_pb2.RawImage(height=height, width=width, channels=channels, data=picture.tobytes())
    return codec_pb2.Image(raw=raw)

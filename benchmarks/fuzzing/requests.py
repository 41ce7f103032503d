"""Bodies of gRPC requests as fuzzer input: the first byte says which call, the rest is its body."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, NoReturn
from zlib import crc32

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from benchmarks.codec_speed import photographs_crops
from benchmarks.fuzzing.files import FileTarget
from benchmarks.fuzzing.mutate import MAX_BYTES, changed, forged_number
from benchmarks.fuzzing.target import Mutant, Outcome
from hvae_codec.codec.images import encode_png
from hvae_codec.server.handlers import Handlers
from hvae_codec.server.limits import Limits
from hvae_codec.server.service import CodecServicer
from hvae_codec.v1 import codec_pb2

CALLS: tuple[tuple[str, type[Message]], ...] = (
    ("Encode", codec_pb2.EncodeRequest),
    ("Decode", codec_pb2.DecodeRequest),
    ("ExtractFeatures", codec_pb2.ExtractFeaturesRequest),
    ("Sample", codec_pb2.SampleRequest),
    ("ListModels", codec_pb2.ListModelsRequest),
)

ALLOWED = {"INVALID_ARGUMENT", "NOT_FOUND", "DATA_LOSS", "RESOURCE_EXHAUSTED"}
"""Codes that the contract names."""

LIMITS = Limits(message_bytes=256 * 1024, items=64, pixels=2**20)
"""Smaller than the server's own, so that an input takes milliseconds; the checks are the same."""

_KEPT_FORGERIES = 100_000
_DOUBLES = (0.0, 1.0, -1.0, 1e308, 1e-320, float("nan"), float("inf"))
_PNG = b"\x89PNG\r\n\x1a\n"


class RequestTarget:
    """Request bodies through the servicer, its networks included; statuses are all it may give."""

    check_bits: dict[str, int] = {}  # noqa: RUF012 (requests carry none; files in them do)

    def __init__(self) -> None:
        self._files = FileTarget()
        self._sound = set(self._files.seeds)
        self._loop = asyncio.new_event_loop()
        self._log = _Log()
        logging.getLogger("hvae_codec.server.service").addHandler(self._log)
        models = codec_pb2.ListModelsResponse()
        self._servicer = CodecServicer(Handlers(LIMITS), LIMITS, models, _Inline())
        self.seeds = list(_seeds(self._files.seeds))

    def mutate(self, data: bytes, rng: random.Random) -> Mutant:
        """Bytes of the body changed, or fields of its message."""
        choice = rng.random()
        number = data[0] % len(CALLS)
        if choice < 0.35 or not CALLS[number][1].DESCRIPTOR.fields:
            body = changed(data[1:], rng, self.seeds)
            return Mutant(bytes([number]) + body, data, forged=False)
        request = CALLS[number][1]()
        try:
            request.ParseFromString(data[1:])
        except DecodeError:
            return self.mutate(rng.choice(self.seeds), rng)
        forged = False
        for _ in range(rng.choice((1, 1, 2))):
            forged |= self._forge_a_field(request, rng)
        body = request.SerializeToString()
        return Mutant((bytes([number]) + body)[:MAX_BYTES], data, forged)

    def run(self, data: bytes, *, whole: bool) -> Outcome:
        """Parse the body as grpc does and answer it."""
        name, kind = CALLS[data[0] % len(CALLS)] if data else CALLS[0]
        request: Any = kind()
        try:
            request.ParseFromString(data[1:])
        except DecodeError:
            return Outcome("not parsed", "DecodeError")
        context = _Context()
        try:
            call = getattr(self._servicer, name)(request, context)
            response = self._loop.run_until_complete(call)
        except _AbortedError:
            self._log.raise_what_was_logged()
            if context.code not in ALLOWED:
                raise AssertionError(f"{name} ended with {context.code}") from None
            return Outcome(f"{name}: {context.code}", context.code)
        if response.ByteSize() > LIMITS.message_bytes:
            raise AssertionError(f"an answer of {response.ByteSize():,} bytes")
        meaning = frozenset[int]()
        if name == "Decode" and not request.preview:
            meaning = frozenset(map(hash, set(request.encoded) - self._sound))
        return Outcome(f"{name}: OK", meaning=meaning)

    def _forge_a_field(self, message: Any, rng: random.Random) -> bool:
        """Change something in a message; whether it may be a sound `.hvae` file now."""
        field = rng.choice(message.DESCRIPTOR.fields)
        if field.is_repeated:
            return self._forge_a_list(message, field, rng)
        if field.message_type is not None:
            if rng.random() < 0.15:
                message.ClearField(field.name)
                return False
            return self._forge_a_field(getattr(message, field.name), rng)
        value, forged = self._forged_value(field, getattr(message, field.name), rng)
        setattr(message, field.name, value)
        return forged

    def _forge_a_list(self, message: Any, field: FieldDescriptor, rng: random.Random) -> bool:
        items = getattr(message, field.name)
        choice = rng.random()
        if not items or choice < 0.1:
            if field.message_type is not None:
                items.add()
            else:
                items.append(rng.choice(self._files.seeds))
        elif choice < 0.2:
            items.extend([items[rng.randrange(len(items))]] * rng.choice((1, 1, 2, 70)))
        elif choice < 0.3:
            del items[rng.randrange(len(items))]
        else:
            at = rng.randrange(len(items))
            if field.message_type is not None:
                return self._forge_a_field(items[at], rng)
            items[at], forged = self._forged_value(field, items[at], rng)
            return forged
        return False

    def _forged_value(
        self, field: FieldDescriptor, value: Any, rng: random.Random
    ) -> tuple[Any, bool]:
        match field.type:
            case FieldDescriptor.TYPE_BYTES:
                if value[:2] == b"\xf6H":
                    mutant = self._files.mutate(value, rng)
                    if mutant.forged and len(self._sound) < _KEPT_FORGERIES:
                        self._sound.add(mutant.data)
                    return mutant.data, mutant.forged
                again = changed(value or b"\0", rng, self.seeds)
                return (_png_sealed(again) if rng.random() < 0.7 else again), False
            case FieldDescriptor.TYPE_STRING:
                names = ("cifar10", "mnist", "", "cifar10\0", "é" * 300, "../x", str(value)[:3])
                return rng.choice(names), False
            case FieldDescriptor.TYPE_DOUBLE:
                return rng.choice(
                    (0.0, 1.0, -1.0, 1e308, 1e-320, float("nan"), float("inf"))
                ), False
            case FieldDescriptor.TYPE_BOOL:
                return not value, False
            case FieldDescriptor.TYPE_ENUM:
                return rng.choice((0, 1, 2, 3, -1, 2**31 - 1)), False
            case FieldDescriptor.TYPE_UINT64:
                return forged_number(rng, value) % 2**64, False
            case _:
                small = rng.random() < 0.5
                return (rng.randrange(40) if small else forged_number(rng, value) % 2**32), False


class _AbortedError(Exception):
    """What ends a call, as grpc's own context does it."""


class _Context:
    """The part of a call's context that the servicer uses: ending it with a status."""

    code = ""

    async def abort(self, code: grpc.StatusCode, details: str, trailing: object) -> NoReturn:
        self.code = code.name
        raise _AbortedError


class _Inline(Executor):
    """Runs work where it is submitted, so that one input is worked on at a time."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **named))
        except Exception as error:
            future.set_exception(error)
        return future


class _Log(logging.Handler):
    """Keeps what the servicer logs of an error that is none of the library's."""

    _error: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self._error = record.exc_info[1] if record.exc_info else sys.exc_info()[1]

    def raise_what_was_logged(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error


def _seeds(files: list[bytes]) -> list[bytes]:
    """A sound request of every call and of every kind of content."""
    crop = photographs_crops()[0]
    height, width, channels = crop.shape
    raw = {"height": height, "width": width, "channels": channels, "data": crop.tobytes()}
    model = {"name": "cifar10", "quality": 1}
    grey = {"file": encode_png(crop[:9, :7, :1])}
    raw_format, png_format = codec_pb2.IMAGE_FORMAT_RAW, codec_pb2.IMAGE_FORMAT_PNG
    singles = [f for f in files if not f[2] & 32]
    requests: list[tuple[int, Message]] = [
        (0, codec_pb2.EncodeRequest(model=model, images=[{"raw": raw}, grey])),
        (0, codec_pb2.EncodeRequest(model={"name": "mnist"}, images=[grey])),
        (1, codec_pb2.DecodeRequest(encoded=singles[:5])),
        (1, codec_pb2.DecodeRequest(encoded=singles[-3:], format=raw_format, preview=True)),
        (1, codec_pb2.DecodeRequest(model=model, encoded=singles[:1], format=png_format)),
        (2, codec_pb2.ExtractFeaturesRequest(sources=[{"encoded": f} for f in singles[:3]])),
        (2, codec_pb2.ExtractFeaturesRequest(model=model, sources=[{"image": grey}])),
        (
            3,
            codec_pb2.SampleRequest(
                model=model, count=2, seed=3, temperature=0.5, format=raw_format
            ),
        ),
        (4, codec_pb2.ListModelsRequest()),
    ]
    return [bytes([number]) + request.SerializeToString() for number, request in requests]


def _png_sealed(data: bytes) -> bytes:
    """The same bytes; if they begin as a PNG file, with its chunks' check sums made right."""
    if not data.startswith(_PNG):
        return data
    edited, at = bytearray(data), len(_PNG)
    while at + 12 <= len(edited):
        end = at + 8 + int.from_bytes(edited[at : at + 4], "big")
        if end + 4 > len(edited):
            break
        edited[end : end + 4] = crc32(edited[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(edited)

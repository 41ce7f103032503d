"""Bodies of gRPC requests as fuzzer input: the first byte says which call, the rest is its body."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from typing import Any
from zlib import crc32

import grpc
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from benchmarks.common import photographs_crops
from benchmarks.fuzzing.files import FileTarget
from benchmarks.fuzzing.mutate import MAX_BYTES, changed, forged_number
from benchmarks.fuzzing.target import Mutant, Outcome
from hvae_codec.codec.images.load import encode_png
from hvae_codec.server.admission.capacity import Admission
from hvae_codec.server.engine.engine import Engine
from hvae_codec.server.rpc.methods import Calls
from hvae_codec.server.rpc.status import code_of
from hvae_codec.server.settings import BatchLimits, Capacity, EngineSettings, Limits
from hvae_codec.v1 import codec_pb2

CALLS: tuple[tuple[str, type[Message]], ...] = (
    ("encode", codec_pb2.EncodeRequest),
    ("decode", codec_pb2.DecodeRequest),
    ("extract_features", codec_pb2.ExtractFeaturesRequest),
    ("sample", codec_pb2.SampleRequest),
    ("list_models", codec_pb2.ListModelsRequest),
    ("get_model", codec_pb2.GetModelRequest),
    ("evaluate", codec_pb2.EvaluateRequest),
)

ALLOWED = {"INVALID_ARGUMENT", "NOT_FOUND", "DATA_LOSS", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED"}
"""Codes that the contract names for what is wrong with a request."""

LIMITS = Limits(message_bytes=256 * 1024, items=64, pixels=2**20)
"""Smaller than the server's own, so that an input takes milliseconds; the checks are the same."""

_KEPT_FORGERIES = 100_000
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_DOUBLES = (0.0, 1.0, -1.0, 1e308, 1e-320, float("nan"), float("inf"))
_PNG = b"\x89PNG\r\n\x1a\n"


class RequestTarget:
    """Request bodies through the server's calls, networks included; statuses are all they may
    give, of a request or of its items.
    """

    check_bits: dict[str, int] = {}  # noqa: RUF012 (requests carry none; files in them do)

    def __init__(self) -> None:
        self._files = FileTarget()
        self._sound = set(self._files.seeds)
        self._loop = asyncio.new_event_loop()
        self._log = _Log()
        logging.getLogger("hvae_codec.server.calls").addHandler(self._log)
        settings = EngineSettings(coding_processes=0, batches=BatchLimits(delay_seconds=0.0))
        self._calls = Calls(Engine(settings), LIMITS)
        self._admission = Admission(Capacity())
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
        try:
            with self._admission.take(1, len(data)) as held:
                answer = getattr(self._calls, name)(request, None, held)
                response = self._loop.run_until_complete(answer)
        except Exception as error:
            return self._outcome(name, code_of(error).name, error)
        if response.ByteSize() > LIMITS.message_bytes:
            raise AssertionError(f"an answer of {response.ByteSize():,} bytes")
        self._log.raise_what_was_logged()
        results = getattr(response, "results", ())
        meaning = frozenset[int]()
        if name == "decode" and not request.preview:
            whole_files = {
                encoded
                for encoded, result in zip(request.encoded, results, strict=True)
                if not result.status.code
            }
            meaning = frozenset(map(hash, whole_files - self._sound))
        for result in results:
            if result.status.code:
                return self._outcome(name, _NAMES[result.status.code], None, meaning)
        return Outcome(f"{name}: OK", meaning=meaning)

    def _outcome(
        self,
        name: str,
        code: str,
        error: Exception | None,
        meaning: frozenset[int] = frozenset(),
    ) -> Outcome:
        """That of a request, or the first of its items, that was refused."""
        if code not in ALLOWED:
            raise AssertionError(f"{name} ended with {code}") from error
        return Outcome(f"{name}: {code}", code, meaning=meaning)

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
            elif field.type == FieldDescriptor.TYPE_BYTES:
                items.append(rng.choice(self._files.seeds))
            else:
                items.extend([rng.choice(_DOUBLES[:3])] * rng.choice((1, 31, 32)))
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
                names = (
                    "cifar10",
                    "mnist",
                    "",
                    "auto",
                    "cifar10\0",
                    "é" * 300,
                    "../x",
                    str(value)[:3],
                )
                return rng.choice(names), False
            case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
                return rng.choice(_DOUBLES), False
            case FieldDescriptor.TYPE_BOOL:
                return not value, False
            case FieldDescriptor.TYPE_ENUM:
                return rng.choice((0, 1, 2, 3, -1, 2**31 - 1)), False
            case FieldDescriptor.TYPE_UINT64:
                return forged_number(rng, value) % 2**64, False
            case _:
                small = rng.random() < 0.5
                return (rng.randrange(40) if small else forged_number(rng, value) % 2**32), False


class _Log(logging.Handler):
    """Keeps what the calls log of an item's error that is none of the library's."""

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
        (
            3,
            codec_pb2.SampleRequest(
                model=model, count=2, given={"source": {"encoded": singles[0]}}, format=raw_format
            ),
        ),
        (4, codec_pb2.ListModelsRequest()),
        (5, codec_pb2.GetModelRequest(model=model)),
        (6, codec_pb2.EvaluateRequest(model=model, image=grey, format=raw_format)),
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

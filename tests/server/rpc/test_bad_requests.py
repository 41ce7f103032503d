"""Every bad input gets its status, a message that names the item, and details for programs."""

import io
import struct
import zlib

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import hvae_codec
from hvae_codec import errors
from hvae_codec.client import Client, ServiceError
from hvae_codec.v1 import codec_pb2

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND = grpc.StatusCode.NOT_FOUND
DATA_LOSS = grpc.StatusCode.DATA_LOSS
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
DAMAGE = (DATA_LOSS, INVALID, NOT_FOUND)
OK = (grpc.StatusCode.OK,)
CODES = {code.value[0]: code for code in grpc.StatusCode}


@pytest.fixture(scope="module")
def blob(client, model, tiles):
    return client.encode(tiles[:1], **model)[0]


def raw_image(height=32, width=32, channels=3, data=None):
    data = bytes(height * width * channels) if data is None else data
    raw = codec_pb2.RawImage(height=height, width=width, channels=channels, data=data)
    return codec_pb2.Image(raw=raw)


def file_image(kind="PNG", mode="RGB", size=(32, 32), cut=0):
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind)
    return codec_pb2.Image(file=buffer.getvalue()[: -cut or None])


def forged_png(width, height):
    """A PNG of 32 bytes of pixel data that claims any size."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body))
            + kind
            + body
            + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(32))), (b"IEND", b"")]
    file = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    return codec_pb2.Image(file=file)


def failure(method, request):
    """Code, message and ErrorInfo of a call that fails."""
    with pytest.raises(grpc.RpcError) as raised:
        method(request)
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(raised.value)
    assert status is not None, raised.value.details()
    assert status.details[0].Unpack(info)
    assert info.domain == "hvae_codec"
    return raised.value.code(), raised.value.details(), info


def statuses(method, request):
    """Of each result its status, or None where it has none; neither comes with a result beside."""
    found = []
    for result in method(request).results:
        others = [field.name for field, _ in result.ListFields() if field.name != "status"]
        assert bool(others) != result.HasField("status")
        found.append(result.status if result.HasField("status") else None)
    return found


def item_failure(method, request, bad):
    """Code, message and reason of the one item that fails; its neighbours do not."""
    found = statuses(method, request)
    assert [index for index, status in enumerate(found) if status is not None] == [bad]
    status = found[bad]
    return CODES[status.code], status.message, status.reason


def code_of(method, request):
    """Code of a call of one item, which may fail, or of the item, which may fail too."""
    try:
        (status,) = statuses(method, request)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK if status is None else CODES[status.code]


@pytest.mark.parametrize(
    ("image", "reason", "words"),
    [
        (codec_pb2.Image(), "INVALID_REQUEST", "`file` or `raw`"),
        (codec_pb2.Image(file=b""), "IMAGE", "not a PNG, JPEG or WebP"),
        (codec_pb2.Image(file=b"GIF89a not taken"), "IMAGE", "not a PNG, JPEG or WebP"),
        (file_image("PNG", cut=20), "IMAGE", "truncated PNG"),
        (file_image("JPEG", cut=40), "IMAGE", "truncated JPEG"),
        (file_image("WEBP", cut=9), "IMAGE", "truncated WebP"),
        (file_image(mode="RGBA"), "ALPHA", "alpha"),
        (file_image(mode="I;16"), "IMAGE", "16 bits"),
        (forged_png(0, 5), "IMAGE", "0x5"),
        (forged_png(60_000, 60_000), "IMAGE", "cannot hold"),
        (raw_image(0, 5), "IMAGE", "at least one pixel"),
        (raw_image(5, 0), "IMAGE", "at least one pixel"),
        (raw_image(70_000, 1, 1), "IMAGE_TOO_LARGE", "65,535"),
        (raw_image(2**32 - 1, 2**32 - 1, data=b""), "IMAGE_TOO_LARGE", "100,000,000"),
        (raw_image(8, 8, data=bytes(191)), "IMAGE", "192 bytes of data, got 191"),
        (raw_image(8, 8, data=bytes(193)), "IMAGE", "192 bytes of data, got 193"),
        (raw_image(8, 8, channels=0), "IMAGE", "[8, 8, 0]"),
        (raw_image(8, 8, channels=4), "ALPHA", "alpha"),
        (raw_image(8, 8, channels=5), "IMAGE", "[8, 8, 5]"),
    ],
)
def test_bad_pictures(stub, selector, image, reason, words):
    """The third of four pictures is bad: it alone has no result."""
    images = [raw_image(), raw_image(), image, raw_image()]
    sources = [codec_pb2.FeatureSource(image=each) for each in images]
    features = codec_pb2.ExtractFeaturesRequest(model=selector, sources=sources)
    for method, request in [
        (stub.Encode, codec_pb2.EncodeRequest(model=selector, images=images)),
        (stub.ExtractFeatures, features),
    ]:
        code, message, found = item_failure(method, request, 2)
        assert (code, found) == (INVALID, reason)
        assert words in message


def test_a_grey_model_refuses_colour(stub):
    grey = next((info for info in hvae_codec.models() if info.image_shape[0] == 1), None)
    assert grey is not None
    selector = codec_pb2.ModelSelector(name=grey.name, quality=grey.quality)
    images = [raw_image(28, 28, 1), raw_image(28, 28, 3)]
    request = codec_pb2.EncodeRequest(model=selector, images=images)
    code, _, reason = item_failure(stub.Encode, request, 1)
    assert (code, reason) == (INVALID, "IMAGE")


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        (lambda blob: b"", INVALID, "NOT_AN_HVAE_FILE"),
        (lambda blob: b"\x89PNG" + blob, INVALID, "NOT_AN_HVAE_FILE"),
        (lambda blob: blob[:2], DATA_LOSS, "TRUNCATED"),
        (lambda blob: blob[:2] + b"\x03" + blob[3:], INVALID, "UNSUPPORTED_VERSION"),
        (lambda blob: blob[:3] + b"\0\0\0\0" + blob[7:], NOT_FOUND, "UNKNOWN_MODEL"),
        (lambda blob: blob[:8], DATA_LOSS, "TRUNCATED"),
        (lambda blob: blob[:-1], DATA_LOSS, "CORRUPT"),
        (lambda blob: blob + b"\0", DATA_LOSS, "CORRUPT"),
    ],
)
def test_bad_files(stub, blob, change, code, reason):
    request = codec_pb2.DecodeRequest(encoded=[blob, blob, change(blob)])
    found, _, found_reason = item_failure(stub.Decode, request, 2)
    assert (found, found_reason) == (code, reason)


def test_every_flipped_bit_is_found(stub, blob):
    """Magic: not a file. Model id: no such model. Everything else: damage, never a picture."""
    damaged = [bytearray(blob) for _ in range(8 * len(blob))]
    for bit, changed in enumerate(damaged):
        changed[bit // 8] ^= 1 << bit % 8
    request = codec_pb2.DecodeRequest(encoded=map(bytes, damaged))
    for bit, status in enumerate(statuses(stub.Decode, request)):
        found = (CODES[status.code], status.reason)
        byte = bit // 8
        if byte < 2:
            assert found == (INVALID, "NOT_AN_HVAE_FILE")
        elif 3 <= byte < 7:
            assert found == (NOT_FOUND, "UNKNOWN_MODEL")
        else:
            assert found == (DATA_LOSS, "CORRUPT")


mutations = st.one_of(
    st.tuples(st.just("cut"), st.integers(0, 1_000), st.just(b"")),
    st.tuples(st.just("insert"), st.integers(0, 1_000), st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("overwrite"), st.integers(0, 1_000), st.binary(min_size=1, max_size=40)),
)


def mutated(blob, mutation):
    kind, at, data = mutation
    at %= len(blob) + 1
    match kind:
        case "cut":
            return blob[:at]
        case "insert":
            return blob[:at] + data + blob[at:]
        case _:
            return blob[:at] + data + blob[at + len(data) :]


@settings(max_examples=150, derandomize=True)
@given(mutation=mutations, in_size_fields=st.booleans(), sized=st.booleans())
def test_mutated_files_fail_as_what_they_are(
    stub, client, model, codec_files, mutation, in_size_fields, sized
):
    original = codec_files[sized]
    kind, at, data = mutation
    changed = mutated(original, (kind, 7 + at % 12 if in_size_fields else at, data))
    for method, request in [
        (stub.Decode, codec_pb2.DecodeRequest(encoded=[changed])),
        (stub.Decode, codec_pb2.DecodeRequest(encoded=[changed], preview=True)),
        (
            stub.ExtractFeatures,
            codec_pb2.ExtractFeaturesRequest(sources=[codec_pb2.FeatureSource(encoded=changed)]),
        ),
    ]:
        whole = method is stub.Decode and not request.preview
        code = code_of(method, request)
        if whole:
            assert code in (OK if changed == original else DAMAGE)
        else:
            # What lies behind z2 is not read, and no check covers a size before z2 is decoded.
            assert code in (*OK, *DAMAGE, EXHAUSTED)


@pytest.fixture(scope="module")
def codec_files(client, model, tiles, smooth_picture):
    """By whether the file states its size: of one tile, of many."""
    return {
        sized: client.encode([smooth_picture(70, 45) if sized else tiles[0]], **model)[0]
        for sized in (False, True)
    }


def test_bytes_of_another_model_than_asked_for(stub, blob, other_rung):
    other = codec_pb2.ModelSelector(name=other_rung.name, quality=other_rung.quality)
    sources = [codec_pb2.FeatureSource(encoded=blob)]
    for method, request in [
        (stub.Decode, codec_pb2.DecodeRequest(model=other, encoded=[blob])),
        (stub.Decode, codec_pb2.DecodeRequest(model=other, encoded=[blob], preview=True)),
        (
            stub.ExtractFeatures,
            codec_pb2.ExtractFeaturesRequest(model=other, sources=sources),
        ),
    ]:
        code, _, reason = item_failure(method, request, 0)
        assert (code, reason) == (INVALID, "WRONG_MODEL")


def test_bytes_of_the_model_asked_for(stub, blob, selector):
    assert stub.Decode(codec_pb2.DecodeRequest(model=selector, encoded=[blob])).results


def test_a_block_is_not_a_picture(stub, codec, tiles):
    block = codec.encode_block(tiles[:3])
    code, message, _ = item_failure(stub.Decode, codec_pb2.DecodeRequest(encoded=[block]), 0)
    assert code is INVALID
    assert "block of 3 images" in message


@pytest.mark.parametrize("method", ["Encode", "ExtractFeatures", "Sample"])
@pytest.mark.parametrize(
    ("model_fields", "code", "reason"),
    [
        ({}, INVALID, "INVALID_REQUEST"),
        ({"quality": 1}, INVALID, "INVALID_REQUEST"),
        ({"name": "cifar11", "quality": 1}, NOT_FOUND, "UNKNOWN_MODEL"),
        ({"name": "../cifar10", "quality": 1}, NOT_FOUND, "UNKNOWN_MODEL"),
        ({"name": "cifar10", "quality": 4_000_000_000}, NOT_FOUND, "UNKNOWN_QUALITY"),
    ],
)
def test_models_that_are_not_there(stub, method, model_fields, code, reason):
    selector = codec_pb2.ModelSelector(**model_fields)
    request = {
        "Encode": codec_pb2.EncodeRequest(model=selector, images=[raw_image()]),
        "ExtractFeatures": codec_pb2.ExtractFeaturesRequest(
            model=selector, sources=[codec_pb2.FeatureSource(image=raw_image())]
        ),
        "Sample": codec_pb2.SampleRequest(model=selector, count=1),
    }[method]
    found, _, info = failure(getattr(stub, method), request)
    assert (found, info.reason) == (code, reason)
    assert "item" not in info.metadata


def test_a_name_of_many_wide_characters_still_gets_its_status(stub):
    selector = codec_pb2.ModelSelector(name="\N{OWL}" * 5_000, quality=1)
    request = codec_pb2.SampleRequest(model=selector, count=1)
    code, message, info = failure(stub.Sample, request)
    assert (code, info.reason) == (NOT_FOUND, "UNKNOWN_MODEL")
    assert len(message.encode()) <= 1_000


def test_contradictory_fields(stub, selector, blob):
    for method, request, words in [
        (stub.Encode, codec_pb2.EncodeRequest(model=selector), "images: "),
        (stub.Decode, codec_pb2.DecodeRequest(), "encoded: "),
        (stub.ExtractFeatures, codec_pb2.ExtractFeaturesRequest(model=selector), "sources: "),
        (stub.Sample, codec_pb2.SampleRequest(model=selector), "count: "),
        (
            stub.Sample,
            codec_pb2.SampleRequest(model=selector, count=1, seed=2**63),
            "seed: ",
        ),
        (stub.Decode, codec_pb2.DecodeRequest(encoded=[blob], format=9), "format: "),
    ]:
        code, message, info = failure(method, request)
        assert (code, info.reason) == (INVALID, "INVALID_REQUEST")
        assert message.startswith(words)


def test_a_source_of_neither_kind_fails_alone(stub, selector):
    sources = [codec_pb2.FeatureSource(), codec_pb2.FeatureSource(image=raw_image())]
    request = codec_pb2.ExtractFeaturesRequest(model=selector, sources=sources)
    code, message, reason = item_failure(stub.ExtractFeatures, request, 0)
    assert (code, reason) == (INVALID, "INVALID_REQUEST")
    assert "`image` or `encoded`" in message


@pytest.mark.parametrize("temperature", [-0.5, float("nan"), float("inf")])
def test_temperatures_that_are_none(stub, selector, temperature):
    request = codec_pb2.SampleRequest(model=selector, count=1, temperature=temperature)
    code, message, _ = failure(stub.Sample, request)
    assert code is INVALID
    assert message.startswith("temperature: ")


def test_too_many_items(stub, selector):
    request = codec_pb2.DecodeRequest(encoded=[b"x"] * 4_097)
    code, message, _ = failure(stub.Decode, request)
    assert code is EXHAUSTED
    assert "4,097" in message
    assert "4,096" in message


def test_too_many_pixels_are_refused_before_they_are_decoded(stub, selector):
    """Two 1-bit PNG files of some kilobytes, which would decode to 50 million pixels."""
    bomb = file_image(mode="1", size=(5_000, 5_000))
    assert len(bomb.file) < 10_000
    request = codec_pb2.EncodeRequest(model=selector, images=[bomb, bomb])
    code, message, info = failure(stub.Encode, request)
    assert (code, info.reason) == (EXHAUSTED, "LIMIT")
    assert "50,000,000 pixels" in message


def test_an_answer_that_does_not_fit_is_refused_before_it_is_computed(
    stub, selector, codec, smooth_picture
):
    """4 MiB hold 1,338 raw samples of 3,136 bytes with their wrapping, and no 2,000."""
    raw = codec_pb2.IMAGE_FORMAT_RAW
    sample = codec_pb2.SampleRequest(model=selector, count=2_000, format=raw)
    large = codec.encode(smooth_picture(1_400, 1_000))
    decode = codec_pb2.DecodeRequest(encoded=[large], format=raw)
    for method, request in [(stub.Sample, sample), (stub.Decode, decode)]:
        code, message, info = failure(method, request)
        assert (code, info.reason) == (EXHAUSTED, "LIMIT")
        assert "4,194,304" in message


def test_a_message_that_does_not_fit_is_refused(server):
    with (
        Client(server.address, max_message_bytes=2**26) as generous,
        pytest.raises(ServiceError, match="--max-message-bytes is 4,194,304") as raised,
    ):
        generous.decode([bytes(5_000_000)])
    assert raised.value.code is EXHAUSTED


def test_the_client_raises_what_the_codec_raises(client, model, blob):
    with pytest.raises(errors.AlphaError, match=r"^images\[1\]: "):
        client.encode([np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)], **model)
    with pytest.raises(errors.ImageError, match=r"^images\[0\]: .*truncated"):
        client.encode([file_image(cut=20).file], **model)
    with pytest.raises(errors.ImageError, match="must be a list"):
        client.encode(b"one file", **model)
    with pytest.raises(errors.ImageError, match=r"\[N, H, W, C\]"):
        client.features(np.zeros((32, 32, 3), np.uint8), **model)
    with pytest.raises(errors.ImageError, match=r"images\[0\]: cannot read .*No such file"):
        client.encode(["/nowhere/at/all.png"], **model)
    with pytest.raises(errors.CorruptError, match=r"^encoded\[1\]: "):
        client.decode([blob, blob[:-1]])
    with pytest.raises(errors.UnknownModelError):
        client.sample(1, model="nothing", quality=1)
    with pytest.raises(errors.NotAnHvaeFileError, match="must be a list, got one bytes"):
        client.decode(blob)
    with pytest.raises(ServiceError) as raised:
        client.encode([], **model)
    assert raised.value.code is INVALID


def test_a_server_that_is_not_there():
    with Client("127.0.0.1:1", timeout=10) as nobody, pytest.raises(ServiceError) as raised:
        nobody.models()
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE
    assert "127.0.0.1:1" in str(raised.value)

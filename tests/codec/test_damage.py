"""Damaged files of either family: nothing is silently wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvae_codec.codec.bitstream.header import MAGIC, Header, parse, read_header, write_file
from hvae_codec.errors import BitstreamError, CorruptError, TruncatedError, WrongModelError
from tests.codec.fully_convolutional.models import assert_equal_symbols, waves

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (20, 30)


@pytest.fixture(scope="module", params=["short", "block"])
def data(codec, request):
    """A file of the short and one of the long form."""
    images = [waves(*SIZE, seed=n) for n in range(2)]
    blob = codec.encode(images[0]) if request.param == "short" else codec.encode_block(images)
    assert (parse(blob).payload_bytes is None) == (request.param == "short")
    return blob


def test_every_flipped_bit_is_noticed(codec, data):
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            codec.file_coder.read_block(bytes(damaged))


def test_every_truncation_is_noticed(codec, data):
    """The first layer of one is that of the whole or an error."""
    top = codec.file_coder.read_block(data).symbols[:1]
    readable = 0
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            codec.file_coder.read_block(data[:length])
        try:
            found = codec.file_coder.read_block(data[:length], 1)
        except BitstreamError:
            assert readable == 0
        else:
            assert_equal_symbols(found.symbols, top)
            readable += 1
    assert readable > len(data) / 4
    for added in (b"\0", b"\xff", b"ab"):
        with pytest.raises(CorruptError):
            codec.file_coder.read_block(data + added)


# Damage of many bits passes a 16-bit check once in 65,536 times: examples are always the same.
@settings(max_examples=100, derandomize=True)
@given(st.data())
def test_random_changes_are_noticed(codec, data, draw):
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw.draw(st.binary(max_size=4)) + data[at + 2 :]
    try:
        block = codec.file_coder.read_block(data)
    except BitstreamError:
        return
    assert codec.file_coder.write(block)[0] == data  # nothing was changed


@settings(max_examples=100, derandomize=True)
@given(st.binary(max_size=200), st.integers(0, 60), st.booleans())
def test_random_bytes_never_become_an_image(codec, data, noise, keep, cut):
    noisy = data[:keep] + noise + (b"" if cut else data[keep:])
    if noisy == data:
        return
    with pytest.raises(BitstreamError):
        codec.file_coder.read_block(noisy)


def test_headers_cut_anywhere(codec, data):
    for length in range(len(MAGIC), parse(data).payload_at):
        for call in (read_header, codec.picture_shape, codec.preview):
            with pytest.raises(TruncatedError):
                call(data[:length])
    assert codec.picture_shape(data[: parse(data).payload_at])[:3] == (*SIZE, 3)


def test_no_array_of_a_read_file_is_shared(codec, data):
    first, second = codec.file_coder.read_block(data), codec.file_coder.read_block(data)
    for layer in first.symbols:
        layer += 1
    assert all((a - b == 1).all() for a, b in zip(first.symbols, second.symbols, strict=True))
    assert all(np.issubdtype(layer.dtype, np.int32) for layer in first.symbols)


def test_files_of_the_other_family(tiny, cifar10):
    """By its own id a file names another model; with the id forged it is of the wrong version."""
    image = waves(40, 40)
    ids = [bytes.fromhex(codec.info.model_id) for codec in (tiny, cifar10)]
    files = tiny.encode(image), cifar10.encode(image)
    for codec, file in ((tiny, files[1]), (cifar10, files[0])):
        for call in (
            codec.decode,
            codec.preview,
            codec.features_from_bytes,
            codec.file_coder.read_block,
        ):
            with pytest.raises(WrongModelError):
                call(file)
    first = write_file(Header(ids[0], 40, 40), several=True, first_layer=b"", payload=b"payload")
    with pytest.raises(CorruptError, match="does not state the quality"):
        tiny.decode(first)
    second = write_file(
        Header(ids[1], 40, 40, quality=3), several=True, first_layer=b"", payload=b"payload"
    )
    with pytest.raises(CorruptError, match="states a quality that its model does not have"):
        cifar10.decode(second)

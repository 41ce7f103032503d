"""What fully convolutional codecs alone do: qualities by number, blocks of maps, strips."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

import hvae_codec
from hvae_codec.codec.bitstream.header import read_header
from hvae_codec.codec.entropy import contexts
from hvae_codec.codec.fully_convolutional import networks, transform
from hvae_codec.codec.quality_scale import quality_number
from hvae_codec.errors import (
    BitstreamError,
    CheckpointError,
    ImageTooLargeError,
)
from tests.codec.fully_convolutional.models import (
    assert_equal_symbols,
    assert_within_a_level,
    save_tiny,
    waves,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@settings(max_examples=25)
@given(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.integers(1, 4),
    st.integers(0, 255),
    st.booleans(),
    st.integers(0, 9),
)
def test_blocks_hold_the_symbols_of_their_pictures(tiny, size, count, number, grey, seed):
    """Of any size, number of pictures, quality; and are read by a codec of another quality."""
    own = tiny.at_number(number)
    pictures = [waves(*size, 1 if grey else 3, seed=seed + n) for n in range(count)]
    block = own.quantise_block(pictures)
    (data,) = own.file_coder.write(block)
    read = tiny.file_coder.read_block(data)
    assert (read.headers, read.block) == (block.headers, True)
    assert (read.header.quality, read.header.grey, len(read)) == (number, grey, count)
    assert_equal_symbols(read.symbols, block.symbols)
    assert_equal_symbols(tiny.file_coder.read_block(data, 2).symbols, block.symbols[:2])
    order = np.random.default_rng(seed).integers(0, count, 3)
    chosen = block.select(order)
    assert len(chosen) == 3
    assert_equal_symbols(chosen.symbols, [layer[:, order] for layer in block.symbols])
    assert_equal_symbols(chosen.rows(), [layer[order] for layer in block.rows()])
    (data,) = own.file_coder.write(chosen)
    assert_equal_symbols(tiny.file_coder.read_block(data).symbols, chosen.symbols)


def test_every_quality_is_its_own_and_more_is_better(tiny):
    picture = waves(64, 64, seed=5)
    assert tiny.quality == pytest.approx(50, abs=0.2)
    blobs = [tiny.at_number(number).encode(picture) for number in range(256)]
    assert [read_header(blob).quality for blob in blobs] == list(range(256))
    pictures = tiny.decode_batch(blobs)
    assert pictures.shape == (256, 64, 64, 3)
    assert len(blobs[0]) < len(blobs[128]) < len(blobs[255])
    assert len({blob[12:] for blob in blobs}) > 200
    assert tiny.at_quality(1).encode(picture) == blobs[0]
    assert tiny.at_quality(100.0).encode(picture) == blobs[255]
    numbers = [quality_number(q) for q in np.linspace(1, 100, 256)]
    assert numbers == list(range(256))


def test_chunks_and_slabs_change_no_symbol(tiny, monkeypatch):
    pictures = [waves(64, 96, seed=n) for n in range(5)]
    blob = tiny.encode_block(pictures)
    blobs = tiny.encode_batch(pictures)
    features = tiny.layer_features_from_bytes(blobs)
    block = tiny.file_coder.read_block(blob)
    monkeypatch.setattr(contexts, "_SLAB_VALUES", 1)
    monkeypatch.setattr(transform, "_CHUNK_PIXELS", 2 * 64 * 96)
    assert tiny.encode_block(pictures) == blob
    assert tiny.encode_batch(pictures) == blobs
    assert_equal_symbols(tiny.file_coder.read_block(blob).symbols, block.symbols)
    assert_equal_symbols(tiny.symbols(blobs), block.rows())
    chunked = tiny.layer_features_from_bytes(blobs)
    for found, expected in zip(chunked, features, strict=True):
        np.testing.assert_allclose(found.mean, expected.mean, atol=1e-5)
        np.testing.assert_array_equal(found.std, expected.std)


def test_threads_change_no_symbol(tiny):
    picture = waves(150, 170, seed=2)
    blob = tiny.encode(picture)
    found = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        with threadpool_limits(threads):
            found[threads] = tiny.symbols([blob]), tiny.decode(blob)
    torch.set_num_threads(1)
    assert_equal_symbols(found[1][0], found[2][0])
    assert_equal_symbols(found[1][0], tiny.quantise_block([picture]).rows())
    assert_within_a_level(found[1][1], found[2][1])


@pytest.mark.parametrize("size", [(200, 70), (129, 33), (64, 300)])
def test_strips_are_the_whole(tiny, monkeypatch, size):
    picture = waves(*size, seed=4)
    blob = tiny.encode(picture)
    whole = tiny.decode(blob)
    assert len(list(tiny.decode_rows(blob))) == 1
    for rows in (1, 128):
        monkeypatch.setattr(networks, "STRIP_PIXELS", rows * size[1])
        assert_equal_symbols(tiny.symbols([tiny.encode(picture)]), tiny.symbols([blob]))
        strips = list(tiny.decode_rows(blob))
        at_once = max(64, rows)
        assert [len(strip) for strip in strips] == [
            min(at_once, size[0] - top) for top in range(0, size[0], at_once)
        ]
        assert_within_a_level(np.concatenate(strips), whole)
        assert_within_a_level(tiny.decode(blob), whole)
    assert_within_a_level(
        np.concatenate(list(tiny.decode_rows(blob, preview=True))), tiny.preview(blob)
    )


def test_padding_repeats_the_edge(tiny):
    picture = waves(33, 65)
    padded = np.pad(picture, ((0, 31), (0, 31), (0, 0)), mode="edge")
    assert_equal_symbols(
        tiny.quantise_block([picture]).symbols, tiny.quantise_block([padded]).symbols
    )
    decoded = tiny.decode(tiny.encode(padded))
    assert_within_a_level(tiny.decode(tiny.encode(picture)), decoded[:33, :65])


def test_there_is_no_effort_and_no_trade(tiny):
    picture = waves(20, 20)
    assert tiny.encode(picture, effort=0, trade=1.0) == tiny.encode(picture)
    assert tiny.tuned(0) is tiny
    for options in ({"effort": 1}, {"effort": 2}, {"effort": 0, "trade": 2.0}, {"trade": 0.5}):
        for call in (tiny.encode, lambda p, **o: tiny.encode_batch([p], **o)):
            with pytest.raises(ValueError, match="no effort but 0"):
                call(picture, **options)
        with pytest.raises(ValueError, match="no effort but 0"):
            tiny.encode_block([picture], **options)
    with pytest.raises(ValueError, match="no effort but 0"):
        tiny.tuned(1)


def test_files_that_make_no_one_array_or_no_one_block(tiny):
    image = waves(32, 32)
    for other in (tiny.encode(waves(40, 50)), tiny.at_quality(9).encode(image)):
        with pytest.raises(ValueError, match="several sizes or qualities"):
            tiny.symbols([tiny.encode(image), other])
    with pytest.raises(ImageTooLargeError, match="200 images of 1000 x 1000"):
        tiny.encode_block(np.broadcast_to(np.uint8(0), (200, 1000, 1000, 3)))
    with pytest.raises(BitstreamError, match="file 1 of 2: the file is a block"):
        tiny.decode_batch([tiny.encode(image), tiny.encode_block([image] * 2)])


def test_a_card_of_another_quality_is_refused(tmp_path):
    save_tiny(tmp_path / "x.safetensors", quality=101)
    with pytest.raises(CheckpointError, match="wrong quality"):
        hvae_codec.load_file(tmp_path / "x.safetensors")

"""Files that end too early: what the first layer and `partial=True` give, and that nothing else."""

import numpy as np
import pytest

import hvae_codec
from hvae_codec.errors import BitstreamError, CorruptError, WrongModelError
from tests.codec.fully_convolutional.models import waves

pytestmark = pytest.mark.usefixtures("one_thread")


def of_first_layer(codec, data):
    """Preview and features of the top layer; None where it is not whole."""
    try:
        return codec.preview(data), codec.features_from_bytes(data).mean
    except BitstreamError:
        return None


@pytest.mark.parametrize(
    ("size", "channels", "step"),
    [((32, 32), 3, 1), ((40, 50), 1, 7), ((33, 70), 3, 11), ((70, 80), 1, 31)],
)
def test_a_file_cut_anywhere_behind_its_first_layer_gives_its_preview(codec, size, channels, step):
    blob = codec.encode(waves(*size, channels, seed=3))
    preview, features = of_first_layer(codec, blob)
    top = codec.symbols([blob])[0]
    readable = []
    for length in range(0, len(blob), step):
        cut = blob[:length]
        for whole in (codec.decode, lambda cut: codec.layer_features_from_bytes(cut, 2)):
            with pytest.raises(BitstreamError):
                whole(cut)
        if (found := of_first_layer(codec, cut)) is None:
            with pytest.raises(BitstreamError):
                codec.decode(cut, partial=True)
            continue
        readable.append(length)
        np.testing.assert_array_equal(found[0], preview)
        np.testing.assert_array_equal(found[1], features)
    assert readable == list(range(readable[0], len(blob), step)), "and every longer one is readable"
    assert readable[0] < (0.6 if codec.number is None else 0.8) * len(blob)
    cut = blob[: readable[0]]
    np.testing.assert_array_equal(codec.decode(cut, partial=True), preview)
    np.testing.assert_array_equal(codec.file_coder.read_block(cut, 1).rows()[0], top)


def test_a_whole_file_is_decoded_whole(codec):
    blob = codec.encode(waves(32, 32))
    whole = codec.decode(blob, partial=True)
    assert np.array_equal(whole, codec.decode(blob))
    assert not np.array_equal(whole, codec.preview(blob))


def test_damage_behind_the_first_layer_gives_the_preview_and_in_it_an_error(codec):
    blob = codec.encode(waves(32, 32))
    behind = blob[:-1] + bytes([blob[-1] ^ 1])
    assert np.array_equal(codec.decode(behind, partial=True), codec.preview(blob))
    with pytest.raises(CorruptError):
        codec.decode(behind)
    inside = blob[:12] + bytes([blob[12] ^ 0x80]) + blob[13:]
    with pytest.raises(CorruptError):
        codec.decode(inside, partial=True)
    other = hvae_codec.load("mnist").encode(waves(28, 28, 1))
    with pytest.raises(WrongModelError):
        codec.decode(other, partial=True)

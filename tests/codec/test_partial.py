"""Files that end too early: what `partial=True` gives, and that nothing else does."""

import numpy as np
import pytest

import hvae_codec
from hvae_codec.errors import BitstreamError, CorruptError, WrongModelError
from tests.photographs import load_sample_image

CODEC = hvae_codec.load("cifar10")
CHINA = load_sample_image("china.jpg")


@pytest.mark.parametrize(("size", "step"), [((32, 32), 1), ((33, 70), 11)])
def test_a_file_cut_anywhere_behind_z2_gives_its_preview(size, step):
    blob = CODEC.encode(CHINA[200 : 200 + size[0], 100 : 100 + size[1]])
    preview = CODEC.preview(blob)
    readable = []
    for length in range(0, len(blob), step):
        cut = blob[:length]
        with pytest.raises(BitstreamError):
            CODEC.decode(cut)
        try:
            picture = CODEC.decode(cut, partial=True)
        except BitstreamError:
            continue
        readable.append(length)
        assert np.array_equal(picture, preview)
    assert readable == list(range(readable[0], len(blob), step))
    assert readable[0] < 0.6 * len(blob)


def test_a_whole_file_is_decoded_whole():
    blob = CODEC.encode(CHINA[200:232, 100:132])
    whole = CODEC.decode(blob, partial=True)
    assert np.array_equal(whole, CODEC.decode(blob))
    assert not np.array_equal(whole, CODEC.preview(blob))


def test_damage_behind_z2_gives_the_preview_and_in_z2_an_error():
    blob = CODEC.encode(CHINA[200:232, 100:132])
    behind = blob[:-1] + bytes([blob[-1] ^ 1])
    assert np.array_equal(CODEC.decode(behind, partial=True), CODEC.preview(blob))
    inside = blob[:12] + bytes([blob[12] ^ 0x80]) + blob[13:]
    with pytest.raises(CorruptError):
        CODEC.decode(inside, partial=True)
    other = hvae_codec.load("mnist").encode(CHINA[:28, :28, :1])
    with pytest.raises(WrongModelError):
        CODEC.decode(other, partial=True)

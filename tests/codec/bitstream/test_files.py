"""The half of a codec without networks, in a process without torch."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from hvae_codec.codec.bitstream.files import read_each
from hvae_codec.errors import BitstreamError, CorruptError

pytestmark = pytest.mark.usefixtures("one_thread")

CODER = """
import pickle, sys
from hvae_codec.codec.bitstream.symbols import in_order
entropy, parts = pickle.load(sys.stdin.buffer)
files = in_order(parts, map(entropy.write, parts))
read = entropy.read(files)
assert "torch" not in sys.modules
sys.stdout.buffer.write(pickle.dumps((files, read)))
"""


def pictures():
    rng = np.random.default_rng(0)
    shapes = [(32, 32, 3), (32, 32, 1), (40, 33, 3), (32, 32, 3)]
    return [rng.integers(90, 110, shape, np.uint8) for shape in shapes]


def test_another_process_writes_and_reads_the_same(codec):
    images = pictures()
    parts = codec.quantise(images)
    sent = pickle.dumps((codec.file_coder, [part.narrowed() for part in parts]))
    done = subprocess.run(
        [sys.executable, "-c", CODER], input=sent, capture_output=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    files, read = pickle.loads(done.stdout)
    expected = [codec.encode(image) for image in images]
    assert files == expected
    decoded = codec.images_of(read)
    for picture, file in zip(decoded, expected, strict=True):
        error = np.abs(picture.astype(int) - codec.decode(file).astype(int))
        assert error.max() <= 1


def test_information_is_that_of_the_codec(codec):
    image = pictures()[0]
    (part,) = codec.quantise([image])
    np.testing.assert_allclose(
        codec.file_coder.information_bits(part), codec.information_bits([image])[0]
    )
    narrow = codec.file_coder.information_bits(part.narrowed())
    np.testing.assert_allclose(narrow, codec.information_bits([image])[0])


def test_a_damaged_file_fails_alone(codec):
    good = codec.encode(pictures()[0])
    found = list(read_each(codec.file_coder, [good, good[:-1], b"nonsense", good]))
    assert [isinstance(one, BitstreamError) for one in found] == [False, True, True, False]
    assert isinstance(found[1], CorruptError)
    (part,) = found[3]
    assert len(part.headers) == 1

"""Where batches are computed: the same answers in the event loop as beside it, and the loop alone
for what takes it no longer than the calls themselves.
"""

import asyncio
import threading

import numpy as np
import pytest

import hvae_codec
from hvae_codec.errors import BitstreamError
from hvae_codec.server.engine import Engine, EngineSettings
from hvae_codec.server.places import InLoop, Pace

pytestmark = pytest.mark.usefixtures("one_thread")


def test_unknown_work_and_long_work_stay_out_of_the_loop():
    pace = Pace()
    assert not pace.fits_loop("encode", 1, 64)
    pace.saw("encode", 1000, 0.001)  # a microsecond each
    assert pace.fits_loop("encode", 16_000, 64)  # 16 ms for 64 calls, which take a loop as long
    assert not pace.fits_loop("encode", 17_000, 64)
    assert pace.fits_loop("encode", 2_000, 1)
    assert not pace.fits_loop("encode", 3_000, 1)
    assert not pace.fits_loop("decode", 1, 64)


def test_the_fastest_of_late_counts():
    pace = Pace()
    pace.saw("encode", 1000, 0.001)
    pace.saw("encode", 1000, 1.0)  # once, beside other work
    assert pace.fits_loop("encode", 1_900, 1)
    for _ in range(400):
        pace.saw("encode", 1000, 1.0)  # for good
    assert not pace.fits_loop("encode", 1_900, 1)


def test_in_the_loop_answers_are_the_same():
    codec = hvae_codec.load("cifar10")
    pictures = list(np.random.default_rng(1).integers(60, 190, (6, 32, 32, 3), np.uint8))
    files = codec.encode_batch(pictures)
    mixed = [*files[:2], b"nonsense", *files[2:]]
    threads = set()

    class Spy(InLoop):
        async def run(self, function):
            threads.add(threading.current_thread())
            return await super().run(function)

    async def main():
        engine = Engine(EngineSettings(coding_processes=0))
        engine._in_loop = Spy()
        answers = []
        for fits in (False, True):
            engine._pace.fits_loop = lambda *_, fits=fits: fits
            answers.append(
                (
                    await engine.encode(codec, pictures),
                    await engine.decode(codec, mixed, [1024] * 7),
                    await engine.features(codec, pictures, 0),
                    await engine.file_features(codec, mixed, [1024] * 7, 0),
                )
            )
            if not fits:
                assert not threads
        await engine.stop()
        return answers

    beside, here = asyncio.run(main())
    assert threads == {threading.main_thread()}
    assert beside[0] == here[0] == files
    for one, other in zip(beside[1] + beside[3], here[1] + here[3], strict=True):
        if isinstance(one, BitstreamError):
            assert (type(one), str(one)) == (type(other), str(other))
        elif isinstance(one, np.ndarray):
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_array_equal(one.mean, other.mean)
    for one, other in zip(beside[2], here[2], strict=True):
        np.testing.assert_allclose(one.mean, other.mean, rtol=1e-5, atol=1e-5)
    assert [isinstance(one, BitstreamError) for one in here[1]] == [n == 2 for n in range(7)]

"""A server that is killed in the middle of a stream, and started again: nothing is lost."""

import threading

import numpy as np
import pytest

import hvae_codec
from hvae_codec.client import Client, Retry, Streaming

pytestmark = pytest.mark.usefixtures("one_thread")

PATIENT = Retry(attempts=1_000, first_delay=0.1, greatest_delay=0.2)


def test_a_stream_outlives_the_server(mortal):
    rng = np.random.default_rng(2)
    coarse = rng.integers(0, 256, (150, 4, 4, 3), dtype=np.uint8)
    pictures = coarse.repeat(8, axis=1).repeat(8, axis=2)
    expected = hvae_codec.load("cifar10", quality=3).encode_batch(pictures)
    streaming = Streaming(in_flight=3, message_items=10)
    found = []
    again = threading.Thread(target=mortal.start)
    with Client(mortal.address, retry=PATIENT, streaming=streaming) as client:
        for blob in client.encode_stream(pictures, model="cifar10", quality=3, timeout=120):
            found.append(blob)
            if len(found) == 55:
                mortal.process.kill()
                mortal.process.wait(timeout=120)
                again.start()
    again.join(timeout=120)
    assert found == expected

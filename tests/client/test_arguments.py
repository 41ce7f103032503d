"""Arguments that make no call: the library's error at once, before any server is asked."""

from decimal import Decimal

import numpy as np
import pytest
from PIL import Image

from hvae_codec.client import Client, Retry, ServiceError, Streaming
from hvae_codec.errors import HvaeCodecError, ImageError, NotAnHvaeFileError, UnknownModelError

NOBODY = "127.0.0.1:1"
IMAGE = np.zeros((32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def client():
    with Client(NOBODY, retry=Retry(attempts=1)) as client:
        yield client


@pytest.mark.parametrize(
    "one", [b"\xf6H", bytearray(2), np.zeros(9, np.uint8), np.array(b"", object), "a.hvae", 3, None]
)
@pytest.mark.parametrize(
    "method", ["decode", "preview", "features_from_bytes", "decode_stream", "preview_stream"]
)
def test_one_file_in_the_place_of_many(client, method, one):
    with pytest.raises(NotAnHvaeFileError, match="must be a list, got one"):
        list(getattr(client, method)(one))


@pytest.mark.parametrize("one", ["x.png", b"x", bytearray(1), Image.new("RGB", (8, 8)), 3, None])
@pytest.mark.parametrize("method", ["encode", "features", "encode_stream", "features_stream"])
def test_one_image_in_the_place_of_many(client, method, one):
    with pytest.raises(ImageError, match="must be a list, got one"):
        list(getattr(client, method)(one, model="cifar10"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_bytes": "60"}, "target_bytes must be a number"),
        ({"target_bytes": 0}, "target_bytes must be at least 1"),
        ({"target_bytes": float("nan")}, "target_bytes must be finite"),
        ({"target_psnr": "20"}, "target_psnr must be a number"),
        ({"max_bytes": "60"}, "max_bytes must be a number"),
        ({"max_bytes": -1}, "max_bytes must be at least 1"),
        ({"effort": "1"}, "effort must be a whole number"),
        ({"effort": -1}, r"effort must lie in 0\.\.2"),
        ({"effort": 3}, r"effort must lie in 0\.\.2"),
        ({"quality": 3, "target_bytes": 60}, "exclude each other"),
        ({"timeout": "1"}, "timeout must be a number"),
    ],
)
def test_options_of_encode(client, options, message):
    with pytest.raises(HvaeCodecError, match=message):
        client.encode([IMAGE], model="cifar10", **options)


def test_a_model_is_a_name(client):
    for model in (3, b"cifar10", ["cifar10"]):
        with pytest.raises(UnknownModelError, match="by its name"):
            client.encode([IMAGE], model=model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": "1"}, "count must be a whole number"),
        ({"count": 2.0}, "count must be a whole number"),
        ({"seed": -1}, "seed must lie in 0"),
        ({"seed": 2**64}, "seed must lie in 0"),
        ({"temperature": "1"}, "temperature must be a number"),
        ({"between": (IMAGE,)}, "between takes two"),
        ({"between": "ab"}, "between takes two"),
        ({"transfer": "jpeg"}, "transfer must be 'raw' or 'png'"),
    ],
)
def test_options_of_sample(client, options, message):
    with pytest.raises(HvaeCodecError, match=message):
        client.sample(**{"count": 1, "model": "cifar10", **options})


def test_options_of_features_and_decode(client):
    for layer in ("1", 0, -1, 1.5):
        with pytest.raises(HvaeCodecError, match="layer must"):
            client.features([IMAGE], model="cifar10", layer=layer)
    for transfer in ("jpeg", None, ["raw"]):
        with pytest.raises(HvaeCodecError, match="transfer must be"):
            client.decode([b""], transfer=transfer)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Client(None), "a target is HOST:PORT"),
        (lambda: Client(""), "a target is HOST:PORT"),
        (lambda: Client(b"127.0.0.1:1"), "a target is HOST:PORT"),
        (lambda: Client(NOBODY, connections="2"), "connections must be a whole number"),
        (lambda: Client(NOBODY, timeout="2"), "timeout must be a number"),
        (lambda: Retry(attempts="2"), "attempts must be a whole number"),
        (lambda: Retry(first_delay="2"), "first_delay must be a number"),
        (lambda: Streaming(in_flight="2"), "in_flight must be a whole number"),
        (lambda: Streaming(delay_seconds="2"), "delay_seconds must be a number"),
    ],
)
def test_settings(make, message):
    with pytest.raises(HvaeCodecError, match=message):
        make()


def test_numbers_of_other_kinds_are_taken():
    with (
        Client(NOBODY, connections=np.int64(2), timeout=Decimal("0.2")) as client,
        pytest.raises(ServiceError, match=r"no (answer|server)"),
    ):
        client.models()
    assert Retry(attempts=np.int64(3)).attempts == 3

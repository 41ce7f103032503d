"""Messages above a limit: whose limit it is, by both clients and the commands, at a real server."""

import numpy as np
import pytest
from PIL import Image

import hvae_codec
from hvae_codec.cli import main
from hvae_codec.client import Client, ServiceError

MODEL = {"model": "cifar10", "quality": 3}


def noise(side):
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)


@pytest.mark.parametrize(
    ("limit", "side", "words"),
    [
        # 200x200x3 samples, and a few bytes around them.
        (
            100_000,
            200,
            r"a request of 120,\d{3} bytes; max_message_bytes of this client .* 100,000;",
        ),
        (
            2**23,
            1_200,
            r"a request of 4,32\d,\d{3} bytes; the server's --max-message-bytes is 4,194",
        ),
    ],
)
def test_a_request(real, limit, side, words):
    with (
        Client(real, max_message_bytes=limit) as client,
        pytest.raises(ServiceError, match=words),
    ):
        client.encode([noise(side)], **MODEL)


def test_an_answer(real):
    blob = hvae_codec.load("cifar10", 3).encode(noise(200))
    words = r"the answer of 120,\d{3} bytes; max_message_bytes of this client .* is 100,000; "
    with Client(real, max_message_bytes=100_000) as client:
        with pytest.raises(ServiceError, match=words):
            client.decode([blob])
        assert client.decode([hvae_codec.load("cifar10", 3).encode(noise(32))])[0].shape == (
            32,
            32,
            3,
        )


def test_of_a_command(real, tmp_path, capsys):
    Image.fromarray(noise(200)).save(tmp_path / "a.png")
    words = ["encode", str(tmp_path / "a.png"), "--server", real, *["--model", "cifar10"]]
    assert main([*words, "--max-message-bytes", "100000"]) == 1
    assert "(--max-message-bytes of commands) is 100,000" in capsys.readouterr().err
    assert main([*words, "--max-message-bytes", "1000000"]) == 0
    with pytest.raises(SystemExit, match="2"):
        main([*words[:2], "--max-message-bytes", "1000000"])
    assert "--max-message-bytes needs --server HOST:PORT" in capsys.readouterr().err

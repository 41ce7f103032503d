"""The search of the encoder: it never costs more, and the decoder shows what it predicted."""

import math

import numpy as np
import pytest
import torch

import hvae_codec
from hvae_codec.codec.checkpoint import rate_weight
from hvae_codec.codec.entropy.tables import SymbolTables
from hvae_codec.codec.tiled.encoder_search import (
    EFFORTS,
    TRADE_MAX,
    TRADE_MIN,
    CodeLengths,
    EncoderSearch,
    per_tile,
)
from hvae_codec.codec.tiled.fit_tables import refit_tables
from hvae_codec.errors import CheckpointError
from hvae_codec.evaluation import psnr_each_db
from tests.photographs import load_sample_image

MODELS = ["cifar10-2", "cifar10-3", "mnist-2"]
CHINA, FLOWER = load_sample_image("china.jpg"), load_sample_image("flower.jpg")


@pytest.fixture
def codec(request):
    name, quality = getattr(request, "param", "cifar10-3").split("-")
    return hvae_codec.load(name, int(quality))


def crops(codec, count=24):
    channels, height, width = codec.info.image_shape
    rng = np.random.default_rng(5)
    corners = zip(
        rng.integers(0, 427 - height, count), rng.integers(0, 640 - width, count), strict=True
    )
    photos = [CHINA, FLOWER]
    return np.stack(
        [
            photos[i % 2][y : y + height, x : x + width, :channels]
            for i, (y, x) in enumerate(corners)
        ]
    )


def cost_nats(codec, images, blobs, trade):
    """D + trade * beta * R of files, from decoded pixels and table bits, without the search."""
    symbols = codec.symbols(blobs)
    bits = codec.checkpoint.tables.information_bits(symbols).sum(axis=1)
    shaped = [
        torch.from_numpy(layer).float().reshape(-1, *latent.shape)
        for layer, latent in zip(symbols, codec.model.spec.latents, strict=True)
    ]
    with torch.no_grad():
        output = codec.model.decode(codec.model.dequantise(shaped)).double().numpy()
    x = codec.reference(images).transpose(0, 3, 1, 2) / 255.0
    if codec.model.spec.likelihood == "gaussian":
        nats = (0.5 * ((output.clip(0.0, 1.0) - x) / 0.71) ** 2).sum(axis=(1, 2, 3))
    else:
        nats = (np.logaddexp(0.0, output) - x * output).sum(axis=(1, 2, 3))
    return nats + trade * rate_weight(codec.info.card) * bits * math.log(2.0)


@pytest.mark.parametrize("codec", MODELS, indirect=True, ids=str)
@pytest.mark.parametrize("trade", [0.5, 1.0, 2.0])
def test_no_picture_costs_more_with_more_effort(codec, trade):
    images = crops(codec)
    costs = [cost_nats(codec, images, codec.encode_batch(images), trade)]
    for effort in (1, 2):
        blobs = codec.encode_batch(images, effort=effort, trade=trade)
        costs.append(cost_nats(codec, images, blobs, trade))
    rounding = 1e-4 * costs[0]  # fp32 sums over thousands of terms
    assert (costs[1] <= costs[0] + rounding).all()
    assert (costs[2] <= costs[0] + rounding).all()
    assert costs[2].mean() < costs[1].mean() < costs[0].mean()


@pytest.mark.parametrize("codec", MODELS, indirect=True, ids=str)
def test_the_cost_predicted_is_the_cost_of_the_decoded_file(codec):
    images = crops(codec, 8)
    tables, beta = codec.checkpoint.tables, rate_weight(codec.info.card)
    search = EncoderSearch(codec.model, tables, beta)
    blobs = codec.encode_batch(images, effort=1)
    shaped = [
        torch.from_numpy(layer).float().reshape(-1, *latent.shape)
        for layer, latent in zip(codec.symbols(blobs), codec.model.spec.latents, strict=True)
    ]
    x = codec.model.likelihood.pixels(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    predicted = search.cost(x, shaped, torch.full((8,), 1.5)).numpy()
    normaliser = 0.0
    if codec.model.spec.likelihood == "gaussian":
        normaliser = 0.5 * x[0].numel() * math.log(2 * math.pi * 0.71**2)
    expected = cost_nats(codec, images, blobs, 1.5) + normaliser
    np.testing.assert_allclose(predicted, expected, rtol=1e-4)


def test_trade_moves_size_and_quality_the_same_way(codec):
    images = crops(codec)
    sizes, psnr = [], []
    for trade in (4.0, 2.0, 1.0, 0.5, 0.25):
        blobs = codec.encode_batch(images, effort=1, trade=trade)
        sizes.append(np.mean([len(blob) for blob in blobs]))
        psnr.append(psnr_each_db(images, codec.decode_batch(blobs)).mean())
    assert sizes == sorted(sizes)
    assert psnr == sorted(psnr)


def test_fewer_bytes_at_equal_psnr(codec):
    images = crops(codec, 48)
    plain = codec.encode_batch(images)
    size = np.mean([len(blob) for blob in plain])
    psnr = psnr_each_db(images, codec.decode_batch(plain)).mean()
    searched = codec.encode_batch(images, effort=2, trade=1.5)
    assert np.mean([len(blob) for blob in searched]) < size
    assert psnr_each_db(images, codec.decode_batch(searched)).mean() > psnr


def test_repeats_and_agrees_across_ways_to_encode(codec):
    images = crops(codec)
    blobs = codec.encode_batch(images, effort=1)
    assert codec.encode_batch(images, effort=1) == blobs
    block = codec.decode_block(codec.encode_block(images, effort=1))
    assert np.abs(block.astype(int) - codec.decode_batch(blobs)).max() <= 1
    single = codec.encode(images[0], effort=1)
    assert abs(len(single) - len(blobs[0])) <= 3, "fp32 sums depend on the batch, if at all"
    each = codec.encode_batch(images[:2], effort=1, trade=[4.0, 0.25])
    assert len(each[0]) < len(codec.encode(images[0], effort=1, trade=0.25))
    assert len(each[1]) > len(codec.encode(images[1], effort=1, trade=4.0))


def test_pictures_of_several_tiles_and_grey_ones(codec):
    pictures = [CHINA[:40, :70], CHINA[:32, :32, :1], FLOWER[:5, :9]]
    blobs = codec.encode_batch(pictures, effort=1, trade=[1.0, 2.0, 0.5])
    for picture, decoded in zip(pictures, codec.decode_batch(blobs), strict=True):
        assert decoded.shape == picture.shape
    assert codec.encode_batch([], effort=2) == []


def test_a_tuned_codec_encodes_with_its_own_effort(codec):
    tuned = codec.tuned(1, 2.0)
    image = crops(codec, 1)[0]
    assert tuned.encode(image) == codec.encode(image, effort=1, trade=2.0)
    assert tuned.encode(image, effort=0) == codec.encode(image)
    assert tuned.transform.networks is codec.transform.networks
    assert hvae_codec.load("cifar10", effort=1).point.effort == 1
    assert codec.point.effort == 0


def test_what_is_refused(codec):
    image = crops(codec, 1)
    for arguments in [
        {"effort": 3},
        {"effort": -1},
        {"trade": 2.0},
        {"effort": 1, "trade": 0.0},
        {"effort": 1, "trade": float("nan")},
        {"effort": 1, "trade": 2 * TRADE_MAX},
        {"effort": 1, "trade": TRADE_MIN / 2},
        {"effort": 1, "trade": [1.0, 1.0]},
    ]:
        with pytest.raises(ValueError, match=r"effort|trade"):
            codec.encode_batch(image, **arguments)
    with pytest.raises(ValueError, match=r"\(0, 1, 2\)"):
        codec.tuned(7)
    with pytest.raises(CheckpointError, match="no betas"):
        rate_weight({"name": "x", "quality": 1, "recipe": {}})
    assert EFFORTS == (0, 1, 2)
    assert per_tile(1, [1.0, 2.0], [2, 1]).tolist() == [1.0, 1.0, 2.0]


def test_code_lengths_are_the_tables_and_straight_lines_between():
    rng = np.random.default_rng(0)
    columns = (rng.integers(-3, 4, (500, 6)) * [0, 1, 1, 2, 3, 1]).astype(np.int32)
    tables = SymbolTables.fit([columns])
    lengths = CodeLengths(tables, [(2, 3)], torch.device("cpu"))
    k = torch.from_numpy(columns[:50].reshape(-1, 2, 3)).float()
    bits = lengths.nats(0, k).flatten(1).sum(1).double() / math.log(2.0)
    np.testing.assert_allclose(bits, tables.information_bits([columns[:50]])[:, 0], rtol=1e-5)
    above = lengths.clamp(0, k + 1)
    u = (k + 0.25 * (above - k)).requires_grad_()
    between = lengths.between(0, u)
    expected = 0.75 * lengths.nats(0, k) + 0.25 * lengths.nats(0, above)
    torch.testing.assert_close(between, expected)
    (slope,) = torch.autograd.grad(between.sum(), u)
    torch.testing.assert_close(slope, lengths.nats(0, above) - lengths.nats(0, k))
    outside = lengths.neighbour(0, lengths.high[0].expand_as(k), 1.0)
    assert torch.isinf(outside).all()


def test_refitted_tables_cost_fewer_bits_for_searched_symbols(codec):
    images = crops(codec, 200)
    checkpoint = codec.checkpoint
    beta = rate_weight(codec.info.card)
    symbols = codec.transform.networks.symbols(images)
    first = SymbolTables.fit(symbols)
    refitted = refit_tables(checkpoint.model, first, images, beta=beta, effort=1, rounds=1)
    search = EncoderSearch(checkpoint.model, first, beta)
    trades = torch.ones(len(images))
    searched = codec.transform.networks.symbols(
        images, lambda x, k, start: search.improve_part(1, trades, x, k, start)
    )
    before, after = first.information_bits(searched), refitted.information_bits(searched)
    assert after.sum() < before.sum()

"""The strip-wise path gives the bytes and pixels of the whole path, in memory that is bounded."""

import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hvae_codec
from hvae_codec.codec.bitstream.header import SizedHeader
from hvae_codec.codec.bitstream.symbols import SymbolBatch
from hvae_codec.codec.entropy import tile_coder as coder_module
from hvae_codec.codec.tiled.networks import Networks
from hvae_codec.codec.tiled.streaming import picture_rows, regrouped, symbols_of
from hvae_codec.codec.tiled.tiling import assembled, merge, merge_rows, split
from hvae_codec.errors import BitstreamError, CorruptError, TruncatedError

TILE = (32, 32)


def waves(height, width, channels, seed=0):
    rng = np.random.default_rng(seed)
    y, x, _ = np.mgrid[:height, :width, :1] / 16.0
    turn, shift = rng.uniform(0, 3, (2, channels)), rng.uniform(0, 6, channels)
    noisy = 128 + 90 * np.sin(turn[0] * y + turn[1] * x + shift) + rng.normal(0, 9, (height, 1, 1))
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def codec():
    return hvae_codec.load("cifar10", quality=1)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.integers(1, 12))
def test_regrouping_keeps_all_rows_in_order(lengths, size):
    ends = np.cumsum([0, *lengths])
    parts = [np.arange(a, b) for a, b in pairwise(ends)]
    groups = list(regrouped(parts, size))
    assert [len(group) for group in groups[:-1]] == [size] * (len(groups) - 1)
    assert all(0 < len(group) <= size for group in groups)
    assert np.concatenate([[], *groups]).tolist() == list(range(ends[-1]))


def softened_whole(tiles, height, width, rmse):
    """A second implementation of seam softening: pixel by pixel over the whole padded picture."""
    _, h, w, _ = tiles.shape
    columns = -(-width // w)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    picture = np.concatenate(rows).astype(np.float32)
    ramp = [0.4375, 0.3125, 0.1875, 0.0625] if rmse >= 16 else [0.375, 0.125]
    shares = [*ramp[::-1], *(-share for share in ramp)]
    for axis, side in ((1, w), (0, h)):
        lines = picture.swapaxes(0, axis)
        for seam in range(side, len(lines), side) if side >= 8 else ():
            near = lines[seam - 4 : seam + 4].copy()
            slopes = np.diff(near, axis=0)
            step = slopes[3] - (slopes[2] + slopes[4]) / 2
            texture = (np.abs(slopes).sum(axis=0) - np.abs(slopes[3])) / np.float32(6)
            size = np.maximum(np.abs(step), np.float32(0.5))
            step = step * np.clip(1 - 0.7 * texture / size, 0, 1)
            step = step * np.clip(2 - size / np.float32(3 * rmse), 0, 1)
            for offset, share in zip(range(-len(ramp), len(ramp)), shares, strict=True):
                line = near[4 + offset] + np.float32(share) * step
                lines[seam + offset] = np.clip(np.rint(line), 0, 255)
    return picture[:height, :width].astype(np.uint8)


@settings(max_examples=60)
@given(
    st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 3]),
    st.integers(1, 20), st.integers(1, 20), st.sampled_from([4.0, 10.0, 25.0]),
)  # fmt: skip
def test_seams_are_softened_in_strips_as_in_whole(height, width, channels, h, w, rmse):
    tiles = split(waves(height, width, channels, seed=height), (h, w))
    shifts = np.random.default_rng(width).integers(0, 30, (len(tiles), 1, 1, 1))
    tiles = np.clip(tiles + shifts, 0, 255).astype(np.uint8)
    kept = tiles.copy()
    columns = -(-width // w)
    rows = (tiles[i : i + columns] for i in range(0, len(tiles), columns))
    strips = [strip.copy() for strip in merge_rows(rows, height, width, rmse)]
    assert [len(strip) for strip in strips[:-1]] == [h] * (len(strips) - 1)
    expected = softened_whole(tiles, height, width, rmse)
    np.testing.assert_array_equal(np.concatenate(strips), expected)
    np.testing.assert_array_equal(merge(tiles, height, width, rmse), expected)
    np.testing.assert_array_equal(tiles, kept)


@settings(max_examples=10)
@given(st.integers(1, 110), st.integers(1, 110), st.sampled_from([1, 3]))
def test_strips_are_the_decoded_picture(codec, height, width, channels):
    picture = waves(height, width, channels, seed=width)
    blob = codec.encode(picture)
    # Networks round a little differently in batches of other sizes, so a mean that lies between two
    # symbols may go either way.
    in_batch = codec.encode_batch([picture, picture[:1, :1]])[0]
    for one, other in zip(codec.symbols([blob]), codec.symbols([in_batch]), strict=True):
        assert (one != other).mean() < 0.001
    strips = list(codec.decode_rows(blob))
    assert [len(strip) for strip in strips[:-1]] == [32] * (len(strips) - 1)
    whole = codec.decode_batch([blob, codec.encode(picture[:1, :1])])[0]
    np.testing.assert_array_equal(np.concatenate(strips), codec.decode(blob))
    apart = np.abs(np.concatenate(strips).astype(int) - whole)
    assert apart.max() <= 2  # one level of the networks', which softening can double
    assert (apart > 0).mean() < 0.01
    preview = np.concatenate(list(codec.decode_rows(blob, preview=True)))
    np.testing.assert_array_equal(preview, codec.preview(blob))


def test_many_runs_of_symbols(codec, monkeypatch):
    """More tiles than a run has and than go through the networks at once, on both ways."""
    monkeypatch.setattr(coder_module, "RUN", 256)
    picture = waves(17 * 32 - 5, 17 * 32 - 3, 3)  # 289 tiles
    whole = codec.transform.networks.symbols(split(picture, TILE))
    symbols = symbols_of(codec.transform.networks, codec.file_coder.coder.tables, picture, TILE)
    assert [layer.dtype for layer in symbols] == [np.int8, np.int8]
    for layer, expected in zip(symbols, whole, strict=True):
        np.testing.assert_array_equal(layer, expected)
    model_id = bytes.fromhex(codec.info.model_id)
    stated = SizedHeader(model_id, picture.shape[1], picture.shape[0])
    files = codec.file_coder
    (blob,) = files.write(SymbolBatch([0], [stated], whole))
    assert files.write(SymbolBatch([0], [stated], symbols)) == [blob]
    header, runs = files.read_runs(blob)
    parts = list(runs)
    assert [len(part[0]) for part in parts] == [256, 33]
    for layer, expected in zip(files.symbols([blob]), whole, strict=True):
        np.testing.assert_array_equal(layer, expected)
    for index, expected in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([part[index] for part in parts]), expected)
    strips = picture_rows(codec.transform.networks, parts, header.height, header.width, TILE, 16.0)
    expected = merge(codec.transform.networks.tiles(whole), *picture.shape[:2], 16.0)
    np.testing.assert_array_equal(assembled(strips, len(picture)), expected)


def test_an_effort_sees_the_trade_of_each_tile(codec):
    picture = waves(17 * 32, 17 * 32, 3)  # 289 tiles: two chunks
    tiles = split(picture, TILE)
    positions = []

    def refine(x, symbols, start):
        positions.extend(range(start, start + len(x)))
        return [k + 0 for k in symbols]

    symbols = symbols_of(
        codec.transform.networks, codec.file_coder.coder.tables, picture, TILE, refine
    )
    assert positions == list(range(289))
    np.testing.assert_array_equal(symbols[1], codec.transform.networks.symbols(tiles, refine)[1])


def test_symbols_of_wide_tables_take_two_bytes():
    """A model whose steps are so small that its symbols leave the range of one byte."""
    from hvae_codec.codec.tiled.fit_tables import fit_tables
    from hvae_codec.models import HierarchicalVAE, get_spec

    torch.manual_seed(0)
    model = HierarchicalVAE(get_spec("ghvae-28x28x1"), "uniform").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "step" in name:
                parameter -= 8.0
    images = np.stack([waves(28, 28, 1, seed) for seed in range(64)])
    tables = fit_tables(model, images)
    assert max(layer.high.max() for layer in tables.layers) > 127
    picture = waves(60, 50, 1)
    networks = Networks(model, tables)
    symbols = symbols_of(networks, tables, picture, (28, 28))
    assert np.int16 in {layer.dtype.type for layer in symbols}
    for layer, expected in zip(symbols, networks.symbols(split(picture, (28, 28))), strict=True):
        np.testing.assert_array_equal(layer, expected)


def test_all_checks_are_done_before_the_first_strip(codec):
    blob = codec.encode(waves(100, 100, 3))
    with pytest.raises(TruncatedError):
        codec.decode_rows(blob[:-1])
    with pytest.raises(CorruptError):
        codec.decode_rows(blob[:-1] + bytes([blob[-1] ^ 1]))
    with pytest.raises(BitstreamError, match="block of 2 images"):
        codec.decode_rows(codec.encode_block(np.stack([waves(40, 40, 3)] * 2)))
    assert next(codec.decode_rows(blob[:-1], preview=True)).shape == (32, 100, 3)


PEAK = """
import sys, re
import numpy as np
import torch
import hvae_codec
torch.set_num_threads(1)
codec = hvae_codec.load("cifar10", quality=1)
codec.decode(codec.encode(np.zeros((320, 320, 3), np.uint8)))
def peak(): return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before = peak()
rows, columns = 3200, 8000
picture = np.broadcast_to(np.arange(rows, dtype=np.uint8)[:, None, None], (rows, columns, 3))
blob = codec.file_coder.write(codec.transform.encode([(picture, False)], codec.point)[0])[0]
encoded = peak()
total = sum(len(strip) for strip in codec.decode_rows(blob))
assert total == rows
print(encoded - before, peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_memory_is_bounded():
    """77 MB of pixels, 25,000 tiles: their symbols, 544 a tile, are 14 MB in a byte each; as int32
    they would be 54.
    """
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    encoded, decoded = map(float, re.findall(r"[\d.]+", done.stdout))
    assert encoded < 60
    assert decoded < 78

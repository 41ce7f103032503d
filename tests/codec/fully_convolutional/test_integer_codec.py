"""Codecs of integers: the same bytes and pixels in any batch, strip, thread and instruction set."""

import hashlib
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

import hvae_codec
from hvae_codec import ops
from hvae_codec.codec.checkpoint import load_checkpoint, read_card, save_checkpoint
from hvae_codec.codec.codec import Codec
from hvae_codec.codec.fully_convolutional import networks, transform
from hvae_codec.errors import CheckpointError, HvaeCodecError, WrongModelError
from hvae_codec.models.integer.model import IntegerConvVAE
from tests.codec.fully_convolutional.models import assert_equal_symbols, waves
from tests.codec.test_torch_state import STATES, assert_equal, results

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parents[3]
LEVELS = ["baseline", "avx2", "avx512", None]
"""Of HVAE_SIMD; without it the best is taken."""


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    with threadpool_limits(count):
        yield
    torch.set_num_threads(before)


def pictures_of(count, height=40, width=70):
    return [waves(height, width, seed=n) for n in range(count)]


def coded(codec, pictures):
    """Files of all pictures and what they decode to, as one."""
    blobs = codec.encode_batch(pictures)
    return blobs, codec.decode_batch(blobs)


@pytest.mark.parametrize("count", [1, 2])
def test_batches_and_threads_change_no_byte_and_no_pixel(integers, count):
    """For each batch of 1 to 17, against the pictures one by one with one thread."""
    pictures = pictures_of(17)
    blobs = [integers.encode(picture) for picture in pictures]
    images = [integers.decode(blob) for blob in blobs]
    assert len(set(blobs)) == 17
    with threads(count):
        for size in range(1, 18):
            found, decoded = coded(integers, pictures[-size:])
            assert found == blobs[-size:]
            np.testing.assert_array_equal(decoded, images[-size:])


def print_hash(path):
    """The instruction set, and a hash of files and pixels, of pictures of several qualities."""
    codec = hvae_codec.load_file(path)
    for count in (1, 2):
        digest = hashlib.sha256()
        with threads(count):
            for quality in (1, 50, 100):
                blobs, images = coded(codec.at_quality(quality), pictures_of(5, 65, 90))
                digest.update(b"".join(blobs) + images.tobytes())
        print(digest.hexdigest())
    print(ops.build_info()["simd_level"])


@pytest.mark.parametrize("level", LEVELS)
def test_instruction_sets_change_no_byte_and_no_pixel(even_directory, integers, level):
    environment = {key: value for key, value in os.environ.items() if key != "HVAE_SIMD"}
    if level is not None:
        environment["HVAE_SIMD"] = level
    path = even_directory / "integers.safetensors"
    program = f"import {__name__} as here; here.print_hash({str(path)!r})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    digest = hashlib.sha256()
    for quality in (1, 50, 100):
        blobs, images = coded(integers.at_quality(quality), pictures_of(5, 65, 90))
        digest.update(b"".join(blobs) + images.tobytes())
    *hashes, found = done.stdout.split()
    assert hashes == [digest.hexdigest()] * 2
    if level is not None and found != level:
        pytest.skip(f"the processor has no {level}; {found} was run")


@pytest.mark.parametrize("state", STATES)
def test_what_a_program_sets_in_torch_changes_nothing(integers, even_directory, state):
    expected = results(integers)
    with STATES[state]():
        assert_equal(results(integers), expected)
        loaded_within = hvae_codec.load_file(even_directory / "integers.safetensors")
        assert_equal(results(loaded_within), expected)
    assert_equal(results(loaded_within), expected)


def test_matrices_give_the_same_as_the_compiled_op(integers, monkeypatch):
    """What CUDA and installations without the extension compute by."""
    pictures = pictures_of(3)
    blobs, images = coded(integers, pictures)
    monkeypatch.setattr("hvae_codec.ops.integer.extension_available", lambda: False)
    monkeypatch.setattr(torch.ops.hvae, "integer_convolution", None)
    found, decoded = coded(integers, pictures)
    assert found == blobs
    np.testing.assert_array_equal(decoded, images)


@settings(max_examples=25)
@given(
    st.tuples(st.integers(1, 150), st.integers(1, 70)),
    st.integers(0, 255),
    st.booleans(),
    st.integers(0, 9),
)
def test_strips_are_the_whole(integers, size, number, grey, seed):
    """Of any size and quality; strips as low as they come."""
    own = integers.at_number(number)
    picture = waves(*size, 1 if grey else 3, seed=seed)
    blob = own.encode(picture)
    whole = own.decode(blob)
    assert whole.shape == picture.shape
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, "STRIP_PIXELS", 1)
        assert own.encode(picture) == blob
        strips = list(integers.decode_rows(blob))
        assert len(strips) == -(-size[0] // 64)
        np.testing.assert_array_equal(np.concatenate(strips), whole)
        np.testing.assert_array_equal(own.decode(blob), whole)
        preview = np.concatenate(list(own.decode_rows(blob, preview=True)))
    np.testing.assert_array_equal(preview, own.preview(blob))


def test_padding_repeats_the_edge(integers):
    picture = waves(33, 65)
    padded = np.pad(picture, ((0, 31), (0, 31), (0, 0)), mode="edge")
    blob = integers.encode(padded)
    assert_equal_symbols(integers.symbols([integers.encode(picture)]), integers.symbols([blob]))
    decoded = integers.decode(integers.encode(picture))
    np.testing.assert_array_equal(decoded, integers.decode(blob)[:33, :65])


def test_chunks_change_nothing(integers, monkeypatch):
    pictures = pictures_of(5, 64, 96)
    blob, before = integers.encode_block(pictures), coded(integers, pictures)
    images = integers.decode_block(blob)
    monkeypatch.setattr(transform, "_CHUNK_PIXELS", 2 * 64 * 96)
    assert integers.encode_block(pictures) == blob
    found, decoded = coded(integers, pictures)
    assert found == before[0]
    np.testing.assert_array_equal(decoded, before[1])
    np.testing.assert_array_equal(decoded, images)
    np.testing.assert_array_equal(integers.decode_block(blob), images)


def test_archives_hold_the_same_pixels(integers, even_directory, tmp_path, monkeypatch):
    monkeypatch.setenv("HVAE_MODELS", str(even_directory))
    pictures = [*pictures_of(5), *pictures_of(3, 64, 64)]
    alone = [integers.decode(integers.encode(picture)) for picture in pictures]
    path = tmp_path / "pictures.hvaa"
    with hvae_codec.ArchiveWriter(path, integers, block_tiles=4) as archive:
        archive.extend(pictures)
    with hvae_codec.Archive(path) as archive:
        assert archive.verify() == []
        assert archive.info.model_id == integers.info.model_id
        for image, number in zip(archive, range(8), strict=True):
            np.testing.assert_array_equal(image, alone[number])
            np.testing.assert_array_equal(archive[number], alone[number])


def test_a_checkpoint_keeps_its_id(integers, even_directory, tmp_path):
    """Written and read again: its tensors, its arithmetic and what it codes."""
    checkpoint = load_checkpoint(even_directory / "integers.safetensors")
    assert isinstance(checkpoint.model, IntegerConvVAE)
    path = tmp_path / "again.safetensors"
    written = save_checkpoint(path, checkpoint.model, checkpoint.tables, checkpoint.card)
    again = hvae_codec.load_file(path)
    assert written.model_id.hex() == again.info.model_id == integers.info.model_id
    assert read_card(path.with_suffix(".json"))["arithmetic"] == "int16"
    before, after = checkpoint.model.state_dict(), again.model.state_dict()
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        assert tensor.dtype == after[key].dtype
        assert torch.equal(tensor, after[key])
    picture = waves(40, 50)
    assert again.encode(picture) == integers.encode(picture)
    in_memory = Codec(checkpoint)
    np.testing.assert_array_equal(
        in_memory.decode(again.encode(picture)), integers.decode(again.encode(picture))
    )


def test_the_id_is_of_the_arithmetic(integers, even, tmp_path, even_directory):
    """Files of one are not taken for those of the other; nor is a file overwritten."""
    assert integers.info.model_id != even.info.model_id
    assert "arithmetic" not in even.info.card
    assert integers.info.continuous
    with pytest.raises(WrongModelError, match=even.info.model_id):
        integers.decode(even.encode(waves(20, 20)))
    checkpoint = integers.checkpoint
    with pytest.raises(CheckpointError, match="would overwrite it"):
        save_checkpoint(
            even_directory / "even.safetensors",
            checkpoint.model,
            checkpoint.tables,
            checkpoint.card,
        )


@pytest.mark.parametrize("quality", [1, 50, 100])
def test_features_are_near_the_float_models(integers, even, quality):
    """And those of bytes equal those of pictures, of all layers or the first ones."""
    pictures = [waves(*size, seed=n) for n, size in enumerate([(64, 64), (40, 70), (64, 64)])]
    own, floats = integers.at_quality(quality), even.at_quality(quality)
    blobs = own.encode_batch(pictures)
    theirs = floats.layer_features(pictures)
    for layers in (None, 1, 3):
        found = own.layer_features(pictures, layers)
        read = own.layer_features_from_bytes(blobs, layers)
        assert len(found) == len(read) == (layers or 4)
        for a, b, c in zip(found, read, theirs, strict=False):
            assert a.mean.shape == a.std.shape == c.mean.shape
            assert a.mean.dtype == a.std.dtype == np.float32
            np.testing.assert_allclose(a.mean, b.mean, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(a.std, b.std)
            np.testing.assert_allclose(a.std, c.std, rtol=1e-5)
            # Each of a few symbols that differ moves a mean by its step over the number of
            # positions, 4 or 6 of the top layer and more below.
            step = c.std.max() * np.sqrt(12.0 * 6)
            assert np.abs(a.mean - c.mean).max() < 0.5 * step
            assert np.abs(a.mean - c.mean).mean() < 0.1 * step


def test_the_top_features_by_hand(integers):
    """The top layer's prior has mean 0: its latents are round(step * k) units."""
    picture = waves(64, 96)
    blob = integers.encode(picture)
    k = integers.symbols([blob])[0].reshape(4, 6)
    layer = integers.model.layers[0]
    step, unit = layer.step[integers.number].numpy(), layer.unit.numpy()
    z = np.rint(k.astype(np.float32) * step[:, None]) * unit[:, None].astype(np.float64)
    found = integers.features_from_bytes(blob)
    np.testing.assert_allclose(found.mean[0], z.mean(axis=1), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.std[0], step * unit / np.sqrt(12 * 6), rtol=1e-6)


def test_first_layers_alone(integers):
    """Layers that are left out take k = 0, as if that had been coded."""
    pictures = pictures_of(3, 64, 64)
    block, blob = integers.quantise_block(pictures), integers.encode_block(pictures)
    for layers in (1, 2, 3, 4):
        read = integers.file_coder.read_block(blob, layers)
        assert_equal_symbols(read.symbols, block.symbols[:layers])
        zeros = [layer * (n < layers) for n, layer in enumerate(block.symbols)]
        expected = integers.images_of([replace(block, symbols=zeros)])
        images = integers.images_of([read])
        np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(images, integers.decode_block(blob))


def test_samples_repeat_themselves(integers):
    samples = integers.sample(5, seed=3)
    assert (samples.shape, samples.dtype) == ((5, 32, 32, 3), np.uint8)
    with threads(2):
        np.testing.assert_array_equal(integers.sample(5, seed=3), samples)
    np.testing.assert_array_equal(integers.sample(2, seed=3).shape, (2, 32, 32, 3))
    assert (integers.sample(5, seed=4) != samples).any()
    assert (integers.at_quality(1).sample(5, seed=3) != samples).any()
    with pytest.raises(HvaeCodecError, match="maps as its top layer"):
        integers.sample(1, top=np.zeros(4))


def test_files_are_about_as_small_as_the_float_models(integers, even):
    """The tables are of that model's symbols, which are nearly the same."""
    pictures = pictures_of(4, 128, 128)
    for quality in (1, 50, 100):
        own, floats = (c.at_quality(quality).encode_batch(pictures) for c in (integers, even))
        assert sum(map(len, own)) == pytest.approx(sum(map(len, floats)), rel=0.02)

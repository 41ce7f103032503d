"""The tables of a model of maps: as a checkpoint holds them, forged, and fitted."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import hvae_codec
from hvae_codec.codec.bitstream.conv_files import ConvFileCoder
from hvae_codec.codec.checkpoint import load_checkpoint, save_checkpoint
from hvae_codec.codec.entropy.context_tables import ContextTables
from hvae_codec.codec.entropy.contexts import GRAIN, SCALE
from hvae_codec.codec.entropy.tables import TOTAL
from hvae_codec.codec.fully_convolutional import fit_tables
from hvae_codec.codec.fully_convolutional.fit_tables import fit_context_tables, round_weights
from hvae_codec.codec.fully_convolutional.networks import ConvNetworks
from hvae_codec.errors import CheckpointError
from hvae_codec.models.fully_convolutional.layers import MIN_RAW
from tests.codec.fully_convolutional.models import TINY, random_tables, save_tiny, tiny_model, waves

pytestmark = pytest.mark.usefixtures("one_thread")

LATENTS = [(32, 2), (16, 1), (8, 1), (8, 2)]


@pytest.fixture
def tensors():
    return random_tables(np.random.default_rng(1), LATENTS, 300).to_tensors()


def test_tensors_there_and_back(tensors):
    again = ContextTables.from_tensors(tensors, LATENTS).to_tensors()
    assert set(again) == set(tensors)
    assert {name for name in tensors if "weights" in name} == {
        "tables.1.weights.32",
        "tables.2.weights.16",
        "tables.2.weights.32",
        "tables.3.weights.16",
        "tables.3.weights.32",
        "tables.3.weights.8",
    }
    for name, array in again.items():
        assert array.dtype == np.int32
        np.testing.assert_array_equal(array, tensors[name])
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def changed(tensors, name, change):
    return tensors | {name: change(tensors[name].copy())}


def assigned(index, value):
    def change(array):
        array[index] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tables.1.bias", lambda a: a.astype(np.int64), "bias is missing or not int32"),
        ("tables.1.bias", lambda a: a.astype(np.float32), "bias is missing or not int32"),
        ("tables.1.bias", lambda a: a[:1], "bias must be"),
        ("tables.1.bias", lambda a: a[:, :0], "bias must be"),
        ("tables.2.thresholds", lambda a: a[::-1].copy() * 0, "thresholds must rise|sizes|levels"),
        ("tables.2.thresholds", lambda a: a[:0], "thresholds"),
        ("tables.2.thresholds", lambda a: a + 1, "multiples of 256"),
        ("tables.2.thresholds", lambda a: np.append(a, a[-1] + np.int32(GRAIN)), "tables for"),
        ("tables.2.weights.16", lambda a: a[..., :1], "must be"),
        ("tables.2.weights.32", lambda a: a.repeat(2, axis=1), "take 12 features"),
        ("tables.3.weights.8", lambda a: a.astype(np.uint32), "weights.8 is missing or not int32"),
        ("tables.0.low", lambda a: a + 40_000, "symbols must lie in"),
        ("tables.0.size", assigned(0, 0), "sizes must lie in"),
        ("tables.0.size", lambda a: a[1:], "sizes"),
        ("tables.0.frequency", lambda a: a[1:], "frequencies"),
        ("tables.0.frequency", lambda a: a - 1, "frequencies must be at least 1"),
    ],
)
def test_forged_tensors_are_refused(tensors, name, change, message):
    with pytest.raises(CheckpointError, match=message):
        ContextTables.from_tensors(changed(tensors, name, change), LATENTS)


def test_weights_of_which_sums_would_not_be_exact(tensors):
    """31 * (2^31 - 1) * inputs * 9 stays below 2^53 for the few inputs here; 5,100 reach it."""
    largest = np.full_like(tensors["tables.3.weights.8"], 2**31 - 1)
    ContextTables.from_tensors(tensors | {"tables.3.weights.8": largest}, LATENTS)
    many = [(8, 5100), (8, 1)]
    wide = random_tables(np.random.default_rng(2), [(8, 1), (8, 1)], 10).to_tensors()
    wide["tables.0.bias"] = np.zeros((2, 5100), np.int32)
    wide["tables.1.weights.8"] = np.full((1, 3 * 5100, 3, 3), 2**31 - 1, np.int32)
    with pytest.raises(CheckpointError, match="sums would not be exact"):
        ContextTables.from_tensors(wide, many)


def test_missing_and_extra_tensors_are_refused(tensors):
    for name in tensors:
        with pytest.raises(CheckpointError, match=f"{name} is missing"):
            ContextTables.from_tensors({k: v for k, v in tensors.items() if k != name}, LATENTS)
    for name in ("tables.0.weights.32", "tables.2.weights.8", "tables.4.low", "other"):
        with pytest.raises(CheckpointError, match="unexpected tensors"):
            ContextTables.from_tensors(tensors | {name: tensors["tables.0.low"]}, LATENTS)
    own = {k: v for k, v in tensors.items() if k.startswith("tables.0.")}
    with pytest.raises(CheckpointError, match="at least 2"):
        ContextTables.from_tensors(own, LATENTS[:1])


@pytest.mark.parametrize("kind", ["changed", "missing", "extra", "card"])
def test_forged_checkpoints_are_refused(tmp_path, kind):
    path = tmp_path / "x.safetensors"
    save_tiny(path)
    stored = load_file(path)
    if kind == "changed":
        stored["tables.2.weights.16"][0, 0, 0, 0] += 1
    elif kind == "missing":
        del stored["tables.1.low"]
    elif kind == "extra":
        stored["tables.9.low"] = stored["tables.1.low"].clone()
    else:
        card = json.loads(path.with_suffix(".json").read_text())
        card["spec"]["latents"][1]["channels"] += 1
        path.with_suffix(".json").write_text(json.dumps(card))
    save_file(stored, path)
    with pytest.raises(CheckpointError):
        hvae_codec.load_file(path)


def test_fitted_levels_are_the_deviations_of_the_networks():
    """Level by level: the raw deviation that `ConvVAE`'s context computes in floats, to a grain."""
    model = tiny_model()
    tables = fit_tables.fit_context_tables(model, [waves(64, 64)], qualities=2)
    deviations = fit_tables.level_deviations()
    assert len(deviations) == fit_tables.LEVELS
    assert deviations[0] == pytest.approx(np.log1p(np.exp(MIN_RAW)))
    for (_, layer), latent, fitted in zip(model.walk(), TINY.latents, tables.layers, strict=True):
        between = np.sqrt(deviations[1:] * deviations[:-1])
        raw = np.log(np.expm1(between))
        found = fitted.context.thresholds / SCALE
        assert np.abs(found[:, None] - raw).min(axis=1).max() <= GRAIN / SCALE
        own = layer.context.bias.table.detach().numpy()
        np.testing.assert_allclose(fitted.context.bias / SCALE, own, atol=0.5 / SCALE)
        assert fitted.context.channels == latent.channels
        sums = np.add.reduceat(fitted.tables.frequency, fitted.tables.offset)
        assert set(sums) == {TOTAL}
    assert sum(v.size for k, v in tables.to_tensors().items() if "weights" in k) == sum(
        conv.weight.numel() for _, layer in model.walk() for conv in layer.context.maps.values()
    )


def test_fitting_is_repeatable_and_learns():
    """A picture costs fewer bits under tables fitted to it than under those fitted to another."""
    model = tiny_model()
    ours, other = waves(64, 64, seed=1), np.zeros((64, 64, 3), np.uint8)
    bits = []
    for picture in (ours, ours, other):
        tables = fit_tables.fit_context_tables(model, [picture] * 3, qualities=3)
        entropy = ConvFileCoder(tables, b"tiny", (64, 64), model.spec.coarsest)
        symbols, _ = ConvNetworks(model, entropy).symbols(ours[None], 128)
        bits.append(entropy.coder.information_bits(symbols, 128).sum())
    assert bits[0] == bits[1] < bits[2]


def test_rounded_weights_take_half_the_bytes_and_lose_nothing(tmp_path):
    model = tiny_model()
    tables = fit_context_tables(model, [waves(64, 64)], qualities=1)
    card = {"name": "tiny", "quality": 50, "measured": {}}
    save_checkpoint(tmp_path / "whole.safetensors", model, tables, card)
    round_weights(model)
    for parameter in model.parameters():
        assert torch.equal(parameter.half().float(), parameter)
    checkpoint = save_checkpoint(tmp_path / "half.safetensors", model, tables, card)
    whole, half = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("whole", "half"))
    assert whole - half > 1.9 * sum(parameter.numel() for parameter in model.parameters())
    loaded = load_checkpoint(tmp_path / "half.safetensors")
    assert loaded.card["sha256"] == checkpoint.card["sha256"]

"""Models whose residual blocks convolve bytes: near the float model, and the same bits always."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import hvae_codec
from hvae_codec.codec.checkpoint import save_checkpoint
from hvae_codec.codec.fully_convolutional.fit_tables import fit_context_tables
from hvae_codec.errors import CheckpointError, SpecError
from hvae_codec.evaluation.integers import extreme_images
from hvae_codec.models.integer.convert import to_integers
from hvae_codec.models.integer.model import IntegerBlock, IntegerConvVAE
from tests.codec.fully_convolutional.models import EVEN, even_model, waves

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def codecs(tmp_path_factory):
    """The float codec, and those of integers made of it, by arithmetic."""
    folder = tmp_path_factory.mktemp("models")
    model = even_model(2)
    images = [waves(64, 64, seed=seed) for seed in range(4)]
    tables = fit_context_tables(model, images, qualities=3)
    measured = {"payload_bytes": 1.0, "psnr_db": 1.0, "rates_nats": [1.0] * len(EVEN.latents)}
    card = {"name": "even", "quality": 50, "measured": measured}
    models = {"float": model}
    for arithmetic in ("int8", "int16"):
        models[arithmetic] = to_integers(model, images, arithmetic, extreme_images((64, 64)))
    for name, one in models.items():
        save_checkpoint(folder / f"{name}.safetensors", one, tables, card)
    return {name: hvae_codec.load_file(folder / f"{name}.safetensors") for name in models}, folder


def mean_error(codec, pictures):
    pairs = zip(codec.decode_batch(codec.encode_batch(pictures)), pictures, strict=True)
    return np.mean([np.square(a.astype(float) - b).mean() for a, b in pairs])


def test_error_and_bytes_are_near_the_float_models(codecs):
    """Of random weights 8 bits cost more than of trained ones: some percent, not a multiple."""
    by_name, _ = codecs
    pictures = [waves(64, 96, seed=seed) for seed in range(50, 60)]
    errors = {name: mean_error(codec, pictures) for name, codec in by_name.items()}
    assert errors["int16"] == pytest.approx(errors["float"], rel=0.01)
    assert errors["int8"] == pytest.approx(errors["float"], rel=0.05)
    sizes = {n: sum(map(len, c.encode_batch(pictures))) for n, c in by_name.items()}
    assert sizes["int8"] == pytest.approx(sizes["float"], rel=0.03)
    assert len({codec.info.model_id for codec in by_name.values()}) == 3
    assert [codec.info.arithmetic for codec in by_name.values()] == [*by_name]


def test_files_and_pixels_do_not_depend_on_batch_or_threads(codecs):
    codec = codecs[0]["int8"]
    pictures = [waves(70, 41, seed=seed) for seed in range(7)]
    alone = [codec.encode(picture) for picture in pictures]
    pixels = [codec.decode(blob) for blob in alone]
    torch.set_num_threads(2)
    assert codec.encode_batch(pictures) == alone
    for ours, theirs in zip(codec.decode_batch(alone), pixels, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    strips = np.concatenate(list(codec.decode_rows(alone[0])))
    np.testing.assert_array_equal(strips, pixels[0])


def test_the_blocks_alone_convolve_bytes_which_are_stored_as_such(codecs):
    by_name, folder = codecs
    model = by_name["int8"].model
    firsts = [block.first for block in model.modules() if isinstance(block, IntegerBlock)]
    narrowed = [m for m in model.modules() if getattr(m, "narrow", None) is not None]
    assert [*map(id, firsts)] == [*map(id, narrowed)]
    tensors = load_file(folder / "int8.safetensors")
    assert {t.dtype for n, t in tensors.items() if n.endswith("first.weight")} == {torch.int8}
    assert tensors["model.stem.weight"].dtype == torch.int16
    assert max(int(first.weight.abs().max()) for first in firsts) == 127


def test_a_weight_or_factor_that_bytes_do_not_take(codecs):
    state = codecs[0]["int8"].model.state_dict()
    key = "encoder.8.0.first"
    model = IntegerConvVAE(EVEN, "int8")
    with pytest.raises(CheckpointError, match="weights of up to 128; 127 is the largest"):
        model.load_state_dict({**state, f"{key}.weight": state[f"{key}.weight"] * 0 + 128})
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(CheckpointError, match="narrowed by"):
            model.load_state_dict({**state, f"{key}.narrow": torch.tensor(wrong)})


def test_an_arithmetic_that_there_is_not():
    with pytest.raises(SpecError, match=r"no integer arithmetic 'int4'; there are .*int8.*int16"):
        to_integers(even_model(), [waves(64, 64)], "int4")

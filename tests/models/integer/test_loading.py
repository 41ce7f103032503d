"""Integer checkpoints that are damaged or forged are refused, with what is wrong of them."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import hvae_codec
from hvae_codec.codec.checkpoint import load_checkpoint
from hvae_codec.errors import CheckpointError, SpecError
from hvae_codec.models.build import build_coding_model
from hvae_codec.models.integer.convolution import IntegerConv2d
from hvae_codec.models.integer.model import IntegerConvVAE
from tests.codec.fully_convolutional.models import EVEN, TINY, save_integers

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The path of an integer checkpoint, that of its float model beside it."""
    path = tmp_path_factory.mktemp("models") / "even.safetensors"
    save_integers(path)
    return path.with_name("integers.safetensors")


def forged(checkpoint, folder, tensors=None, **card):
    """The checkpoint with other tensors and fields of its card."""
    path = folder / "forged.safetensors"
    save_file({**load_file(checkpoint), **(tensors or {})}, path)
    fields = json.loads(checkpoint.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**fields, **card}))
    return path


def refused(path, said):
    with pytest.raises(CheckpointError, match=said):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["stem", "layers.1.merge", "decoder.8.0.first", "output"])
def test_weights_whose_sums_could_overflow(checkpoint, tmp_path, name):
    """Just as large as they may be, and by one too large."""
    conv = load_checkpoint(checkpoint).model.get_submodule(name)
    key = f"model.{name}.bias"
    rest = [2**31 - 1 - conv.limit * sum(map(abs, row)) for row in conv.weight.flatten(1).tolist()]
    assert min(rest) >= 0
    refused(forged(checkpoint, tmp_path, {key: torch.tensor(rest).int()}), "content hash")
    rest[-1] = -rest[-1] - 1
    path = forged(checkpoint, tmp_path, {key: torch.tensor(rest).int()})
    refused(path, f"a sum could reach {2**31}; up to {2**31 - 1} fits")
    weight = torch.full_like(conv.weight, -32767)
    refused(forged(checkpoint, tmp_path, {f"model.{name}.weight": weight}), "a sum could reach")


NOT_FINITE = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("bad", NOT_FINITE)
@pytest.mark.parametrize("name", ["stem.factor", "layers.2.blocks.0.second.gain", "output.factor"])
def test_factors_that_are_not_finite(checkpoint, tmp_path, name, bad):
    tensor = load_file(checkpoint)[f"model.{name}"].float()
    tensor.flatten()[-1] = bad
    refused(forged(checkpoint, tmp_path, {f"model.{name}": tensor}), "a factor that is not finite")


def test_a_factor_that_a_gain_makes_infinite(checkpoint, tmp_path):
    """The product is infinite only as float64 makes it: in float32 1 + gain is 1."""
    name = "model.layers.2.blocks.0.second"
    factor, gain = (load_file(checkpoint)[f"{name}.{key}"].float() for key in ("factor", "gain"))
    factor[0], gain[:, 0] = torch.finfo(torch.float32).max, 5.6e-8
    path = forged(checkpoint, tmp_path, {f"{name}.factor": factor, f"{name}.gain": gain})
    refused(path, r"factor that is not finite, or beyond 1.84467e\+19: 3.40282e\+38")


@pytest.mark.parametrize("bad", [0.0, -1.0, 1e-40, *NOT_FINITE])
@pytest.mark.parametrize("name", ["step", "unit"])
def test_steps_that_are_no_steps(checkpoint, tmp_path, name, bad):
    """Of 1e-40 the inverse is infinite, and the product with a difference of 0 no number."""
    tensor = load_file(checkpoint)[f"model.layers.1.{name}"].float()
    tensor.flatten()[-1] = bad
    path = forged(checkpoint, tmp_path, {f"model.layers.1.{name}": tensor})
    refused(path, "steps must be above 0")


@pytest.mark.parametrize(
    ("shape", "said"), [((8, 3, 3, 46), "size mismatch"), ((8, 3, 3, 48, 1), "size mismatch")]
)
def test_weights_of_another_shape(checkpoint, tmp_path, shape, said):
    weight = torch.zeros(shape, dtype=torch.int16)
    refused(forged(checkpoint, tmp_path, {"model.stem.weight": weight}), said)


def test_tensors_that_lack_or_are_too_many(checkpoint, tmp_path):
    refused(forged(checkpoint, tmp_path, {"model.stem.more": torch.zeros(1)}), "Unexpected key")
    path = forged(checkpoint, tmp_path)
    for name in ("model.output.factor", "model.layers.0.step", "model.layers.3.into.weight"):
        tensors = load_file(checkpoint)
        del tensors[name]
        save_file(tensors, path)
        refused(path, f"Missing key.*{name.removeprefix('model.')}")


@pytest.mark.parametrize("arithmetic", ["int4", "float16", "", None, 16, "INT16"])
def test_an_arithmetic_that_there_is_not(checkpoint, tmp_path, arithmetic):
    path = forged(checkpoint, tmp_path, arithmetic=arithmetic)
    refused(
        path,
        f"maps-even with 'uniform' posteriors has no arithmetic {arithmetic!r}; there is float",
    )


def test_weights_of_the_other_arithmetic(checkpoint, tmp_path):
    refused(forged(checkpoint, tmp_path, arithmetic="float"), "weights do not fit the card's model")
    floats = checkpoint.with_name("even.safetensors")
    refused(forged(floats, tmp_path, arithmetic="int16"), "weights do not fit the card's model")


def test_the_arithmetic_of_models_that_have_floats_alone(checkpoint, tmp_path):
    card = {"arithmetic": "int16", "posterior": "uniform"}
    tiled = hvae_codec.load("mnist", quality=1).checkpoint.card
    path = forged(checkpoint, tmp_path, **card, spec=tiled["spec"])
    refused(path, "has no arithmetic 'int16'; there is float, and for fully")
    refused(forged(checkpoint, tmp_path, posterior="gaussian"), "'gaussian' posteriors")
    refused(
        forged(checkpoint, tmp_path, spec=TINY.to_json()), r"multiples of 2 channels, not \[3, 3\]"
    )


def test_models_are_built_of_what_there_is():
    assert isinstance(build_coding_model(EVEN, "uniform", "int16"), IntegerConvVAE)
    for spec, posterior, arithmetic in (
        (hvae_codec.load("mnist", quality=1).model.spec, "uniform", "int16"),
        (EVEN, "gaussian", "int16"),
        (EVEN, "uniform", "int32"),
        (TINY, "uniform", "int16"),
    ):
        with pytest.raises(SpecError):
            build_coding_model(spec, posterior, arithmetic)


def test_a_convolution_without_weights_is_one_of_zeros():
    conv = IntegerConv2d((2, 4), 3)
    conv.prepare()
    inputs = [torch.ones(1, 2, 2, channels, dtype=torch.int16) for channels in (2, 4)]
    assert torch.equal(conv(*inputs, quality=0), torch.zeros(1, 2, 2, 3, dtype=torch.int16))

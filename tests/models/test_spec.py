"""Specs: the paper's parameter counts, JSON, and what is refused."""

import dataclasses

import pytest

from hvae_codec.errors import SpecError
from hvae_codec.models import SPECS, HierarchicalVAE, ModelSpec, get_spec
from hvae_codec.models.build import spec_from_json
from hvae_codec.models.spec import FC, LatentSpec
from hvae_codec.models.zoo import any_spec


# Totals stated in the paper's Tables 2 and 3.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [("ghvae-32x32x3", 475_811), ("ghvae-28x28x1", 122_713), ("lvae-32x32x3", 408_131)],
)
def test_parameter_totals_are_the_papers(name, parameters):
    model = HierarchicalVAE(get_spec(name), "gaussian")
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_uniform_posterior_swaps_deviation_heads_for_one_step_a_dimension():
    gaussian = HierarchicalVAE(get_spec("ghvae-32x32x3"), "gaussian")
    uniform = HierarchicalVAE(get_spec("ghvae-32x32x3"), "uniform")
    # FC(512, 32) and Conv(32, 32, 3) leave with their biases, 32 + 512 steps come.
    expected = 475_811 - (512 * 32 + 32) - (32 * 32 * 9 + 32) + 32 + 512
    assert sum(parameter.numel() for parameter in uniform.parameters()) == expected
    assert sum(parameter.numel() for parameter in gaussian.parameters()) == 475_811


@pytest.mark.parametrize("name", SPECS)
def test_json_round_trip(name):
    spec = any_spec(name)
    assert spec_from_json(spec.to_json()) == spec


@pytest.mark.parametrize("damage", ["latents", "decoder", "image_shape", "name"])
def test_json_without_a_field_is_refused(damage):
    data = get_spec("ghvae-32x32x3").to_json()
    del data[damage]
    with pytest.raises(SpecError, match="not a model specification"):
        ModelSpec.from_json(data)


def test_unknown_architecture_lists_those_there_are():
    with pytest.raises(SpecError, match="ghvae-32x32x3"):
        get_spec("resnet")


def test_contradicting_specs_are_refused():
    spec = get_spec("ghvae-32x32x3")
    with pytest.raises(SpecError, match="2 or more"):
        dataclasses.replace(spec, latents=spec.latents[:1])
    with pytest.raises(SpecError, match="prior_head"):
        dataclasses.replace(spec, latents=(spec.latents[0], LatentSpec((4,), (), FC(4, 4))))
    with pytest.raises(SpecError, match="N\\(0, I\\)"):
        dataclasses.replace(spec, latents=(spec.latents[1], spec.latents[1]))
    with pytest.raises(SpecError, match="posterior 'laplace'"):
        HierarchicalVAE(spec, "laplace")

"""A model for a range of betas: its conditioning, its loss, and the ordinary model at one point."""

import math

import numpy as np
import pytest
import torch

from hvae_codec.errors import SpecError
from hvae_codec.models.hvae import ForwardOutput
from hvae_codec.models.plane import PlaneVAE
from hvae_codec.models.zoo import get_spec

SPECS = ("ghvae-32x32x3", "ghvae-28x28x1", "lvae-32x32x3", "ghvae3-32x32x3")
RANGES = ((0.1, 10.0), (0.5, 2.0), (0.1, 1.0))


def plane(name, posterior="gaussian", ranges=RANGES):
    """A model whose betas matter: its last layers of conditioning are not zero."""
    torch.manual_seed(0)
    spec = get_spec(name)
    model = PlaneVAE(spec, posterior, ranges=ranges[: len(spec.latents)])
    for key, parameter in model.named_parameters():
        if key.endswith(("modulation.network.2.weight", "gate.network.2.weight")) or (
            key.startswith("steps.") and key.endswith("2.weight")
        ):
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def images(model, count=3):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, *model.spec.image_shape, generator=generator)


@pytest.mark.parametrize("posterior", ["gaussian", "uniform"])
@pytest.mark.parametrize("name", SPECS)
def test_at_a_point_it_is_an_ordinary_model(name, posterior):
    model = plane(name, posterior)
    betas = (0.2, 1.7, 0.4)[: len(model.ranges)]
    x = images(model)
    with torch.no_grad():
        wanted = model(x, seed=3, betas=torch.tensor([betas]))
        found = model.at(betas)(x, seed=3)
    torch.testing.assert_close(found.output, wanted.output, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.rates_nats, wanted.rates_nats, atol=1e-3, rtol=1e-5)


def test_betas_change_the_model_and_each_image_has_its_own():
    model = plane("ghvae-32x32x3")
    x = images(model, 1).expand(2, -1, -1, -1)
    with torch.no_grad():
        output = model(x, seed=3, betas=torch.tensor([[0.1, 0.5], [10.0, 2.0]])).output
        alone = model(x[1:], seed=3, noise_index=1, betas=torch.tensor([[10.0, 2.0]])).output
    assert (output[0] - output[1]).abs().max() > 1e-3
    torch.testing.assert_close(output[1:], alone, atol=1e-5, rtol=1e-5)


def test_conditioning_begins_as_the_identity():
    torch.manual_seed(0)
    model = PlaneVAE(get_spec("ghvae-28x28x1"), ranges=RANGES[:2])
    one, other = (model.at(betas).state_dict() for betas in ((0.1, 0.5), (10.0, 2.0)))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_drawn_betas_fill_the_ranges_and_a_tenth_more():
    model = PlaneVAE(get_spec("ghvae-28x28x1"), ranges=((0.1, 10.0), (1.0, 100.0)))
    betas = model.drawn_betas(1000, seed=5).double().log10().numpy()
    # A range of two decades, and a tenth of a decade beyond either end.
    for column, low in zip(betas.T, (-1.1, -0.1), strict=True):
        cells = np.sort(np.floor((column - low) / 2.2 * 1000.0 + 1e-3))
        assert np.abs(cells - np.arange(1000)).max() <= 1  # one in each of equal intervals
    assert abs(np.corrcoef(betas.T)[0, 1]) < 0.1
    assert torch.equal(model.drawn_betas(9, seed=5), model.drawn_betas(9, seed=5))
    assert not torch.equal(model.drawn_betas(9, seed=5), model.drawn_betas(9, seed=6))


def test_loss_is_each_images_loss_over_itself():
    model = PlaneVAE(get_spec("ghvae-32x32x3"), ranges=RANGES[:2])
    constant = 1536.0 * math.log(2.0 * math.pi * 0.71**2)
    distortion = torch.tensor([30.0, 50.0]) + constant
    rates = torch.tensor([[4.0, 10.0], [2.0, 5.0]], requires_grad=True)
    betas = torch.tensor([[0.5, 2.0], [10.0, 1.0]])
    output = ForwardOutput(distortion, rates, torch.zeros(2, 3, 32, 32), betas=betas)
    loss = model.loss(output, torch.tensor([0.5, 1.0]))
    # 30 + 0.25 * 4 + 2 * 10 = 51, 50 + 5 * 2 + 1 * 5 = 65; each over itself and 5 nats.
    assert loss.item() == pytest.approx(0.5 * (51 / 56 + 65 / 70), rel=1e-4)
    loss.backward()
    expected = [[0.25 / 56 / 2, 2.0 / 56 / 2], [5.0 / 70 / 2, 1.0 / 70 / 2]]
    torch.testing.assert_close(rates.grad, torch.tensor(expected), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("betas", [(0.05, 1.0), (0.1, 2.5), (0.1,), (float("nan"), 1.0)])
def test_points_outside_the_ranges_are_refused(betas):
    model = PlaneVAE(get_spec("ghvae-28x28x1"), ranges=RANGES[:2])
    with pytest.raises(SpecError, match=r"0\.1 to 10, 0\.5 to 2"):
        model.at(betas)
    model.at((0.1, 2.0))


def test_ends_of_ranges_that_a_grid_computes_are_within():
    model = PlaneVAE(get_spec("ghvae-28x28x1"), ranges=((0.1, 10.0), (0.1, 10.0)))
    model.at(np.logspace(-1, 1, 21)[[0, -1]].tolist())


@pytest.mark.parametrize(
    "ranges", [((0.1, 10.0),), ((0.0, 1.0), (0.1, 1.0)), ((1.0, 1.0), (0.1, 1.0))]
)
def test_ranges_that_are_none_are_refused(ranges):
    with pytest.raises(SpecError, match=r"ranges|above 0"):
        PlaneVAE(get_spec("ghvae-28x28x1"), ranges=ranges)


def test_without_betas_it_computes_nothing():
    model = plane("ghvae-28x28x1")
    with pytest.raises(SpecError, match=r"at\(betas\)"):
        model.quantise(images(model))

"""The models against second computations: torch.distributions, Monte Carlo, plain loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Independent, Normal, kl_divergence

from hvae_codec.models import HierarchicalVAE, ModelSpec, get_spec
from hvae_codec.models.hvae import precision_weighted
from hvae_codec.models.likelihoods import BernoulliLikelihood, GaussianLikelihood
from hvae_codec.models.spec import FC, Conv, ConvTransp, LatentSpec, Reshape


def make(name, posterior, seed=0):
    torch.manual_seed(seed)
    return HierarchicalVAE(get_spec(name), posterior).eval()


def three_layers() -> ModelSpec:
    """A small model of three layers, z3 above z2 above z1."""
    return ModelSpec(
        name="three",
        image_shape=(1, 8, 8),
        likelihood="gaussian",
        inference="concat",
        latents=(
            LatentSpec(shape=(3,), x_branch=(Conv(1, 4, 4, 2, 1),), head=FC(64, 3)),
            LatentSpec(
                shape=(5,),
                x_branch=(Conv(1, 4, 4, 2, 1), FC(64, 6), Reshape((6, 1, 1))),
                z_branch=(FC(3, 2), Reshape((2, 1, 1))),
                merge=(FC(8, 7),),
                head=FC(7, 5),
                prior=(FC(3, 4),),
                prior_head=FC(4, 5),
            ),
            LatentSpec(
                shape=(2, 2, 2),
                x_branch=(Conv(1, 4, 4, 2, 1), Conv(4, 4, 4, 2, 1)),
                z_branch=(FC(8, 16), Reshape((4, 2, 2))),
                merge=(Conv(8, 4, 3, 1, 1),),
                head=Conv(4, 2, 3, 1, 1),
                prior=(FC(8, 9),),
                prior_head=FC(9, 8),
            ),
        ),
        decoder=(ConvTransp(2, 4, 4, 2, 1), ConvTransp(4, 1, 4, 2, 1)),
    )


@pytest.mark.parametrize("name", ["ghvae-32x32x3", "ghvae-28x28x1", "lvae-32x32x3"])
@pytest.mark.parametrize("posterior", ["gaussian", "uniform"])
def test_one_pass_gives_finite_nats_per_image_and_layer(name, posterior):
    model = make(name, posterior)
    x = torch.rand(3, *model.spec.image_shape).round()
    outcome = model(x, seed=5)
    assert outcome.distortion_nats.shape == (3,)
    assert outcome.rates_nats.shape == (3, 2)
    assert outcome.output.shape == x.shape
    assert (outcome.rates_nats > 0).all()
    again = model(x, seed=5)
    assert torch.equal(outcome.rates_nats, again.rates_nats)
    assert not torch.equal(outcome.rates_nats, model(x, seed=6).rates_nats)


def test_gaussian_rates_are_torchs_kl():
    model = make("ghvae-32x32x3", "gaussian")
    x = torch.rand(4, 3, 32, 32)
    top_mean, top_raw = model.layers[0].infer(x, None)
    q2 = Independent(Normal(top_mean, F.softplus(top_raw)), 1)
    p2 = Independent(Normal(torch.zeros_like(top_mean), torch.ones_like(top_mean)), 1)
    outcome = model(x, seed=1)
    torch.testing.assert_close(outcome.rates_nats[:, 0], kl_divergence(q2, p2))


def test_lower_rate_is_the_kl_given_the_sample_above():
    model = make("ghvae-32x32x3", "gaussian")
    x = torch.rand(2, 3, 32, 32)
    # With sigma_q of z2 at its least, the sample above is the mean, known exactly.
    with torch.no_grad():
        model.layers[0].raw[1].bias.fill_(-30.0)
        model.layers[0].raw[1].weight.zero_()
    z2, _ = model.layers[0].infer(x, None)
    mean, raw = model.layers[1].infer(x, z2)
    mu_p, raw_p = model.layers[1].predict(z2)
    expected = kl_divergence(
        Independent(Normal(mean, F.softplus(raw)), 3),
        Independent(Normal(mu_p, F.softplus(raw_p)), 3),
    )
    torch.testing.assert_close(model(x, seed=3).rates_nats[:, 1], expected, rtol=1e-4, atol=1e-3)


def test_uniform_rate_is_the_bins_information():
    model = make("ghvae-32x32x3", "uniform")
    x = torch.rand(2, 3, 32, 32)
    mean, _ = model.layers[0].infer(x, None)
    with torch.no_grad():
        model.log_steps[0].fill_(math.log(1e-4))
    # For a vanishing step the bin's mass is density times step, and the sample is the mean.
    prior = Normal(torch.zeros(()), torch.ones(()))
    expected = -(prior.log_prob(mean) + math.log(1e-4)).sum(1)
    torch.testing.assert_close(model(x, seed=3).rates_nats[:, 0], expected, rtol=1e-3, atol=1e-2)


def test_precision_weighting_is_the_normalised_product():
    mean, mu_p = torch.tensor([0.3, -1.0]), torch.tensor([1.0, 2.0])
    raw, raw_p = torch.tensor([0.1, 3.0]), torch.tensor([-4.0, 0.5])
    merged, merged_raw = precision_weighted(mean, raw, mu_p, raw_p)
    grid = torch.linspace(-15, 15, 200_001, dtype=torch.float64)
    for i in range(2):
        product = Normal(mean[i].double(), F.softplus(raw[i].double())).log_prob(grid).exp()
        product *= Normal(mu_p[i].double(), F.softplus(raw_p[i].double())).log_prob(grid).exp()
        product /= product.sum()
        centre = (product * grid).sum()
        deviation = (product * (grid - centre).square()).sum().sqrt()
        assert merged[i].item() == pytest.approx(centre.item(), abs=1e-5)
        assert F.softplus(merged_raw[i]).item() == pytest.approx(deviation.item(), rel=1e-4)


def test_lvae_shares_the_bottom_up_path():
    model = make("lvae-32x32x3", "gaussian")
    x = torch.rand(2, 3, 32, 32)
    loss = model(x, seed=0).rates_nats[:, 1].sum()
    loss.backward()
    # z1's posterior reads the first two layers of z2's path and nothing else of the picture.
    assert model.layers[0].x_branch[1][0].weight.grad.abs().sum() > 0


def test_three_layers_walk_top_down():
    torch.manual_seed(1)
    model = HierarchicalVAE(three_layers(), "uniform").eval()
    x = torch.rand(2, 1, 8, 8)
    outcome = model(x, seed=0)
    assert outcome.rates_nats.shape == (2, 3)
    symbols = model.quantise(x)
    assert [tuple(k.shape) for k in symbols] == [(2, 3), (2, 5), (2, 2, 2, 2)]
    latents = model.dequantise(symbols)
    # The lowest layer's prior sees both layers above it.
    above = torch.cat([latents[0], latents[1]], dim=1)
    mu_p, _ = model.layers[2].predict(above)
    torch.testing.assert_close(latents[2], mu_p + model.step(2) * symbols[2])
    assert [z.shape[0] for z in model.sample_latents(4, seed=0)] == [4, 4, 4]


def test_symbols_are_the_grid_points_nearest_to_the_means():
    model = make("ghvae-32x32x3", "uniform")
    with torch.no_grad():
        for log_step in model.log_steps:
            log_step.uniform_(-4.0, -2.0)
    x = torch.rand(3, 3, 32, 32)
    symbols = model.quantise(x)
    latents = model.dequantise(symbols)
    mean, _ = model.layers[0].infer(x, None)
    assert ((latents[0] - mean).abs() <= model.step(0) * 0.5001).all()
    mean, _ = model.layers[1].infer(x, latents[0])
    assert ((latents[1] - mean).abs() <= model.step(1) * 0.501).all()
    assert any((k != 0).any() for k in symbols)


def test_bounds_hold_and_layers_below_know_it():
    model = make("ghvae-32x32x3", "uniform")
    with torch.no_grad():
        for log_step in model.log_steps:
            log_step.fill_(-5.0)
    x = torch.rand(2, 3, 32, 32)
    bounds = [(-torch.ones(s), torch.ones(s)) for s in [(32,), (32, 4, 4)]]
    symbols = model.quantise(x, bounds)
    assert max(k.abs().max().item() for k in symbols) == 1.0
    z2 = symbols[0] * model.step(0)
    mean, _ = model.layers[1].infer(x, z2)
    mu_p, _ = model.layers[1].predict(z2)
    expected = ((mean - mu_p) / model.step(1)).round().clamp(-1, 1)
    assert torch.equal(symbols[1], expected)


def test_rounded_training_decodes_rounded_latents_and_lets_gradients_through():
    model = make("ghvae-32x32x3", "uniform")
    x = torch.rand(2, 3, 32, 32)
    outcome = model(x, seed=0, rounded=True)
    decoded = model.decode(model.dequantise(model.quantise(x)))
    torch.testing.assert_close(outcome.output, decoded)
    outcome.distortion_nats.sum().backward()
    assert model.layers[1].mean.weight.grad.abs().sum() > 0


def test_preview_is_the_mode_of_the_prior():
    model = make("ghvae-32x32x3", "uniform")
    k2 = torch.tensor([[2.0] * 32])
    _, z1 = model.dequantise([k2])
    mu_p, _ = model.layers[1].predict(k2 * model.step(0))
    assert torch.equal(z1, mu_p)


def test_gaussian_distortion_is_the_negative_log_density():
    output, x = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    expected = -Normal(output, 0.71).log_prob(x).sum(dim=(1, 2, 3))
    torch.testing.assert_close(GaussianLikelihood().distortion_nats(output, x), expected)


def test_bernoulli_distortion_by_hand():
    output = torch.tensor([[[[0.0, math.log(3.0)]]]])
    x = torch.tensor([[[[1.0, 0.0]]]])
    # -log(1/2) - log(1/4)
    nats = BernoulliLikelihood().distortion_nats(output, x)
    assert nats.item() == pytest.approx(math.log(8.0), rel=1e-6)


def test_pixels_of_each_likelihood():
    levels = torch.tensor([0, 127, 128, 255], dtype=torch.uint8)
    assert GaussianLikelihood().pixels(levels).tolist() == pytest.approx(
        [0, 127 / 255, 128 / 255, 1]
    )
    assert BernoulliLikelihood().pixels(levels).tolist() == [0.0, 0.0, 1.0, 1.0]


def test_samples_repeat_by_seed_and_shrink_with_temperature():
    model = make("ghvae-32x32x3", "gaussian")
    first, second = model.sample_latents(2, seed=4), model.sample_latents(2, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    cold = model.sample_latents(2, seed=4, temperature=0.0)
    assert cold[0].abs().max() == 0
    torch.testing.assert_close(cold[1], model.layers[1].predict(cold[0])[0])

"""Three and four layers: rates are exactly Eq. 7's, their sum Eq. 6's; training; and the codec."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Independent, Normal, kl_divergence

import hvae_codec
from hvae_codec import ops
from hvae_codec.codec.checkpoint import save_checkpoint
from hvae_codec.codec.tiled.fit_tables import fit_tables
from hvae_codec.data import ImageDataset
from hvae_codec.evaluation import psnr_db
from hvae_codec.models import HierarchicalVAE, get_spec
from hvae_codec.models.hvae import noise_seed, precision_weighted
from hvae_codec.models.spec import FC, Conv, ConvTransp
from hvae_codec.training import Recipe, train
from tests.photographs import load_sample_image

pytestmark = pytest.mark.usefixtures("one_thread")

DEEP = {"ghvae3-32x32x3": 3, "ghvae4-32x32x3": 4, "lvae3-32x32x3": 3}
CHINA = load_sample_image("china.jpg")
CROPS = np.stack(
    [CHINA[y : y + 32, x : x + 32] for y in range(0, 384, 48) for x in range(0, 640, 80)]
)


def make(name, posterior):
    """A model whose posteriors are further from their priors than those of a fresh one."""
    torch.manual_seed(4)
    model = HierarchicalVAE(get_spec(name), posterior).eval().requires_grad_(False)
    for layer in model.layers:
        for head in filter(None, (layer.mean, layer.raw, layer.prior_mean)):
            for parameter in head.parameters():
                parameter.mul_(4.0)
    return model


def pictures(count):
    return torch.from_numpy(CROPS[:count]).permute(0, 3, 1, 2).float() / 255.0


def walk(model, x, draw):
    """For each layer, top first: posterior and prior given the latents that `draw` took above.

    Written again from the paper's Eq. 1 and 4: means and sigmas [B, D] of q and p, and the latent.
    """
    features, stages = [x], list(model.layers[0].x_branch)
    for stage in stages:
        features.append(stage(features[-1]))
    latents, found = [], []
    for index, layer in enumerate(model.layers):
        above = torch.cat([z.flatten(1) for z in latents], dim=1) if latents else None
        mu_p, raw_p = layer.predict(above)
        mean, raw = layer.infer(features[layer.bottom_up], above)
        if model.spec.inference == "precision" and index > 0:
            mean, raw = precision_weighted(mean, raw, mu_p, raw_p)
        if mu_p is None:
            mu_p, raw_p = torch.zeros_like(mean), torch.full_like(mean, math.log(math.e - 1))
        latents.append(draw(index, mean, raw, mu_p, raw_p))
        found.append((mean, raw, mu_p, raw_p, latents[-1]))
    return found


def normal(mean, raw):
    return Independent(Normal(mean.double(), F.softplus(raw.double())), mean.ndim - 1)


@pytest.mark.parametrize("name", DEEP)
def test_parameters_by_the_tables_rows(name):
    spec = get_spec(name)

    def count(layer):
        match layer:
            case Conv(inputs, outputs, kernel) | ConvTransp(inputs, outputs, kernel):
                return inputs * outputs * kernel**2 + outputs
            case FC(inputs, outputs):
                return inputs * outputs + outputs
        return 0

    total = sum(map(count, spec.decoder))
    for latent in spec.latents:
        total += sum(map(count, (*latent.x_branch, *latent.z_branch, *latent.merge, *latent.prior)))
        total += 2 * count(latent.head) + 2 * count(latent.prior_head)
    model = HierarchicalVAE(spec, "gaussian")
    assert sum(parameter.numel() for parameter in model.parameters()) == total < 1_500_000
    assert len(spec.latents) == DEEP[name]
    assert spec.layer_name(0) == f"z{DEEP[name]}"


@pytest.mark.parametrize("name", DEEP)
def test_gaussian_rates_are_the_kl_of_each_layer_given_those_above(name):
    model, x = make(name, "gaussian"), pictures(3)
    outcome = model(x, seed=9)

    def draw(index, mean, raw, mu_p, raw_p):
        prior = (mu_p, raw_p) if index else (None, None)
        return ops.gaussian_rsample_kl(mean, raw, *prior, seed=noise_seed(9, index))[0]

    for index, (mean, raw, mu_p, raw_p, _) in enumerate(walk(model, x, draw)):
        expected = kl_divergence(normal(mean, raw), normal(mu_p, raw_p))
        rates = outcome.rates_nats[:, index].double()
        torch.testing.assert_close(rates, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", DEEP)
def test_gaussian_rates_are_the_mean_of_log_q_over_p_and_sum_up(name):
    """Eq. 7 by Monte Carlo with noise of its own, and Eq. 6: the sum is that of the joint."""
    model, count = make(name, "gaussian"), 600
    x = pictures(1).expand(count, -1, -1, -1)
    torch.manual_seed(0)
    found = walk(model, x, lambda index, mean, raw, *prior: normal(mean, raw).sample().float())
    ratios = torch.stack(
        [normal(m, r).log_prob(z) - normal(mp, rp).log_prob(z) for m, r, mp, rp, z in found], dim=1
    )
    rates = model(x, seed=1).rates_nats.double()
    ratios = torch.cat([ratios, ratios.sum(1, keepdim=True)], dim=1)
    rates = torch.cat([rates, rates.sum(1, keepdim=True)], dim=1)
    errors = ((ratios.var(0) + rates.var(0)) / count).sqrt()
    assert ((ratios.mean(0) - rates.mean(0)).abs() < 4 * errors).all()
    assert (errors < 0.03 * rates.mean(0)).all(), "too coarse to tell anything"


@pytest.mark.parametrize("name", DEEP)
def test_uniform_rates_are_the_information_of_each_bin(name):
    model, x = make(name, "uniform"), pictures(3)
    for index, log_step in enumerate(model.log_steps):
        log_step.fill_(math.log(0.2 + 0.3 * index))
    outcome = model(x, seed=9)

    def draw(index, mean, raw, mu_p, raw_p):
        prior = (mu_p, raw_p) if index else (None, None)
        step = model.step(index)
        return ops.uniform_rsample_nats(mean, step, *prior, seed=noise_seed(9, index))[0]

    for index, (mean, _, mu_p, raw_p, z) in enumerate(walk(model, x, draw)):
        step = model.step(index).double()
        assert ((z - mean).abs() <= 0.5001 * step).all()
        sigma = F.softplus(raw_p.double())
        below, above = ((z.double() - mu_p.double() + side * step / 2) / sigma for side in (-1, 1))
        mass = torch.special.ndtr(-below.abs().minimum(above.abs()))  # on the side with no loss
        mass = torch.where(
            below * above > 0,
            mass - torch.special.ndtr(-below.abs().maximum(above.abs())),
            torch.special.ndtr(above) - torch.special.ndtr(below),
        )
        expected = -mass.log().flatten(1).sum(1)
        rates = outcome.rates_nats[:, index].double()
        torch.testing.assert_close(rates, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("posterior", ["gaussian", "uniform"])
@pytest.mark.parametrize("name", DEEP)
def test_a_few_epochs_lower_the_loss(name, posterior, tmp_path):
    betas = tuple(0.05 * (index + 1) for index in range(DEEP[name]))
    recipe = Recipe(
        spec=name, dataset="china", betas=betas, posterior=posterior, epochs=3, batch_size=8
    )
    rows = []
    train(recipe, ImageDataset(CROPS, None, "china", "train"), tmp_path, report=rows.append)
    losses = [row["distortion_nats"] + np.dot(betas, row["rates_nats"]).item() for row in rows]
    assert losses[0] > losses[1] > losses[2]
    assert len(rows[-1]["rates_nats"]) == DEEP[name]
    assert min(rows[-1]["rates_nats"]) > 0


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """A checkpoint of four layers, after as much training as tells it from noise."""
    directory = tmp_path_factory.mktemp("four")
    recipe = Recipe(
        spec="ghvae4-32x32x3", dataset="china", betas=(0.01,) * 4, epochs=12, batch_size=8
    )
    model = train(recipe, ImageDataset(CROPS, None, "china", "train"), directory)
    tables = fit_tables(model, CROPS)
    measured = {"payload_bytes": 0.0, "psnr_db": 0.0, "rates_nats": []}
    card = {"name": "four", "quality": 1, "recipe": recipe.to_json(), "measured": measured}
    save_checkpoint(directory / "four.safetensors", model, tables, card)
    return directory / "four.safetensors"


def test_a_codec_of_four_layers_encodes_and_decodes(four):
    codec = hvae_codec.load_file(four)
    blobs = codec.encode_batch(CROPS)
    decoded = codec.decode_batch(blobs)
    assert np.array_equal(decoded, codec.decode_block(codec.encode_block(CROPS)))
    # The bytes carry all four layers' symbols, and the decoder paints what they stand for.
    symbols = codec.symbols(blobs)
    assert [layer.shape for layer in symbols] == [(64, 32), (64, 128), (64, 512), (64, 1024)]
    latents = codec.model.dequantise(
        codec.model.quantise(pictures(64), codec.transform.networks._bounds)
    )
    painted = codec.model.decode(latents).clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255
    assert np.abs(decoded - painted).max() < 1.0
    assert psnr_db(CROPS, decoded) > psnr_db(CROPS, np.roll(decoded, 1, axis=0)) + 0.5
    assert codec.decode(blobs[0][: len(blobs[0]) // 2], partial=True).shape == (32, 32, 3)


def test_features_of_any_of_four_layers(four):
    codec = hvae_codec.load_file(four)
    blobs = codec.encode_batch(CROPS[:5])
    found = codec.layer_features_from_bytes(blobs)
    for layers in (1, 2, 3):
        part = codec.layer_features_from_bytes(blobs, layers)
        assert len(part) == layers
        np.testing.assert_allclose(part[-1].mean, found[layers - 1].mean, atol=1e-5)
    rows = hvae_codec.HVAEFeatures(four, layers=("z3", "z1")).transform(blobs)
    np.testing.assert_allclose(rows, np.hstack([found[1].mean, found[3].mean]), atol=1e-5)

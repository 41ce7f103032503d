"""A row's figures against torch.distributions, numpy and closed forms."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Normal
from torch.nn.functional import softplus

from hvae_codec.codec.checkpoint import Checkpoint
from hvae_codec.codec.tiled.fit_tables import fit_tables
from hvae_codec.data import ImageDataset
from hvae_codec.errors import EvaluationError
from hvae_codec.evaluation.metrics.mutual_information import accuracy_bound, class_entropy_nats
from hvae_codec.evaluation.rows import Settings, bits_per_dim, measure_row, run_passes
from hvae_codec.models import HierarchicalVAE, get_spec

pytestmark = pytest.mark.usefixtures("one_thread")

SPECS = ["ghvae-28x28x1", "ghvae-32x32x3", "lvae-32x32x3"]


def untrained(spec, posterior="gaussian"):
    torch.manual_seed(3)
    return HierarchicalVAE(get_spec(spec), posterior).eval().requires_grad_(False)


def noise(model, count):
    channels, height, width = model.spec.image_shape
    shape = (count, height, width, channels)
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def inputs(model, images):
    x = torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255
    return x.round() if model.spec.likelihood == "bernoulli" else x


def walk(model, x, draw):
    """Posteriors and priors on the way down as torch.distributions; `draw` makes z of each q."""
    features, latents, pairs = model._bottom_up(x.float()), [], []
    for _, layer in model._walk():
        above = latents[-1].flatten(1).float() if latents else None
        mu_p, raw_p = layer.predict(above)
        p = Normal(0.0, 1.0) if mu_p is None else Normal(mu_p.double(), softplus(raw_p.double()))
        mean, raw = layer.infer(features[layer.bottom_up], above)
        q = Normal(mean.double(), softplus(raw.double()))
        if layer.precision_weighted:
            weights = q.variance**-1, p.variance**-1
            middle = (weights[0] * q.mean + weights[1] * p.mean) / sum(weights)
            q = Normal(middle, sum(weights) ** -0.5)
        latents.append(draw(q))
        pairs.append((q, p))
    return latents, pairs


def log_likelihood(model, latents, x):
    output = model.decode([z.float() for z in latents]).double()
    if model.spec.likelihood == "bernoulli":
        return Bernoulli(logits=output).log_prob(x).flatten(1).sum(1)
    return Normal(output, 0.71).log_prob(x).flatten(1).sum(1)


@pytest.mark.parametrize("spec", SPECS)
def test_negative_elbo_is_that_of_torch_distributions_over_many_samples(spec):
    """-E log p(x, z) / q(z|x), the densities and not their divergences."""
    model = untrained(spec)
    images = np.repeat(noise(model, 4), 160, axis=0)
    passes = run_passes(model, images, seed=5)
    found = passes.distortion_nats + passes.rates_nats.sum()
    torch.manual_seed(0)
    x = inputs(model, images)
    latents, pairs = walk(model, x, lambda q: q.sample())
    terms = -log_likelihood(model, latents, x)
    for z, (q, p) in zip(latents, pairs, strict=True):
        terms += (q.log_prob(z) - p.log_prob(z)).flatten(1).sum(1)
    # Images differ more than their samples do: the spread is that around each image's mean.
    spread = (terms - terms.reshape(4, 160).mean(1).repeat_interleave(160)).std()
    assert abs(found - float(terms.mean())) < 6 * float(spread) / math.sqrt(len(images))


@pytest.mark.parametrize("spec", SPECS)
def test_modes_and_their_psnr(spec):
    model = untrained(spec)
    images = noise(model, 300)
    passes = run_passes(model, images)
    x = inputs(model, images)
    latents, _ = walk(model, x, lambda q: q.mean)
    for mine, theirs in zip(passes.means, latents, strict=True):
        np.testing.assert_allclose(mine, theirs.flatten(1).numpy(), atol=2e-4)
    output = model.decode([z.float() for z in latents]).double()
    shown = output.sigmoid() if model.spec.likelihood == "bernoulli" else output.clamp(0, 1)
    errors = (shown - x).square().flatten(1).mean(1).numpy()
    assert passes.psnr_modes_db == pytest.approx((-10 * np.log10(errors)).mean(), abs=1e-3)
    # Samples miss what modes say, if by little with an untrained decoder.
    assert abs(passes.psnr_samples_db - passes.psnr_modes_db) < 1.0
    assert passes.deviation is not None


def test_bits_per_dim_of_what_says_nothing():
    """Density 1 on [0, 1] gives each of 256 levels 8 bits; a fair coin gives a pixel 1 bit."""
    assert bits_per_dim(untrained("ghvae-32x32x3"), 0.0) == 8.0
    grey = untrained("ghvae-28x28x1")
    assert bits_per_dim(grey, 28 * 28 * math.log(2)) == pytest.approx(1.0)


@pytest.fixture(scope="module")
def checkpoint():
    model = untrained("ghvae-28x28x1")
    tables = fit_tables(model, noise(model, 8))
    recipe = {"betas": [0.1, 2.0], "rates": None, "epochs": 3}
    return Checkpoint(model, tables, {"name": "m", "sha256": "ab" * 32, "recipe": recipe})


def dataset(labelled=True):
    images = noise(untrained("ghvae-28x28x1"), 60)
    labels = np.arange(60) % 3 if labelled else None
    return ImageDataset(images, labels, "noise", "test")


def test_a_row_says_what_it_is_of(checkpoint):
    row = measure_row("0004", checkpoint, dataset(), Settings("noise", images=50), "fast")
    assert (row["model"], row["sha256"], row["spec"]) == ("0004", "ab" * 32, "ghvae-28x28x1")
    assert (row["betas"], row["target_rates_nats"], row["epochs"]) == ([0.1, 2.0], None, 3)
    assert (row["data"], row["test_images"], row["inception_score"]) == ("noise", 50, None)
    assert row["total_rate_nats"] == pytest.approx(sum(row["rates_nats"]))
    assert row["accuracy"].keys() == {"paper", "standardised"}
    accuracies = row["accuracy"]["paper"]["z1"]
    assert 0.0 <= accuracies["rbf_svm"] <= 1.0
    assert accuracies["knn"] is None


def test_bounds_follow_information_and_accumulated_rates(checkpoint):
    row = measure_row("m", checkpoint, dataset(), Settings("noise"), "none")
    entropy = class_entropy_nats(np.arange(60) % 3)
    top, bottom = row["rates_nats"]
    assert row["accuracy"] is None
    assert row["bounds"] == {
        "z2": {
            "information": accuracy_bound(row["information_nats"], entropy, 3),
            "rate": accuracy_bound(top, entropy, 3),
        },
        "z1": {"rate": accuracy_bound(top + bottom, entropy, 3)},
    }


def test_without_labels_what_needs_them_is_null(checkpoint):
    row = measure_row("m", checkpoint, dataset(labelled=False), Settings("noise"), "all")
    needing = ("information_nats", "information_standard_error_nats", "accuracy", "bounds")
    assert [row[name] for name in needing] == [None] * 4
    assert row["psnr_modes_db"] > 0


def test_a_uniform_posterior_has_information_too(checkpoint):
    model = untrained("ghvae-28x28x1", "uniform")
    uniform = Checkpoint(model, checkpoint.tables, checkpoint.card)
    row = measure_row("m", uniform, dataset(), Settings("noise"), "none")
    assert row["posterior"] == "uniform"
    assert 0.0 <= row["information_nats"] <= math.log(3) + 1e-9


def test_pictures_of_another_size_and_diverged_models_are_refused(checkpoint):
    wrong = ImageDataset(np.zeros((20, 32, 32, 3), np.uint8), None, "zeros", "test")
    with pytest.raises(EvaluationError, match=r"\(3, 32, 32\); model m takes \(1, 28, 28\)"):
        measure_row("m", checkpoint, wrong, Settings("zeros"), "none")
    model = untrained("ghvae-28x28x1")
    model.decoder_output.bias.fill_(float("nan"))
    diverged = Checkpoint(model, checkpoint.tables, checkpoint.card)
    with pytest.raises(EvaluationError, match="model m has a negative ELBO of nan"):
        measure_row("m", diverged, dataset(), Settings("noise"), "none")

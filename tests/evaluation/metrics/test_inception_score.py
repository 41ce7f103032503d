"""The Inception Score and its factors against numpy, closed forms and a model's own samples."""

import math

import numpy as np
import pytest
import torch

from hvae_codec.errors import EvaluationError
from hvae_codec.evaluation.image_classifiers import ClassifierNetwork, save_classifier
from hvae_codec.evaluation.metrics.inception_score import inception_score, score_probabilities
from hvae_codec.models import HierarchicalVAE, get_spec

pytestmark = pytest.mark.usefixtures("one_thread")


def direct(p):
    """exp of the mean divergence by its definition, pictures and classes one by one."""
    marginal = p.mean(axis=0)
    total = 0.0
    for row in p:
        for share, mean in zip(row, marginal, strict=True):
            total += share * math.log(share / mean) if share > 0 else 0.0
    return math.exp(total / len(p))


def logarithms(p):
    with np.errstate(divide="ignore"):
        return torch.from_numpy(np.log(p))


def test_a_classifier_that_cannot_tell_scores_one():
    found = score_probabilities(logarithms(np.full((7, 10), 0.1)))
    assert found.score == pytest.approx(1.0, abs=1e-14)
    assert found.diversity == pytest.approx(10.0, rel=1e-14)
    assert found.sharpness == pytest.approx(0.1, rel=1e-14)


def test_sure_and_even_over_the_classes_scores_their_number():
    found = score_probabilities(logarithms(np.eye(5)[np.arange(20) % 5]))
    assert found.score == pytest.approx(5.0, rel=1e-14)
    assert (found.diversity, found.sharpness) == pytest.approx((5.0, 1.0), rel=1e-14)


def test_sure_of_one_class_only_scores_one():
    found = score_probabilities(logarithms(np.eye(5)[[2, 2, 2]]))
    assert (found.score, found.diversity, found.sharpness) == (1.0, 1.0, 1.0)


def test_two_pictures_by_hand():
    """p = (3/4, 1/4) and (1/4, 3/4): the mean is even, H[p(y|x)] = log 4 - (3/4) log 3."""
    found = score_probabilities(logarithms(np.array([[0.75, 0.25], [0.25, 0.75]])))
    assert found.diversity == pytest.approx(2.0, rel=1e-14)
    assert found.sharpness == pytest.approx(3**0.75 / 4, rel=1e-14)
    assert found.score == pytest.approx(3**0.75 / 2, rel=1e-14)


@pytest.mark.parametrize("concentration", [0.01, 0.3, 5.0])
def test_mixtures_against_numpy_and_the_product_of_the_factors(concentration):
    generator = np.random.default_rng(int(100 * concentration))
    p = generator.dirichlet(np.full(10, concentration) * np.arange(1, 11), size=300)
    p[:50] = np.eye(10)[generator.integers(0, 3, 50)]
    found = score_probabilities(logarithms(p))
    assert found.score == pytest.approx(direct(p), rel=1e-12)
    assert found.score == pytest.approx(found.diversity * found.sharpness, rel=1e-12)
    assert 1.0 <= found.score <= found.diversity <= 10.0
    assert 0.1 <= found.sharpness <= 1.0


@pytest.mark.parametrize("rows", [np.zeros((0, 3)), np.full((2, 3), 0.3), np.full((2, 3), np.nan)])
def test_what_is_no_distribution_is_refused(rows):
    with pytest.raises(EvaluationError, match="a distribution over the classes"):
        score_probabilities(logarithms(rows))


def classifier(tmp_path, arch, stem=1):
    torch.manual_seed(3)
    module = ClassifierNetwork(arch, stem, 10)
    card = {"arch": arch, "stem": stem, "dataset": "noise", "classes": 10, "accuracy": 0.1}
    return save_classifier(tmp_path / "c.safetensors", module, card)


@pytest.mark.parametrize(
    ("spec", "arch", "stem"), [("ghvae-28x28x1", "cnn", 1), ("ghvae-32x32x3", "resnet18", 4)]
)
def test_of_a_model_it_is_that_of_its_decoded_samples(tmp_path, spec, arch, stem):
    torch.manual_seed(1)
    model = HierarchicalVAE(get_spec(spec), "gaussian").eval()
    judge = classifier(tmp_path, arch, stem)
    with torch.no_grad():
        output = model.decode(model.sample_latents(30, seed=4))
        pictures = (output > 0).float() if arch == "cnn" else output.clamp(0, 1)
        p = torch.softmax(judge.module(pictures).double(), dim=1).numpy()
    found = inception_score(model, judge, samples=30, seed=4, batch=8)
    assert found.score == pytest.approx(direct(p), rel=1e-6)
    assert found.score == pytest.approx(found.diversity * found.sharpness, rel=1e-12)
    assert found.score > 1.0 + 1e-7
    other = inception_score(model, judge, samples=30, seed=5, batch=8)
    assert other != found


def test_a_classifier_of_other_pictures_is_refused(tmp_path):
    model = HierarchicalVAE(get_spec("ghvae-32x32x3"), "gaussian").eval()
    judge = classifier(tmp_path, "cnn")
    with pytest.raises(EvaluationError, match=r"cnn was trained on images \(1, 28, 28\)"):
        inception_score(model, judge, samples=2)
    with pytest.raises(EvaluationError, match="samples 0"):
        inception_score(model, judge, samples=0)

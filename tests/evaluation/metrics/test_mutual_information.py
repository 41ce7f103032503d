"""I_q(y; z) against closed forms and quadrature; Eq. 11's f and its inverse."""

import math

import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st

from hvae_codec.errors import EvaluationError
from hvae_codec.evaluation.metrics.mutual_information import (
    accuracy_bound,
    class_entropy_nats,
    gaussian_information,
    information_of_accuracy,
    uniform_information,
)


def clusters(classes, each, gap, dims=3):
    """Class means `gap` apart on a line, labels in turn."""
    labels = np.tile(np.arange(classes), each)
    return np.repeat(gap * labels[:, None], dims, axis=1).astype(float), labels


@pytest.mark.parametrize("classes", [2, 7])
def test_well_separated_classes_are_known_wholly(classes):
    mean, labels = clusters(classes, 20, 1000.0)
    found = gaussian_information(mean, np.full(mean.shape, 0.5), labels)
    assert found.nats == pytest.approx(math.log(classes), abs=1e-9)
    assert found.standard_error_nats == pytest.approx(0.0, abs=1e-9)


def test_equal_posteriors_know_nothing():
    mean, labels = clusters(5, 30, 0.0)
    found = gaussian_information(mean + 2.5, np.full(mean.shape, 0.3), labels)
    assert found.nats == pytest.approx(0.0, abs=1e-9)


def test_unequal_classes_are_worth_their_entropy():
    labels = np.array([0] * 30 + [1] * 10 + [2] * 60)
    mean = 1e4 * labels[:, None] * np.ones((1, 2))
    found = gaussian_information(mean, np.ones(mean.shape), labels, seed=3)
    entropy = -sum(p * math.log(p) for p in (0.3, 0.1, 0.6))
    assert found.nats == pytest.approx(entropy, abs=1e-9)
    assert class_entropy_nats(labels) == pytest.approx(entropy)


def test_a_mixture_of_two_in_one_dimension_agrees_with_quadrature():
    """Classes of weights 1/3 and 2/3; the second has two kinds of images."""
    parts = [(0, -1.0, 0.8), (1, 1.2, 0.5), (1, 0.0, 1.5)]

    def density(z, chosen):
        return np.mean([scipy.stats.norm.pdf(z, m, s) for y, m, s in parts if y in chosen])

    def integrand(z):
        whole = density(z, (0, 1))
        inside = [(w, density(z, (y,))) for y, w in ((0, 1 / 3), (1, 2 / 3))]
        return sum(w * p * math.log(p / whole) for w, p in inside if p > 0)

    exact = scipy.integrate.quad(integrand, -12, 12, limit=200)[0]
    labels = np.tile([y for y, _, _ in parts], 1500)
    mean = np.tile([m for _, m, _ in parts], 1500)[:, None]
    deviation = np.tile([s for _, _, s in parts], 1500)[:, None]
    found = gaussian_information(mean, deviation, labels, seed=1)
    assert 0.0 < found.standard_error_nats < 0.02
    assert abs(found.nats - exact) < 4 * found.standard_error_nats


def test_narrow_posteriors_far_from_the_origin_keep_their_digits():
    """Shifting all means changes nothing, though squares of them are 1e10 times the variances."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    mean = 1e-3 * (rng.standard_normal((200, 8)) + labels[:, None])
    deviation = np.full(mean.shape, 1e-3)
    near = gaussian_information(mean, deviation, labels)
    far = gaussian_information(mean + 100.0, deviation, labels)
    assert 0.2 < near.nats < 1.0
    assert far.nats == pytest.approx(near.nats, abs=1e-4)


def test_boxes_that_overlap_by_half():
    """z in the common half says nothing, else everything: ln 2 / 2."""
    labels = np.tile([0, 1], 600)
    mean = 0.5 * labels[:, None] * np.array([[1.0, 0.0]])
    found = uniform_information(mean, np.array([1.0, 1.0]), labels, seed=5)
    assert abs(found.nats - 0.5 * math.log(2)) < 4 * found.standard_error_nats
    apart = uniform_information(10 * mean, np.array([1.0, 1.0]), labels)
    assert apart.nats == pytest.approx(math.log(2))
    together = uniform_information(0 * mean, np.array([0.1, 3.0]), labels)
    assert together.nats == pytest.approx(0.0)


@given(st.integers(2, 50), st.floats(0.0, 1.0), st.floats(0.1, 1.0))
def test_the_bound_is_the_inverse_of_f(classes, share, evenness):
    entropy = evenness * math.log(classes)
    low = 1.0 / classes
    accuracy = low + share * (1.0 - low)
    nats = information_of_accuracy(accuracy, entropy, classes)
    # f is flat at 1/M, where accuracies that differ by 1e-7 have the same f.
    assert accuracy_bound(nats, entropy, classes) == pytest.approx(accuracy, abs=1e-6)
    assert information_of_accuracy(
        accuracy_bound(nats, entropy, classes), entropy, classes
    ) == pytest.approx(nats, abs=1e-9)


def test_the_ends_of_f_are_known():
    entropy = math.log(10)
    assert information_of_accuracy(0.1, entropy, 10) == pytest.approx(0.0, abs=1e-12)
    assert information_of_accuracy(1.0, entropy, 10) == pytest.approx(entropy)
    assert accuracy_bound(0.0, entropy, 10) == pytest.approx(0.1)
    assert accuracy_bound(-1.0, entropy, 10) == pytest.approx(0.1)
    assert accuracy_bound(99.0, entropy, 10) == 1.0
    # A bit about a fair coin that is told wrong one time in ten: 1 - h(0.1) bits.
    h = -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))
    assert accuracy_bound(math.log(2) - h, math.log(2), 2) == pytest.approx(0.9)


def test_what_does_not_belong_together_is_refused():
    mean, labels = clusters(2, 5, 1.0)
    with pytest.raises(EvaluationError, match=r"\[10, 3\], \[10, 2\]"):
        gaussian_information(mean, np.ones((10, 2)), labels)
    with pytest.raises(EvaluationError, match="finite"):
        gaussian_information(mean * np.nan, np.ones((10, 3)), labels)

"""Accuracies against scikit-learn's classifiers, used as the authors' public code uses them."""

import warnings

import numpy as np
import pytest

from hvae_codec.errors import EvaluationError
from hvae_codec.evaluation.metrics.probes import LINEAR_TOLERANCE, probe_accuracies


@pytest.fixture(scope="module")
def blobs():
    """Four overlapping classes in eight dimensions of very different scales."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, 400)
    centres = rng.standard_normal((4, 8))
    features = centres[labels] + 0.9 * rng.standard_normal((400, 8))
    return (features * np.logspace(-1, 1, 8)).astype(np.float32), labels


def direct(features, labels, protocol, classifier):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = features.astype(np.float64)
    if protocol == "standardised":
        classifier = make_pipeline(StandardScaler(), classifier)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return classifier.fit(x[:320], labels[:320]).score(x[320:], labels[320:])


@pytest.mark.parametrize("protocol", ["paper", "standardised"])
def test_accuracies_are_scikit_learns(blobs, protocol):
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    features, labels = blobs
    found = probe_accuracies(features, labels, protocol=protocol)
    expected = {
        "logistic_regression": LogisticRegression(),
        "linear_svm": SVC(kernel="linear", tol=LINEAR_TOLERANCE),
        "rbf_svm": SVC(kernel="rbf"),
        "knn": KNeighborsClassifier(n_neighbors=5),
    }
    for name, classifier in expected.items():
        assert found[name] == direct(features, labels, protocol, classifier), name
    exact = direct(features, labels, protocol, SVC(kernel="linear"))
    assert abs(found["linear_svm"] - exact) <= 0.0251  # two of the 80 images


def test_the_protocols_differ_where_scales_do(blobs):
    raw, scaled = (probe_accuracies(*blobs, protocol=p) for p in ("paper", "standardised"))
    assert scaled["knn"] > raw["knn"]


def test_what_is_not_asked_for_is_none(blobs):
    found = probe_accuracies(*blobs, probes=("knn",))
    assert {name for name, value in found.items() if value is not None} == {"knn"}


def test_a_constant_feature_is_no_trouble(blobs):
    features, labels = blobs
    constant = np.concatenate([features, np.full((400, 1), 3.0, np.float32)], axis=1)
    assert (
        probe_accuracies(constant, labels, protocol="standardised")["knn"]
        == (probe_accuracies(features, labels, protocol="standardised")["knn"])
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:9], y[:9]), "9 labelled images"),
        (lambda x, y: (x, np.where(np.arange(400) < 320, 0, y)), "one class"),
        (lambda x, y: (np.where(x == x[0, 0], np.nan, x), y), "not finite"),
        (lambda x, y: (x, y[:-1]), r"\[400, 8\] and \[399\]"),
    ],
)
def test_refuses(blobs, change, message):
    with pytest.raises(EvaluationError, match=message):
        probe_accuracies(*change(*blobs))


def test_names_what_there_is(blobs):
    with pytest.raises(EvaluationError, match="paper, standardised"):
        probe_accuracies(*blobs, protocol="raw")

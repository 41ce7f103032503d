"""The anomaly score against bytes on disk, and its curve against closed forms and scikit-learn."""

import numpy as np
import pytest
import scipy

import hvae_codec
from hvae_codec.codec.bitstream.header import parse
from hvae_codec.evaluation.metrics.anomaly import distance_from_typical, rate_bits, roc

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_rate_is_what_the_file_takes():
    codec = hvae_codec.load("mnist")
    images = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), dtype=np.uint8)
    images[:10] = 0
    bits = rate_bits(codec, images)
    blobs = codec.encode_batch(images)
    payload = np.array([8 * (len(blob) - parse(blob).payload_at) for blob in blobs])
    assert np.abs(payload - bits).max() < 16
    assert bits[:10].max() < bits[10:].min()


@pytest.mark.parametrize("step", [0.0, 0.5])
def test_the_area_is_the_chance_of_a_higher_score(step):
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    normal, strange = rng.normal(0, 1, 400), rng.normal(0.8, 1, 300)
    if step:  # many ties
        normal, strange = (np.round(scores / step) * step for scores in (normal, strange))
    curve = roc(normal, strange)
    pairs = strange[:, None] - normal[None, :]
    assert curve.auc == pytest.approx(np.mean(pairs > 0) + np.mean(pairs == 0) / 2)
    labels = np.repeat([0, 1], [400, 300])
    assert curve.auc == pytest.approx(roc_auc_score(labels, np.concatenate([normal, strange])))
    assert curve.auc == pytest.approx(scipy.stats.norm.cdf(0.8 / 2**0.5), abs=0.05)
    for rates in (curve.false_positive_rate, curve.true_positive_rate):
        assert (rates[0], rates[-1]) == (0.0, 1.0)
        assert (np.diff(rates) >= 0).all()


def test_too_cheap_is_as_far_from_typical_as_too_dear():
    normal = np.array([99.0, 100.0, 104.0])
    scores = np.array([90.0, 110.0, 100.0])
    assert distance_from_typical(scores, normal).tolist() == [10.0, 10.0, 0.0]
    assert roc(normal, scores[:1]).auc == 0.0
    typical = [distance_from_typical(given, normal) for given in (normal, scores[:1])]
    assert roc(*typical).auc == 1.0


@pytest.mark.parametrize(("normal", "strange"), [([], [1.0]), ([1.0], []), ([1.0], [np.nan])])
def test_no_curve_without_scores(normal, strange):
    with pytest.raises(ValueError, match="finite"):
        roc(np.array(normal), np.array(strange))

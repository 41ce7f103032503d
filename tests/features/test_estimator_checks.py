"""scikit-learn's own checks of estimators."""

import subprocess
import sys

import pytest

import hvae_codec

pytestmark = pytest.mark.usefixtures("one_thread")

_NO_PICTURES = "transforms random tables of 2 to 10 columns, which are no images of 32 x 32"
NOT_OF_TABLES = dict.fromkeys(
    (
        "check_dict_unchanged",
        "check_estimators_dtypes",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_fit_idempotent",
        "check_fit_score_takes_y",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_pipeline_consistency",
        "check_transformer_general",
        "check_transformer_preserve_dtypes",
        "check_transformers_unfitted_stateless",
    ),
    _NO_PICTURES,
)
"""Checks that cannot hold for what reads pictures; on tables drawn as pictures, below, all do."""


def of_tables(**parameters):
    from tests.features.of_tables import OfTables

    return OfTables(quality=1, **parameters)


ON_OTHER_BATCHES = {
    "check_methods_subset_invariance": "wants 1e-7, which fp32 networks miss on other batches"
}


@pytest.mark.parametrize(
    ("estimator", "expected_failures"),
    [
        (lambda: hvae_codec.HVAEFeatures(quality=1), NOT_OF_TABLES),
        (of_tables, ON_OTHER_BATCHES),
        (lambda: of_tables(layers=("z2", "z1"), statistics="mean+std"), ON_OTHER_BATCHES),
    ],
    ids=["pictures", "tables", "all layers of tables"],
)
def test_all_checks_hold_where_they_apply(estimator, expected_failures):
    from sklearn.utils.estimator_checks import check_estimator

    done = check_estimator(estimator(), expected_failed_checks=expected_failures, on_fail=None)
    assert len(done) > 30
    failed = [(r["check_name"], r["exception"]) for r in done if r["status"] == "failed"]
    assert failed == []


HIDDEN = """
import sys
sys.modules["sklearn"] = None
from hvae_codec import *
from hvae_codec.errors import MissingDependencyError
print(load.__name__)
for use in ("import hvae_codec; hvae_codec.HVAEFeatures", "import hvae_codec.features"):
    try:
        exec(use)
    except MissingDependencyError as error:
        print(error)
"""


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_package_needs_no_scikit_learn_and_this_says_what_to_install():
    shows = "import sys, hvae_codec; print([n in sys.modules for n in ('sklearn', 'torch')])"
    assert run(shows) == ["[False, False]"]
    advice = "HVAEFeatures needs scikit-learn: pip install hvae-codec[features]"
    assert run(HIDDEN) == ["load", advice, advice]

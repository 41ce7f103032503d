"""scikit-learn's own checks of estimators."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from hvae_codec.features import HVAEFeatures

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


class OfTables(HVAEFeatures):
    """The transformer on pictures drawn from tables: each cell gives some rows their grey level."""

    def transform(self, X):  # noqa: N803
        table = np.asarray(X, dtype=np.float64)
        levels = (np.abs(table) * 23.0 % 256).astype(np.uint8)
        return super().transform(np.resize(levels.T, (1024, len(levels))).T)


@parametrize_with_checks(
    [HVAEFeatures(quality=1)], expected_failed_checks=lambda estimator: NOT_OF_TABLES
)
def test_checks_hold_where_they_apply(estimator, check):
    check(estimator)


@parametrize_with_checks(
    [OfTables(quality=1), OfTables(quality=1, layers=("z2", "z1"), statistics="mean+std")],
    expected_failed_checks=lambda estimator: {
        "check_methods_subset_invariance": "wants 1e-7, which fp32 networks miss on other batches"
    },
)
def test_checks_hold_on_tables_drawn_as_pictures(estimator, check):
    check(estimator)


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

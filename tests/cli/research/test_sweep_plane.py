"""`hvae-codec sweep --plane`: what does not go with one model for all betas."""

import pytest

PLANE = ("sweep", "--plane", "--data", "none", "--output", "unused")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--grid", "2x2", "--workers", 1), "does not go with --workers"),
        (("--grid", "2x2", "--workers", 3), "does not go with --workers"),
        (("--grid", "2x2", "--models-per-stack", 3), "does not go with --models-per-stack"),
        (("--grid", "2x2", "--chunk", 3), "does not go with --models-per-stack"),
        (("--grid", "3x1"), "at least two betas for each layer; z1 has 0.1 alone"),
        (("--grid", "1x3"), "at least two betas for each layer; z2 has 0.1 alone"),
        (("--betas", "1,2", "--betas", "3,2"), "at least two betas for each layer; z1 has 2 alone"),
        (("--grid", "2x2", "--rates", "z2=12,z1=180"), "adapts no betas to --rates"),
    ],
)
def test_wrong_usage(run, words, message):
    done = run(*PLANE, *words)
    assert done.code == 2
    assert message in done.err


def test_a_layer_s_betas_may_come_from_several_flags(run):
    done = run(*PLANE, "--grid", "3x1", "--betas", "1,2")
    assert (done.code, "two betas" in done.err) == (1, False)  # the data set is none

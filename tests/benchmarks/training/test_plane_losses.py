"""Losses of one model for all betas beside those of a model each."""

import json
import math

import pytest

from benchmarks.training.plane_losses import BENCHMARK, loss_nats

EXACT = 1536.0 * math.log(2.0 * math.pi * 0.71**2)


def row(betas, rates, distortion):
    return {
        "betas": betas,
        "spec": "ghvae-32x32x3",
        "rates_nats": rates,
        "negative_elbo_nats": EXACT + distortion + sum(rates),
        "psnr_modes_db": 20.0,
        "epochs": 8,
    }


def test_the_loss_weighs_rates_by_their_betas():
    assert loss_nats(row([0.5, 2.0], [4.0, 10.0], 30.0)) == pytest.approx(30 + 2 + 20)


def test_choices_of_betas_that_both_have_are_compared(tmp_path, capsys):
    sweeps = {
        "plane": [row([1.0, 1.0], [5.0, 5.0], 40.0), row([2.0, 1.0], [1.0, 1.0], 1.0)],
        "alone": [row([1.0, 1.0], [10.0, 5.0], 25.0)],
    }
    for name, rows in sweeps.items():
        (tmp_path / name).mkdir()
        lines = [json.dumps(each) for each in rows]
        (tmp_path / name / "evaluation.jsonl").write_text("\n".join(lines) + "\n")
    words = [str(tmp_path / "plane"), "--against", str(tmp_path / "alone")]
    assert BENCHMARK.main([*words, "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["mean_difference_percent"] == found["worst_difference_percent"] == 25.0
    assert found["core_seconds"] is None
    assert "Mean difference of the loss +25.0%" in capsys.readouterr().out


def test_accuracies_are_compared_where_both_have_them(tmp_path, capsys):
    for name, share in (("plane", 0.33), ("alone", 0.38)):
        accuracy = {"logistic_regression": share, "rbf_svm": share + 0.1}
        rows = [row([1.0, 1.0], [5.0, 5.0], 40.0), row([2.0, 1.0], [1.0, 1.0], 1.0)]
        rows[0]["accuracy"] = {"paper": {"z2": accuracy, "z1": accuracy}}
        (tmp_path / name).mkdir()
        lines = [json.dumps(each) for each in rows]
        (tmp_path / name / "evaluation.jsonl").write_text("\n".join(lines) + "\n")
    words = [str(tmp_path / "plane"), "--against", str(tmp_path / "alone")]
    assert BENCHMARK.main([*words, "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["accuracies"]["z2_logistic_regression"] == {
        "best_plane": 33.0,
        "best_alone": 38.0,
        "mean_difference_points": -5.0,
    }
    printed = capsys.readouterr().out
    assert "33.0 (its own 38.0)" in printed
    assert (
        "RBF SVM on μ₁ 43.0 % (models of their own 48.0 %, mean difference -5.0 points)" in printed
    )


def test_a_sweep_without_rows_is_named(tmp_path, capsys):
    assert BENCHMARK.main([str(tmp_path)]) == 2
    assert "run hvae-codec evaluate" in capsys.readouterr().err

"""Reading a sweep's folder: what it holds, and what is refused with a reason."""

import json

import pytest

from hvae_codec.errors import EvaluationError, SweepError
from hvae_codec.reporting.differences import sentence
from hvae_codec.reporting.figures.plotting import describe, value_limits
from hvae_codec.reporting.metrics import PSNR, RBF_SVM, accuracy
from hvae_codec.reporting.results import beside_models_alone, read_sweep
from hvae_codec.reporting.table import table_rows

PAIRS = [(0.1, 0.1), (0.1, 10.0), (10.0, 0.1), (10.0, 10.0)]


def test_a_sweep_is_read_as_it_was_written(make, make_row, tmp_path):
    sweep = read_sweep(make(tmp_path / "a", PAIRS))
    assert [row.model for row in sweep.rows] == ["0000", "0001", "0002", "0003"]
    assert [row.betas for row in sweep.rows] == PAIRS
    written = make_row("0002", 10.0, 0.1)
    row = sweep.rows[2]
    assert row.rates_nats == tuple(written["rates_nats"])
    assert (
        row.values["accuracy.standardised.z1.knn"]
        == written["accuracy"]["standardised"]["z1"]["knn"]
    )
    assert RBF_SVM.of(row) == 100 * written["accuracy"]["paper"]["z2"]["rbf_svm"]
    assert row.classifier.accuracy == 0.912
    assert (sweep.architecture, sweep.train_images, sweep.test_images) == ("GHVAE", 49202, 9827)
    assert row.picture.name == "0002.webp"


def test_missing_models_are_named_with_the_reason(make, tmp_path):
    folder = make(tmp_path / "a", PAIRS, skip=("0001", "0003"))
    (folder / "models").mkdir()
    (folder / "models" / "0003.diverged.json").write_text("{}")
    sweep = read_sweep(folder)
    assert sweep.missing == ("0001", "0003")
    assert sweep.missing_text == "diverged: 0003; not evaluated: 0001"


def test_what_was_not_measured_is_absent(make, tmp_path):
    nothing = {"inception_score": None, "accuracy": None, "bounds": None, "samples": None}
    nothing |= {"classifier": {"arch": None, "accuracy": None, "sha256": None}}
    sweep = read_sweep(make(tmp_path / "a", PAIRS, change=lambda row: row | nothing))
    row = sweep.rows[0]
    assert row.classifier is None
    assert row.samples is None
    assert RBF_SVM.of(row) is None
    assert not [key for key in row.values if key.startswith(("accuracy", "bounds", "inception"))]


def test_the_last_row_of_a_model_counts(make, make_row, tmp_path):
    folder = make(tmp_path / "a", PAIRS)
    again = make_row("0001", *PAIRS[1], psnr_modes_db=31.0)
    with (folder / "evaluation.jsonl").open("a") as file:
        file.write(json.dumps(again) + "\n")
    assert [row.values["psnr_modes_db"] == 31.0 for row in read_sweep(folder).rows] == [
        False,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"betas": [0.1, 5.0]}, "betas"),
        ({"model": "0009"}, "not of this sweep"),
        ({"rates_nats": [1.0, -2.0]}, "at least"),
        ({"rates_nats": [1.0, 2.0]}, "not the sum"),
        ({"rates_nats": "many"}, "not a list of numbers"),
        ({"psnr_modes_db": float("nan")}, "not a finite number"),
        ({"sharpness": 1.5}, "from 0 to 1"),
        ({"accuracy": {"paper": {"z2": {"knn": 44.2}}}}, "accuracy.paper.z2.knn"),
        ({"spec": None}, "several values of spec"),
        ({"data": "MNIST"}, "several values of data"),
        ({"rates_nats": [1.0, 2.0, 3.0], "total_rate_nats": 6.0}, "two layers"),
        ({"classifier": "densenet"}, "not an object"),
    ],
)
def test_a_wrong_row_is_named_by_its_line(make, tmp_path, change, message):
    def second(row):
        return row | change if row["model"] == "0001" else row

    folder = make(tmp_path / "a", PAIRS, change=second, pictures=False)
    with pytest.raises(EvaluationError, match=message) as caught:
        read_sweep(folder)
    assert "evaluation.jsonl" in str(caught.value)
    assert "several" in message or "line 2" in str(caught.value)


def test_a_cut_line_is_refused(make, tmp_path):
    folder = make(tmp_path / "a", PAIRS)
    path = folder / "evaluation.jsonl"
    path.write_text(path.read_text()[:-200])
    with pytest.raises(EvaluationError, match="line 4: not JSON"):
        read_sweep(folder)


def test_folders_that_are_no_evaluated_sweeps_say_what_is_missing(make, tmp_path):
    with pytest.raises(SweepError, match="not a sweep"):
        read_sweep(tmp_path / "nothing")
    folder = make(tmp_path / "a", PAIRS)
    (folder / "evaluation.jsonl").write_text("")
    with pytest.raises(EvaluationError, match="no rows; 'hvae-codec evaluate"):
        read_sweep(folder)
    (folder / "evaluation.jsonl").unlink()
    with pytest.raises(EvaluationError, match="'hvae-codec evaluate"):
        read_sweep(folder)


def test_one_model_for_all_betas_stands_beside_models_alone(plane_and_alone, make, tmp_path):
    plane, alone = plane_and_alone
    assert (plane.is_plane, alone.is_plane) == (True, False)
    assert plane.alone == alone.rows
    assert alone.alone == ()
    other = read_sweep(make(tmp_path / "other", [(1.0, 1.0)], spec="lvae-32x32x3"))
    assert beside_models_alone([other, plane])[1].alone == ()
    assert value_limits(plane, PSNR) == {
        "vmin": min(row.values["psnr_modes_db"] for row in plane.rows),
        "vmax": max(row.values["psnr_modes_db"] for row in alone.rows),
    }
    assert describe(plane).endswith("one model at 9 choices of betas, 8 epochs")
    assert "one model for all betas" in table_rows([plane])[3].source
    assert "models: one for all betas (paper: one for each pair of betas)" in sentence(plane)


def test_accuracies_have_the_names_of_their_layer():
    assert accuracy("knn", "z1").key == "accuracy.paper.z1.knn"
    assert accuracy("knn", "z1").label == "kNN accuracy on μ₁"

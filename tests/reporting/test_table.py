"""Table 1 and the differences from the paper, against worked-out values."""

import json

import pytest

from hvae_codec.reporting.differences import aspects, sentence
from hvae_codec.reporting.results import read_sweep
from hvae_codec.reporting.table import (
    SVHN_COMMANDS,
    as_html,
    as_json,
    as_markdown,
    as_text,
    table_rows,
)

SHARES = {"0000": 0.41, "0001": 0.53, "0002": 0.50, "0003": 0.11}


@pytest.fixture
def sweep(make, grid_of, tmp_path):
    """A 2x2 sweep: kNN on mu_2 is the share, on mu_1 its complement; nothing is standardised."""

    def change(row):
        share = SHARES[row["model"]]
        layers = {"z2": {"knn": share}, "z1": {"knn": 1 - share}}
        return row | {"accuracy": {"paper": layers, "standardised": None}}

    return read_sweep(make(tmp_path / "cifar", grid_of(2), change=change, pictures=False))


def test_rows_hold_the_best_over_the_grid_below_the_papers(sweep):
    rows = table_rows([sweep])
    ours = {row.layer: row for row in rows if row.source.startswith("here")}
    assert ours["z2"].values == (None, None, None, pytest.approx(53.0))
    assert ours["z2"].models == (None, None, None, "0001")
    assert ours["z1"].values[3] == pytest.approx(89.0)
    assert ours["z1"].models[3] == "0003"
    papers = [(row.data, row.layer, row.values) for row in rows if row.source == "paper"]
    assert papers == [  # the paper's Table 1
        ("SVHN", "z2", (28.43, 27.87, 77.60, 64.25)),
        ("SVHN", "z1", (45.77, 49.81, 59.28, 56.49)),
        ("CIFAR-10", "z2", (47.36, 46.95, 53.15, 44.20)),
        ("CIFAR-10", "z1", (43.27, 42.55, 45.60, 39.25)),
    ]
    assert [row.source == "paper" for row in rows] == [True, True, True, False, True, False]


def test_every_form_holds_the_numbers_and_svhns_commands(sweep):
    text, markdown, html = as_text([sweep]), as_markdown([sweep]), as_html([sweep])
    assert "CIFAR-10 minus 971 images (μ₂), GHVAE  here, the paper's protocol" in text
    assert "53.00 %" in text
    assert "|  |  |  | 53.00 % |" in markdown
    assert '<td title="model 0001">53.00 %</td>' in html
    for form in (text, markdown, html):
        assert all(command in form for command in SVHN_COMMANDS)
    again = json.loads(json.dumps(as_json([sweep])))
    assert again["rows"][3]["values"] == [None, None, None, pytest.approx(53.0)]
    assert again["svhn_commands"] == list(SVHN_COMMANDS)


def test_a_sweep_on_svhn_takes_its_place(make, grid_of, tmp_path):
    folder = make(tmp_path / "svhn", grid_of(2), dataset="packed-svhn", pictures=False)
    svhn = read_sweep(folder)
    assert as_json([svhn])["svhn_commands"] is None
    assert [row.source[:4] for row in table_rows([svhn])][:4] == ["pape", "here", "here", "pape"]


def test_lvae_has_no_numbers_of_the_papers_to_stand_below(make, grid_of, tmp_path):
    folder = make(tmp_path / "lvae", grid_of(2), spec="lvae-32x32x3", pictures=False)
    rows = table_rows([read_sweep(folder)])
    assert [row.architecture for row in rows] == ["GHVAE"] * 4 + ["LVAE"] * 4


def test_differences_from_the_paper_are_stated(sweep):
    found = {a.name: (a.paper, a.here, a.same) for a in aspects(sweep)}
    assert found["epochs"] == ("500", "8", False)
    assert found["batch"] == ("256", "256", True)
    assert found["learning rate"] == ("0.0003", "0.0003", True)
    assert found["betas"] == ("21x21 from 0.1 to 10", "2x2 from 0.1 to 10", False)
    assert found["training images"] == ("50,000", "49,202", False)
    assert found["classifier of the Inception Score"][1] == "densenet121, accuracy 91.20 %"
    assert "models missing" not in found
    assert "epochs: 8 (paper: 500)" in sentence(sweep)


def test_missing_models_are_a_difference(make, grid_of, tmp_path):
    folder = make(tmp_path / "a", grid_of(2), skip=("0001",), pictures=False)
    found = {a.name: a.here for a in aspects(read_sweep(folder))}
    assert found["models missing"] == "not evaluated: 0001"

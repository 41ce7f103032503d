"""Baselines, hull, optima and grids of sweeps whose answers are known."""

import numpy as np
import pytest

from hvae_codec.reporting.figures.mesh import facets
from hvae_codec.reporting.metrics import NEGATIVE_ELBO, PSNR
from hvae_codec.reporting.results import read_sweep
from hvae_codec.reporting.selection import (
    beta_vaes,
    cells,
    edges,
    hull_rows,
    is_grid,
    optima,
    vae,
)


def square(pairs, make, tmp_path, **options):
    return read_sweep(make(tmp_path / "a", pairs, pictures=False, **options))


def test_the_vae_is_exact_where_the_grid_holds_betas_of_one(make, grid_of, tmp_path):
    row, exact = vae(square(grid_of(3), make, tmp_path))
    assert (row.model, row.betas, exact) == ("0004", (1.0, 1.0), True)


def test_else_the_nearest_by_logarithm_stands_for_it(make, tmp_path):
    pairs = [(0.5, 0.5), (0.5, 1.6), (1.6, 0.5), (1.6, 1.6)]
    row, exact = vae(square(pairs, make, tmp_path))
    assert (row.betas, exact) == ((1.6, 1.6), False)  # |ln 1.6| = 0.47 < |ln 0.5| = 0.69


def test_beta_vaes_are_the_diagonal(make, grid_of, tmp_path):
    found = beta_vaes(square(grid_of(3), make, tmp_path))
    assert [row.model for row in found] == ["0000", "0004", "0008"]


def test_adapted_betas_are_neither_baselines_nor_a_grid(make, grid_of, tmp_path):
    sweep = square(
        grid_of(3), make, tmp_path, change=lambda r: r | {"target_rates_nats": [9.0, None]}
    )
    assert (vae(sweep), beta_vaes(sweep), is_grid(sweep)) == (None, (), False)


PLACES = {"0000": ([2, 8], 20.0), "0001": ([5, 15], 26.0), "0002": ([5, 25], 27.0)}
PLACES |= {"0003": ([10, 30], 30.0)}


def placed(row):
    """(R, PSNR): (10, 20), (20, 26), (30, 27), (40, 30); the third lies below the line from the
    second to the fourth, which is 28 at 30.
    """
    rates, psnr = PLACES[row["model"]]
    return row | {
        "rates_nats": rates,
        "total_rate_nats": sum(rates),
        "psnr_modes_db": psnr,
        "negative_elbo_nats": -psnr,
    }


@pytest.mark.parametrize("metric", [PSNR, NEGATIVE_ELBO], ids=lambda metric: metric.key)
def test_the_hull_leaves_out_what_lies_below_a_chord(make, grid_of, tmp_path, metric):
    sweep = square(grid_of(2), make, tmp_path, change=placed)
    assert [row.model for row in hull_rows(sweep, metric)] == ["0000", "0001", "0003"]


def test_optima_are_by_application_and_fall_back(make, grid_of, tmp_path):
    best = {"0000": "inception_score", "0002": "psnr_modes_db"}

    def change(row):
        row["accuracy"]["paper"]["z2"]["rbf_svm"] = 0.9 if row["model"] == "0003" else 0.5
        return row | {key: 50.0 for name, key in best.items() if name == row["model"]}

    found = optima(square(grid_of(2), make, tmp_path, change=change))
    assert [(o.number, o.application, o.row.model) for o in found] == [
        (1, "reconstruction", "0002"),
        (2, "generation", "0000"),
        (3, "representation", "0003"),
    ]

    def without(row):
        lowest = -1.0 if row["model"] == "0001" else 1.0
        nothing = {"inception_score": None, "accuracy": None, "information_nats": None}
        return row | nothing | {"negative_elbo_nats": lowest}

    sweep = read_sweep(make(tmp_path / "b", grid_of(2), change=without, pictures=False))
    found = optima(sweep)
    assert [(o.application, o.metric.key) for o in found] == [
        ("reconstruction", "psnr_modes_db"),
        ("generation", "negative_elbo_nats"),
    ]
    assert found[1].row.model == "0001"


def test_cells_of_a_grid_go_around_and_lose_missing_corners(make, grid_of, tmp_path):
    full = square(grid_of(3), make, tmp_path)
    assert cells(full, full.rows) == [(0, 1, 4, 3), (1, 2, 5, 4), (3, 4, 7, 6), (4, 5, 8, 7)]
    assert len(edges(full, full.rows)) == 12
    holed = read_sweep(make(tmp_path / "b", grid_of(3), skip=("0008",), pictures=False))
    assert cells(holed, holed.rows)[3] == (4, 5, 7)
    assert len(edges(holed, holed.rows)) == 10


def test_pairs_that_are_no_grid_have_no_cells(make, tmp_path):
    sweep = square([(0.1, 0.2), (0.3, 0.4), (0.5, 0.6), (0.7, 0.8)], make, tmp_path)
    assert not is_grid(sweep)
    assert cells(sweep, sweep.rows) == []


def test_facets_tile_a_cell(make, grid_of, tmp_path):
    """The areas of the quads of a unit square's cell sum to 1, and values are bilinear."""
    sweep = square(grid_of(2), make, tmp_path)
    corners = np.array([[0, 0, 1], [0, 1, 2], [1, 0, 3], [1, 1, 8]], dtype=float)
    quads = facets(sweep, sweep.rows, corners)
    x, y = quads[:, :, 0], quads[:, :, 1]
    areas = 0.5 * np.abs(np.sum(x * np.roll(y, 1, axis=1) - y * np.roll(x, 1, axis=1), axis=1))
    assert areas.sum() == pytest.approx(1.0)
    expected = 1 + 2 * x + y + 4 * x * y  # through the four corners' values
    np.testing.assert_allclose(quads[:, :, 2], expected)

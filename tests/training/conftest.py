"""A small sweep on pictures that are there at once."""

import numpy as np
import pytest
import torch
from PIL import Image

from hvae_codec.data import load_dataset
from hvae_codec.training.recipe import Recipe
from hvae_codec.training.sweep.chunk import described_data
from hvae_codec.training.sweep.plan import SweepModel, SweepPlan


@pytest.fixture
def crops(tmp_path):
    """Name of a data set of 32 training and 8 test crops."""
    generator = np.random.default_rng(5)
    for split, rows in (("train", 8), ("test", 2)):
        coarse = generator.integers(0, 256, (4 * rows, 16, 3), dtype=np.uint8)
        (tmp_path / "crops" / split).mkdir(parents=True)
        picture = Image.fromarray(coarse.repeat(8, axis=0).repeat(8, axis=1))
        picture.save(tmp_path / "crops" / split / "a.png")
    return f"folder:{tmp_path / 'crops'}"


@pytest.fixture
def make_plan(crops):
    """A plan of models with these betas, two a stack, of two epochs of four steps."""

    def make(betas=((0.1, 0.1), (1.0, 1.0), (10.0, 1.0)), chunk=2, **settings):
        models = tuple(m if isinstance(m, SweepModel) else SweepModel(m) for m in betas)
        recipe = Recipe(
            **{
                "spec": "ghvae-32x32x3",
                "dataset": crops,
                "betas": models[0].betas,
                "posterior": "gaussian",
                "epochs": 2,
                "batch_size": 8,
                **settings,
            }
        )
        data = described_data(load_dataset(crops, "train"), load_dataset(crops, "test"), None)
        return SweepPlan(recipe, models, chunk, "tiny", data)

    return make


@pytest.fixture
def fp64():
    """Double precision by default."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)

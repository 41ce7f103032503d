"""A model for a range of betas on disk: as it was, or refused with the reason."""

import json

import pytest
import torch

from hvae_codec.codec.checkpoint import load_checkpoint
from hvae_codec.errors import CheckpointError
from hvae_codec.models.plane import PlaneVAE
from hvae_codec.models.zoo import get_spec
from hvae_codec.training.sweep.plane_checkpoint import load_plane, make_plane, save_plane

CARD = {
    "name": "tiny",
    "recipe": {"epochs": 1},
    "data": {"train": "blobs"},
    "history": [{"epoch": 1}],
    "measured": [{"psnr_db": 20.0}],
}


@pytest.fixture
def saved(tmp_path):
    """A checkpoint in memory, and where it is on the disk."""
    torch.manual_seed(3)
    model = PlaneVAE(get_spec("ghvae-28x28x1"), "uniform", ranges=((0.1, 10.0), (0.5, 2.0)))
    checkpoint = make_plane(model, CARD)
    save_plane(tmp_path / "plane.safetensors", checkpoint)
    return checkpoint, tmp_path / "plane.safetensors"


def change_card(path, **fields):
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, **fields}))


def test_it_is_read_as_it_was_written(saved):
    checkpoint, path = saved
    before = torch.get_rng_state()
    found = load_plane(path)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.card == checkpoint.card
    assert found.model.ranges == checkpoint.model.ranges
    one, other = (each.model.at((0.2, 1.0)).state_dict() for each in (checkpoint, found))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "hvae-codec checkpoint 1"}, "this release reads 'hvae-codec plane 1'"),
        ({"sha256": "ab" * 32}, "content hash"),
        ({"beta_ranges": [[0.1, 10.0], [0.5, 3.0]]}, "content hash"),
        ({"beta_ranges": [[0.1, 10.0]]}, "do not fit the card's model: 1 ranges"),
        ({"beta_ranges": None}, "do not fit the card's model"),
        ({"posterior": "gaussian"}, "do not fit the card's model"),
        ({"spec": get_spec("ghvae-32x32x3").to_json()}, "do not fit the card's model"),
        ({"spec": 3}, "do not fit the card's model"),
        ({"recipe": None}, "its card lacks recipe"),
        ({"history": []}, "its card lacks history"),
    ],
)
def test_a_foreign_card_is_refused(saved, fields, message):
    change_card(saved[1], **fields)
    with pytest.raises(CheckpointError, match=message):
        load_plane(saved[1])


def test_damaged_and_missing_files_are_refused(saved):
    path = saved[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="content hash"):
        load_plane(path)
    path.write_bytes(whole[:1000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_plane(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_plane(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(CheckpointError, match="not a checkpoint's card"):
        load_plane(path)


def test_it_is_no_codec(saved):
    with pytest.raises(CheckpointError, match="is of format 'hvae-codec plane 1'"):
        load_checkpoint(saved[1])

"""`hvae-codec quantise`: what it writes, under which name, and what it refuses."""

import numpy as np
import pytest
import torch

import hvae_codec
from hvae_codec.codec.checkpoint import read_card, save_checkpoint
from hvae_codec.codec.tiled.fit_tables import fit_tables
from hvae_codec.models import HierarchicalVAE, get_spec
from tests.codec.fully_convolutional.models import save_integers, waves

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of a float model and an integer one."""
    folder = tmp_path_factory.mktemp("models")
    save_integers(folder / "even-q50.safetensors")
    return folder


@pytest.fixture
def arguments(models, tmp_path, save):
    """Those that all calls share: the checkpoint and a data set of a few pictures."""
    for split in ("train", "test"):
        for n in range(3):
            save(tmp_path / "crops" / split / f"{n}.png", waves(64, 96, seed=n))
    data = f"folder:{tmp_path / 'crops'}"
    return ["quantise", models / "even-q50.safetensors", "--data", data, "--images", "2"]


def test_it_writes_a_model_and_its_card(run, arguments, models, tmp_path):
    done = run(*arguments, "--output", tmp_path / "out")
    assert done.code == 0, done.err
    written = tmp_path / "out" / "even-q50.safetensors"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "even-q50.json",
        "even-q50.safetensors",
    ]
    codec = hvae_codec.load_file(written)
    floats = hvae_codec.load_file(models / "even-q50.safetensors")
    card = codec.info.card
    assert card["arithmetic"] != "float"
    assert (card["name"], card["quality"]) == ("even", 50)
    assert card["float_model"]["sha256"] == floats.info.card["sha256"]
    assert card["float_model"]["images"] == 2
    assert codec.info.model_id != floats.info.model_id
    assert done.out.startswith(f"model {codec.info.model_id}, ")
    picture = waves(64, 64, seed=9)
    assert codec.decode(codec.encode(picture)).shape == picture.shape


def test_json_has_the_id_and_the_figures_of_the_card(run, arguments, tmp_path):
    done = run(*arguments, "-o", tmp_path / "out", "--json")
    card = read_card(tmp_path / "out" / "even-q50.json")
    assert done.json == {"model_id": card["sha256"][:8], **card["measured"]}
    assert card["measured"]["payload_bytes"] > 0
    assert [row["quality"] for row in card["qualities"]] == [1, 10, 25, 50, 75, 100]
    bits = [row["bits_per_pixel"] for row in card["qualities"]]
    assert bits == sorted(bits)


def test_a_name_is_that_of_the_card_and_of_the_file(run, arguments, tmp_path):
    assert run(*arguments, "-o", tmp_path / "out", "--name", "whole").code == 0
    (info,) = [hvae_codec.load_file(tmp_path / "out" / "whole-q50.safetensors").info]
    assert info.name == "whole"


def test_the_file_of_a_name_has_the_quality_of_the_card(run, arguments, models, tmp_path):
    """Where the file of the source names none, as that of `photo`."""
    for suffix in (".safetensors", ".json"):
        source = models / f"even-q50{suffix}"
        (tmp_path / f"plain{suffix}").write_bytes(source.read_bytes())
    arguments[1] = tmp_path / "plain.safetensors"
    assert run(*arguments, "-o", tmp_path / "out", "--name", "whole").code == 0
    assert {p.stem for p in (tmp_path / "out").iterdir()} == {"whole-q50"}


def test_another_model_is_overwritten_on_request_alone(run, arguments, models, tmp_path):
    """Not even that which the integers are made of."""
    out = tmp_path / "out"
    out.mkdir()
    for suffix in (".safetensors", ".json"):
        (out / f"even-q50{suffix}").write_bytes((models / f"even-q50{suffix}").read_bytes())
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "would overwrite it" in run(*arguments, "-o", out).error()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert run(*arguments, "-o", out, "--replace").code == 0
    assert (out / "even-q50.safetensors").read_bytes() != before["even-q50.safetensors"]
    # The same again is no other model.
    assert run(*arguments, "-o", out).code == 0


def test_models_that_cannot_become_integers(run, arguments, models, tmp_path):
    torch.manual_seed(5)
    model = HierarchicalVAE(get_spec("ghvae-32x32x3"), "gaussian").eval()
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    tiled = tmp_path / "c-q1.safetensors"
    save_checkpoint(tiled, model, fit_tables(model, images), {"name": "c", "quality": 1})
    for source, name in ((tiled, "c"), (models / "integers.safetensors", "integers")):
        arguments[1] = source
        said = run(*arguments, "-o", tmp_path / "out").error()
        assert said.startswith(f"model '{name}' cannot become one of integers: that takes a fully")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({1: "nothing.safetensors"}, "nothing"),
        ({3: "imagenet"}, "unknown data set"),
        ({3: "folder:nowhere"}, "nowhere"),
    ],
)
def test_bad_input_is_said_in_one_line(run, arguments, tmp_path, changed, said):
    for index, value in changed.items():
        arguments[index] = value
    assert said in run(*arguments, "-o", tmp_path / "out").error()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("count", ["0", "-1", "x"])
def test_numbers_of_images(run, arguments, tmp_path, count):
    arguments[-1] = count
    done = run(*arguments, "-o", tmp_path / "out")
    assert done.code == 2
    assert "--images" in done.err

"""Image classifiers: sizes as published, what they take, and files that are not what they say."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hvae_codec.errors import CheckpointError, SpecError, TensorError
from hvae_codec.evaluation.image_classifiers import (
    ClassifierNetwork,
    load_classifier,
    save_classifier,
)

pytestmark = pytest.mark.usefixtures("one_thread")

CARD = {"arch": "cnn", "stem": 1, "dataset": "MNIST", "classes": 10, "accuracy": 0.99, "epochs": 4}


@pytest.fixture
def stored(tmp_path):
    torch.manual_seed(2)
    module = ClassifierNetwork("cnn", 1, 10)
    module.mean.fill_(0.13)
    module.deviation.fill_(0.31)
    path = tmp_path / "mnist.safetensors"
    return path, save_classifier(path, module, CARD)


def test_another_one_is_overwritten_only_if_asked(stored):
    path, classifier = stored
    assert save_classifier(path, classifier.module, {**CARD, "accuracy": 0.5}).accuracy == 0.5
    other = ClassifierNetwork("cnn", 1, 10)
    with pytest.raises(CheckpointError, match="holds another classifier"):
        save_classifier(path, other, CARD)
    assert load_classifier(path).sha256 == classifier.sha256
    assert save_classifier(path, other, CARD, replace=True).sha256 != classifier.sha256


@pytest.mark.parametrize(
    ("arch", "published"), [("resnet18", 11_689_512), ("densenet121", 7_978_856)]
)
@pytest.mark.parametrize("stem", [1, 2, 4])
def test_parameters_are_the_published_ones_but_for_stem_and_classes(arch, published, stem):
    """torchvision's counts; 3x3 instead of 7x7 from 3 to 64 channels, 10 instead of 1000 classes
    from 512 or 1024 features. For a ResNet-18 of 32x32 pictures, 11,173,962 is well known.
    """
    features = {"resnet18": 512, "densenet121": 1024}[arch]
    expected = published - 3 * 64 * (49 - 9) - 990 * (features + 1)
    module = ClassifierNetwork(arch, stem, 10)
    assert sum(parameter.numel() for parameter in module.parameters()) == expected
    assert arch != "resnet18" or expected == 11_173_962


def test_parameters_of_the_small_network():
    """Convolutions 1-32-64 of 3x3 without shifts, scales and shifts after each, 3136-128-10."""
    expected = 9 * 32 + 2 * 32 + 9 * 32 * 64 + 2 * 64 + 3137 * 128 + 129 * 10
    module = ClassifierNetwork("cnn", 1, 10)
    assert sum(parameter.numel() for parameter in module.parameters()) == expected == 421_738


@pytest.mark.parametrize("stem", [1, 2, 4])
@pytest.mark.parametrize(
    ("arch", "block"), [("resnet18", "layer1"), ("densenet121", "denseblock1")]
)
def test_the_stem_shrinks_by_its_stride(arch, block, stem):
    module = ClassifierNetwork(arch, stem, 10).eval()
    (found,) = [part for name, part in module.named_modules() if name.split(".")[-1] == block]
    sizes = []
    found.register_forward_pre_hook(lambda _, inputs: sizes.append(tuple(inputs[0].shape)))
    with torch.no_grad():
        assert module(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    assert sizes == [(1, 64, 32 // stem, 32 // stem)]


def test_pictures_are_normalised_inside():
    torch.manual_seed(0)
    plain, shifted = ClassifierNetwork("cnn", 1, 10).eval(), ClassifierNetwork("cnn", 1, 10).eval()
    shifted.load_state_dict(plain.state_dict())
    shifted.mean.fill_(0.25)
    shifted.deviation.fill_(0.5)
    x = torch.rand(3, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(shifted(x), plain((x - 0.25) / 0.5))


@pytest.mark.parametrize(
    ("arch", "stem", "classes", "message"),
    [
        ("vgg", 1, 10, "no classifier 'vgg'; there are resnet18, densenet121, cnn"),
        ("resnet18", 3, 10, "stem 3; resnet18 can have 1, 2, 4"),
        ("cnn", 2, 10, "stem 2; cnn can have 1"),
        ("cnn", 1, 1, "1 classes; at least 2"),
    ],
)
def test_networks_that_there_are_not(arch, stem, classes, message):
    with pytest.raises(SpecError, match=message):
        ClassifierNetwork(arch, stem, classes)


def test_loaded_it_says_what_it_said(stored):
    path, saved = stored
    loaded = load_classifier(path)
    x = (torch.rand(6, 1, 28, 28) > 0.5).float()
    found = loaded.log_probabilities(x)
    assert (found.shape, found.dtype) == ((6, 10), torch.float64)
    torch.testing.assert_close(found, saved.log_probabilities(x))
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(6, dtype=torch.float64))
    assert (loaded.arch, loaded.accuracy, loaded.dataset) == ("cnn", 0.99, "MNIST")
    assert (loaded.image_shape, loaded.classes) == ((1, 28, 28), 10)
    assert loaded.sha256 == saved.sha256 == loaded.card["sha256"]
    assert loaded.card["format"] == "hvae-codec classifier 1"


@pytest.mark.parametrize(
    "pictures",
    [torch.rand(2, 3, 32, 32), torch.rand(1, 28, 28), torch.zeros(2, 1, 28, 28, dtype=torch.uint8)],
)
def test_pictures_that_do_not_fit_are_refused(stored, pictures):
    with pytest.raises(TensorError, match=r"cnn takes images float \[N, 1, 28, 28\]; got"):
        stored[1].log_probabilities(pictures)


def test_damaged_weights_are_refused(stored):
    path, _ = stored
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="content hash"):
        load_classifier(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_classifier(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_classifier(path)


def test_weights_of_another_network_are_refused(stored):
    path, _ = stored
    tensors = load_file(path)
    tensors["network.9.weight"] = tensors["network.9.weight"][:, :5].contiguous()
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="content hash"):
        load_classifier(path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "hvae-codec checkpoint 1"},
        {"arch": "resnet18"},
        {"arch": "vgg"},
        {"arch": []},
        {"stem": "1"},
        {"classes": 9},
        {"classes": -1},
        {"accuracy": 1.2},
        {"accuracy": None},
        {"accuracy": float("nan")},
        {"dataset": None},
        {"sha256": 5},
        {"sha256": "00"},
    ],
)
def test_damaged_cards_are_refused(stored, change):
    path, _ = stored
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **change}))
    with pytest.raises(CheckpointError):
        load_classifier(path)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"format": "hvae-codec classifier 1"}'])
def test_what_is_no_card_is_refused(stored, text):
    path, _ = stored
    path.with_suffix(".json").write_text(text)
    with pytest.raises(CheckpointError, match="not a classifier's card"):
        load_classifier(path)

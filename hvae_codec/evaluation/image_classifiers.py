"""Image classifiers p(y|x) behind the Inception Score: three networks, and their files.

The paper takes a ResNet-18 (He et al. 2016) for SVHN, a DenseNet-121 (Huang et al. 2017) for
CIFAR-10 and a small convolutional network for MNIST. The first two are torchvision's with another
stem: theirs shrinks a photograph by 4 before the first block, which leaves little of 32x32 pixels.
A classifier on disk is a safetensors file and a JSON card beside it, bound to it by a hash.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from hvae_codec.errors import CheckpointError, SpecError, TensorError
from hvae_codec.models.inference import inference, loading
from hvae_codec.models.likelihoods import LIKELIHOODS, Likelihood
from hvae_codec.models.tensor_files import read_tensors
from hvae_codec.utils.atomic_files import write_atomically

STEMS = (1, 2, 4)
"""Total strides that the stem of a network for colour images may have."""

_FORMAT = "hvae-codec classifier 1"


@dataclass(frozen=True)
class Architecture:
    """What a network takes: images of `image_shape` (C, H, W), their pixels as the likelihood of
    this name makes them, which is what a model with that likelihood draws.
    """

    image_shape: tuple[int, int, int]
    likelihood: str
    stems: tuple[int, ...]


ARCHITECTURES: dict[str, Architecture] = {
    "resnet18": Architecture((3, 32, 32), "gaussian", STEMS),
    "densenet121": Architecture((3, 32, 32), "gaussian", STEMS),
    "cnn": Architecture((1, 28, 28), "bernoulli", (1,)),
}


class ClassifierNetwork(nn.Module):
    """Logits [N, classes] for images float [N, C, H, W] in [0, 1].

    The images are shifted and scaled, per channel, by `mean` and `deviation` inside: buffers
    [1, C, 1, 1], of the training images.
    """

    def __init__(self, arch: str, stem: int, classes: int) -> None:
        """
        Args:
            arch: a key of ARCHITECTURES.
            stem: stride of all that comes before the first block: 1, a 3x3 convolution and nothing
                else, for accuracy; 2, that convolution with stride 2; 4, max pooling behind it,
                about 16 times cheaper than 1.
            classes: number of them, at least 2.

        Raises:
            SpecError: a name or number that is not allowed.
        """
        super().__init__()
        if arch not in ARCHITECTURES:
            raise SpecError(f"no classifier {arch!r}; there are {', '.join(ARCHITECTURES)}")
        if stem not in ARCHITECTURES[arch].stems:
            allowed = ", ".join(map(str, ARCHITECTURES[arch].stems))
            raise SpecError(f"stem {stem}; {arch} can have {allowed}")
        if classes < 2:
            raise SpecError(f"{classes} classes; at least 2 are needed")
        self.classes = classes
        channels = ARCHITECTURES[arch].image_shape[0]
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("deviation", torch.ones(1, channels, 1, 1))
        self.network = _cnn(classes) if arch == "cnn" else _residual(arch, stem, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes]."""
        logits: Tensor = self.network((images - self.mean) / self.deviation)
        return logits


def _residual(arch: str, stem: int, classes: int) -> nn.Module:
    # Imported here: torchvision takes a second to import, and who needs no colour needs it not.
    from torchvision import models

    convolution = nn.Conv2d(3, 64, 3, stride=min(stem, 2), padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    if arch == "resnet18":
        network: nn.Module = models.resnet18(num_classes=classes)
        stages, first, pool = network, "conv1", "maxpool"
    else:
        network = models.densenet121(num_classes=classes)
        stages, first, pool = network.get_submodule("features"), "conv0", "pool0"
    setattr(stages, first, convolution)
    if stem < 4:
        setattr(stages, pool, nn.Identity())
    return network


def _cnn(classes: int) -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True), nn.MaxPool2d(2)]

    hidden = [nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(inplace=True)]
    return nn.Sequential(*block(1, 32), *block(32, 64), *hidden, nn.Linear(128, classes))


@dataclass(frozen=True)
class Classifier:
    """A trained classifier in evaluation mode; `accuracy` in [0, 1] is that on the test split of
    `dataset`, the published name.
    """

    module: ClassifierNetwork
    arch: str
    stem: int
    dataset: str
    classes: int
    accuracy: float
    sha256: str
    image_shape: tuple[int, int, int]
    card: dict[str, Any]

    @property
    def likelihood(self) -> Likelihood:
        """The likelihood that makes the pixels which the classifier was trained on."""
        return LIKELIHOODS[ARCHITECTURES[self.arch].likelihood]()

    @inference
    def log_probabilities(self, images: Tensor) -> Tensor:
        """log p(y|x), float64 [N, classes], for images float [N, C, H, W] in [0, 1].

        Raises:
            TensorError: images of another shape or type than the classifier was trained on.
        """
        if images.shape[1:] != self.image_shape or not images.is_floating_point():
            raise TensorError(
                f"{self.arch} takes images float [N, {', '.join(map(str, self.image_shape))}]; "
                f"got {images.dtype} {list(images.shape)}"
            )
        device = self.module.mean.device
        logits: Tensor = self.module(images.to(device, torch.float32))
        return torch.log_softmax(logits.double(), dim=1)


def save_classifier(
    path: Path, module: ClassifierNetwork, card: Mapping[str, Any], *, replace: bool = False
) -> Classifier:
    """Write `path` (.safetensors) and its card (.json), the card last; each appears whole or not at
    all.

    `card` holds arch, stem, dataset, classes, accuracy, epochs and recipe; format and hash are
    added here. replace: whether another classifier at `path` is overwritten.

    Raises:
        CheckpointError: `path` holds another classifier, and `replace` is False.
        OSError: the folder is missing, full or not writable.
    """
    digest = _content_hash(card, module.state_dict())
    if not replace:
        check_replaces(path, sha256=digest)
    full = {"format": _FORMAT, **card, "sha256": digest}
    write_atomically(path, save(_contiguous(module.state_dict())))
    write_atomically(path.with_suffix(".json"), (json.dumps(full, indent=2) + "\n").encode())
    return _classifier(full, module.eval())


def check_replaces(path: Path, **fields: object) -> None:
    """Check that a classifier whose card has these fields overwrites no other one at `path`.

    Raises:
        CheckpointError: it would, or the card there cannot be read.
    """
    card_path = path.with_suffix(".json")
    if not (path.exists() and card_path.exists()):
        return
    card = _read_card(card_path)
    if any(card.get(name) != value for name, value in fields.items()):
        raise CheckpointError(
            f"{path} holds another classifier, {card['sha256'][:8]}, which would be overwritten: "
            "name another file, or give --replace"
        )


@loading
def load_classifier(path: Path) -> Classifier:
    """The classifier at `path` (.safetensors, its card beside it), its hash verified.

    Raises:
        CheckpointError: a file is missing or damaged, or weights and card do not belong together.
    """
    card = _read_card(path.with_suffix(".json"))
    try:
        tensors = read_tensors(path)[0]
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if (found := _content_hash(card, tensors)) != card["sha256"]:
        raise CheckpointError(
            f"{path}: content hash {found[:16]} is not the card's {str(card['sha256'])[:16]}"
        )
    try:
        with torch.device("meta"):  # no weights to draw, of no dtype that is anyone's default
            module = ClassifierNetwork(card["arch"], card["stem"], card["classes"])
        module.load_state_dict(tensors, assign=True)
    except (RuntimeError, SpecError) as error:
        raise CheckpointError(f"{path}: weights do not fit the card's network: {error}") from error
    module.eval().requires_grad_(False)
    return _classifier(card, module.to(memory_format=torch.channels_last))


def _classifier(card: dict[str, Any], module: ClassifierNetwork) -> Classifier:
    names = ("arch", "stem", "dataset", "classes", "accuracy", "sha256")
    shape = ARCHITECTURES[card["arch"]].image_shape
    return Classifier(module, image_shape=shape, card=card, **{name: card[name] for name in names})


def _read_card(path: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads(path.read_text())
        if card["format"] != _FORMAT:
            raise CheckpointError(
                f"{path} is of format {card['format']!r}; this release reads {_FORMAT!r}"
            )
        sound = (
            card["arch"] in ARCHITECTURES
            and type(card["stem"]) is int
            and type(card["classes"]) is int
            and isinstance(card["dataset"], str)
            and isinstance(card["sha256"], str)
            and math.isfinite(card["accuracy"])
            and 0.0 <= card["accuracy"] <= 1.0
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is not a classifier's card: {error!r}") from error
    if not sound:
        raise CheckpointError(f"{path} is not a classifier's card: a field has a wrong value")
    return card


def _content_hash(card: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hex, of everything that p(y|x) depends on."""
    head = {name: card[name] for name in ("arch", "stem", "classes")}
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for name, tensor in sorted(_contiguous(tensors).items()):
        array = tensor.numpy()
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}

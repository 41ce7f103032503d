"""Does rate tell that an image is none of a kind? MNIST's codec on digits and on other images.

    python -m benchmarks.features.anomaly [--images N] [--json benchmarks/results/anomaly.json]

Scores of MNIST's test digits against those of four other sets, with the area under the ROC curve:
the rate of all layers and of each, the distance of the rate from that of typical training digits,
and rate and distortion together (what Eq. 8 weighs with betas of 1). The others: CIFAR-10 and SVHN
in grey (their middle 28x28 pixels), the same digits upside down, and the same digits at half their
size, which are simpler than what the model was trained on.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import hvae_codec
from benchmarks.common import environment, tiled_networks, write_json
from hvae_codec.data import load_dataset
from hvae_codec.evaluation.metrics.anomaly import Roc, distance_from_typical, rate_bits, roc

Pixels = NDArray[np.uint8]
Scores = NDArray[np.float64]
RATE, TYPICAL, BOTH = "rate", "distance from the typical rate", "rate and distortion"


def grey_middle(images: Pixels, side: int = 28) -> Pixels:
    """RGB images uint8 [N, H, W, 3] in grey (ITU-R 601 weights), cut to [N, side, side, 1]."""
    top, left = ((size - side) // 2 for size in images.shape[1:3])
    cut = images[:, top : top + side, left : left + side].astype(np.float64)
    grey: Pixels = np.rint(cut @ np.array([[0.299], [0.587], [0.114]])).astype(np.uint8)
    return grey


def half_size(digits: Pixels) -> Pixels:
    """Images [N, 28, 28, 1] at half their size, by means of 2x2 pixels, in a black frame."""
    small = digits.reshape(len(digits), 14, 2, 14, 2, 1).mean(axis=(2, 4))
    return np.pad(np.rint(small).astype(np.uint8), ((0, 0), (7, 7), (7, 7), (0, 0)))


def scores_of(codec: hvae_codec.Codec, images: Pixels) -> dict[str, Scores]:
    """Bits of rate, in all and by layer, and bits of rate and distortion together, [N] each."""
    layers = codec.information_bits(images)
    names = [codec.model.spec.layer_name(index) for index in range(layers.shape[1])]
    return {
        RATE: rate_bits(codec, images),
        **{f"rate of {name}": layers[:, index] for index, name in enumerate(names)},
        BOTH: layers.sum(axis=1) + _distortion_bits(codec, images),
    }


def compare(
    codec: hvae_codec.Codec, training: Pixels, normal: Pixels, others: dict[str, Pixels]
) -> tuple[dict[str, Any], dict[str, dict[str, Scores]], dict[str, dict[str, Roc]]]:
    """The result, and for the figure the scores and curves by set and score."""
    typical = rate_bits(codec, training)
    scores: dict[str, dict[str, Scores]] = {}
    progress = tqdm({"MNIST": normal, **others}.items(), desc="sets", disable=None)
    for name, images in progress:
        scores[name] = scores_of(codec, images)
        scores[name][TYPICAL] = distance_from_typical(scores[name][RATE], typical)
    curves = {
        name: {kind: roc(scores["MNIST"][kind], values) for kind, values in found.items()}
        for name, found in scores.items()
        if name != "MNIST"
    }
    sets = {
        name: {
            "images": len(found[RATE]),
            "rate_bits": float(found[RATE].mean()),
            "rate_bits_std": float(found[RATE].std()),
            **({"auc": {k: c.auc for k, c in curves[name].items()}} if name in curves else {}),
        }
        for name, found in scores.items()
    }
    return {"typical_rate_bits": float(np.median(typical)), "sets": sets}, scores, curves


def plot(
    scores: dict[str, dict[str, Scores]], curves: dict[str, dict[str, Roc]], path: Path
) -> None:
    """Rates of every set, and the ROC curves of the rate and of its distance from the typical."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(14, 4.2), constrained_layout=True)
    edges = np.linspace(0, max(found[RATE].max() for found in scores.values()), 60)
    for index, (name, found) in enumerate(scores.items()):
        panels[0].hist(found[RATE], edges, density=True, histtype="step", color=f"C{index}")
        panels[0].plot([], [], color=f"C{index}", label=name)
    panels[0].set(xlabel="rate (bits per image)", ylabel="density", title="Rates")
    for axes, kind in zip(panels[1:], (RATE, TYPICAL), strict=True):
        for index, (name, by_kind) in enumerate(curves.items(), 1):
            curve = by_kind[kind]
            label = f"{name}: {curve.auc:.3f}"
            rates = (curve.false_positive_rate, curve.true_positive_rate)
            axes.plot(*rates, color=f"C{index}", label=label)
        axes.plot([0, 1], [0, 1], "--", color="grey", linewidth=0.8)
        axes.set(xlabel="MNIST digits taken for strange", title=f"Score: {kind}")
        axes.set_ylabel("others recognised")
    for axes in panels:
        axes.legend(fontsize=8, loc="best")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, and write JSON and figure if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=2000, help="of each set, at most")
    parser.add_argument("--quality", type=int, help="rung of the MNIST model")
    parser.add_argument("--json", type=Path, help="write the result here, and a figure beside it")
    arguments = parser.parse_args()
    codec = hvae_codec.load("mnist", arguments.quality)
    digits, cifar, svhn = (load_dataset(name, "test") for name in ("mnist", "cifar10", "svhn"))
    training = load_dataset("mnist", "train").images[: arguments.images]
    normal = digits.images[: arguments.images]
    others = {
        "CIFAR-10, grey": grey_middle(cifar.images[: arguments.images]),
        "SVHN, grey": grey_middle(svhn.images[: arguments.images]),
        "MNIST upside down": np.ascontiguousarray(normal[:, ::-1, ::-1]),
        "MNIST at half size": half_size(normal),
    }
    found, scores, curves = compare(codec, training, normal, others)
    print(f"MNIST's codec, quality {codec.info.quality}; areas under the ROC curve")
    kinds = list(next(iter(curves.values())))
    for name, row in found["sets"].items():
        areas = [f"{kind} {row['auc'][kind]:.3f}" for kind in kinds] if "auc" in row else []
        print(f"{name:18} {row['rate_bits']:7.1f} bits  {'  '.join(areas)}")
    result = {
        "data": [f"{data.name} {data.split}" for data in (digits, cifar, svhn)],
        "model": {"name": "mnist", "quality": codec.info.quality, "id": codec.info.model_id},
        **found,
        "environment": environment(),
    }
    if arguments.json is not None:
        write_json(arguments.json, result)
        plot(scores, curves, arguments.json.with_suffix(".png"))


@torch.inference_mode()
def _distortion_bits(codec: hvae_codec.Codec, images: Pixels) -> Scores:
    """-log2 p(x|z_1) of each image at the latents that its symbols stand for."""
    networks = tiled_networks(codec)
    model = networks.model
    latents = torch.from_numpy(networks.latents(networks.symbols(images))[-1][0])
    output = model.decode([latents.reshape(-1, *model.spec.latents[-1].shape)])
    x = model.likelihood.pixels(torch.tensor(images).permute(0, 3, 1, 2))
    nats: Scores = model.likelihood.distortion_nats(output, x).double().numpy()
    return nats / math.log(2.0)


if __name__ == "__main__":
    main()

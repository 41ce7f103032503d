"""Can an archive be classified without decoding its images? CIFAR-10, straight from a `.hvaa`.

    python -m benchmarks.features.archive_features [--json benchmarks/results/archive_features.json]

Packs images into an archive and fits one and the same classifier (standardised columns, logistic
regression) to: latents read from the archive, whose images are not decoded; latents of the
images before they were coded; latents, and pixels, of the images decoded from the archive; and
the pixels themselves. Seconds are of processor time on one thread, which other programs hardly
change: `features` for the columns, `classifier` for fitting and scoring.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from tqdm import tqdm

import hvae_codec
from benchmarks.common import environment, write_json
from hvae_codec import HVAEFeatures
from hvae_codec.data import load_dataset
from hvae_codec.features import ArchivePictures

Pixels = NDArray[np.uint8]
Row = dict[str, Any]
LAYERS: tuple[tuple[str, ...], ...] = (("z2",), ("z1",), ("z2", "z1"))
REGULARISATION, ITERATIONS = 0.01, 300


def pack(path: Path, codec: hvae_codec.Codec, images: Pixels) -> None:
    """An archive of the images, in order."""
    with hvae_codec.ArchiveWriter(path, codec) as writer:
        for image in tqdm(images, desc="packing", disable=None, leave=False):
            writer.add(image)


def classify(
    columns: Callable[[], NDArray[Any]], labels: NDArray[np.int64], training: int
) -> dict[str, float]:
    """Accuracy on what follows the first `training` rows, and seconds of processor time."""
    start = time.process_time()
    rows = columns()
    made = time.process_time()
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=ITERATIONS, tol=1e-3)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        classifier.fit(rows[:training], labels[:training])
    accuracy = float(classifier.score(rows[training:], labels[training:]))
    done = time.process_time()
    return {
        "columns": rows.shape[1],
        "accuracy": accuracy,
        "feature_seconds": made - start,
        "classifier_seconds": done - made,
    }


def decoded(path: Path, codec: hvae_codec.Codec) -> Pixels:
    """All images of an archive, [N, H, W, C]."""
    with hvae_codec.Archive(path, codec) as archive:
        return np.stack(list(archive))


def columns_of(given: Callable[[], Any], features: HVAEFeatures | None) -> NDArray[Any]:
    """What the classifier sees of the images: latents or, without `features`, pixels in 0..1."""
    pictures = given()
    if features is not None:
        return features.transform(pictures)
    pixels: NDArray[np.float32] = pictures.reshape(len(pictures), -1) / np.float32(255)
    return pixels


def measure(
    path: Path, images: Pixels, labels: NDArray[np.int64], training: int, quality: int | None
) -> list[Row]:
    """A row for every way to columns; the images lie in the archive at `path`, too."""
    codec = hvae_codec.load("cifar10", quality)
    sources: dict[str, Callable[[], Any]] = {
        "archive, not decoded": partial(ArchivePictures, path),
        "pictures before coding": partial(np.asarray, images),
        "pictures decoded from the archive": partial(decoded, path, codec),
    }
    ways: dict[str, Callable[[], NDArray[Any]]] = {}
    for source, given in sources.items():
        for layers in LAYERS:
            features = HVAEFeatures("cifar10", quality, layers=layers)
            ways[f"{' and '.join(layers)} of {source}"] = partial(columns_of, given, features)
        if source != "archive, not decoded":
            ways[f"pixels of {source}"] = partial(columns_of, given, None)
    codec.features(images[:2])  # the first call takes longer than the others
    progress = tqdm(ways.items(), desc="classifying", disable=None)
    return [{"features": name, **classify(way, labels, training)} for name, way in progress]


def plot(rows: list[Row], title: str, path: Path) -> None:
    """Accuracy and seconds of every way."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    names = [row["features"] for row in rows]
    left.barh(names, [100 * row["accuracy"] for row in rows], color="C0")
    left.set(xlabel="accuracy (%)", title=title)
    feature_seconds = np.array([row["feature_seconds"] for row in rows])
    right.barh(names, feature_seconds, color="C1", label="features")
    seconds = [row["classifier_seconds"] for row in rows]
    right.barh(names, seconds, left=feature_seconds, color="C2", label="classifier")
    right.set(xlabel="processor seconds", title="Time")
    right.legend()
    left.invert_yaxis()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, print, and write JSON and figure if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--training", type=int, default=4000, help="pictures to fit to")
    parser.add_argument("--test", type=int, default=1000, help="pictures to score")
    parser.add_argument("--quality", type=int, help="rung of the CIFAR-10 model")
    parser.add_argument("--json", type=Path, help="write the result here, and a figure beside it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train, test = (load_dataset("cifar10", split) for split in ("train", "test"))
    if train.labels is None or test.labels is None:
        raise SystemExit("the data have no labels")
    images = np.concatenate([train.images[: arguments.training], test.images[: arguments.test]])
    labels = np.concatenate([train.labels[: arguments.training], test.labels[: arguments.test]])
    codec = hvae_codec.load("cifar10", arguments.quality)
    with TemporaryDirectory() as directory, threadpool_limits(1):
        path = Path(directory) / "pictures.hvaa"
        pack(path, codec, images)
        size = path.stat().st_size
        rows = measure(path, images, labels, arguments.training, arguments.quality)
    title = f"{train.name}: {arguments.training} training, {arguments.test} test pictures"
    print(f"{title}; archive of quality {codec.info.quality}: {size / len(images):.1f} B a picture")
    print("accuracy  features s  classifier s  columns")
    for row in rows:
        print(
            f"{100 * row['accuracy']:7.1f} % {row['feature_seconds']:11.2f} "
            f"{row['classifier_seconds']:13.2f} {row['columns']:8}  {row['features']}"
        )
    result = {
        "data": title,
        "model": {"name": "cifar10", "quality": codec.info.quality, "id": codec.info.model_id},
        "archive_bytes_per_picture": size / len(images),
        "classifier": f"StandardScaler, LogisticRegression(C={REGULARISATION})",
        "seconds": "processor time, one thread",
        "rows": rows,
        "environment": environment("scikit-learn"),
    }
    if arguments.json is not None:
        write_json(arguments.json, result)
        plot(rows, title, arguments.json.with_suffix(".png"))


if __name__ == "__main__":
    main()

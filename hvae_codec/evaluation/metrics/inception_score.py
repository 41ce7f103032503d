"""The Inception Score and its two factors (Eq. 12; Salimans et al. 2016, Barratt and Sharma 2018).

The images are the likelihood's modes at latents drawn from the prior. For binary images that is
an image of zeros and ones, which is what their classifier was trained on, and not the decoder's
probabilities, which no image of the data set looks like.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hvae_codec.errors import EvaluationError
from hvae_codec.evaluation.image_classifiers import Classifier
from hvae_codec.models.hvae import HierarchicalVAE
from hvae_codec.models.inference import inference
from hvae_codec.utils.progress import progress


@dataclass(frozen=True)
class InceptionScore:
    """score = exp(E KL[p(y|x) || p(y)]) in [1, classes]; diversity = exp(H[p(y)]) and sharpness =
    exp(-E H[p(y|x)]), whose product it is. Each is computed apart from the others.
    """

    score: float
    diversity: float
    sharpness: float


def score_probabilities(log_probabilities: Tensor) -> InceptionScore:
    """Eq. 12 for log p(y|x), float64 [N, classes], of N images; -inf is allowed.

    Raises:
        EvaluationError: there is no image, or a row is not a distribution.
    """
    log_p = log_probabilities.double()
    p = log_p.exp()
    if log_p.ndim != 2 or len(log_p) == 0 or not bool(((p.sum(dim=1) - 1.0).abs() < 1e-6).all()):
        raise EvaluationError("each of one or more images needs a distribution over the classes")
    marginal = p.mean(dim=0)
    # 0 log 0 = 0, also where no image has any probability in a class.
    divergence = torch.where(p > 0, p * (log_p - marginal.log()), 0.0).sum(dim=1).mean()
    entropy = torch.special.entr(marginal).sum()
    conditional = torch.special.entr(p).sum(dim=1).mean()
    return InceptionScore(
        score=math.exp(divergence), diversity=math.exp(entropy), sharpness=math.exp(-conditional)
    )


@inference
def inception_score(
    model: HierarchicalVAE,
    classifier: Classifier,
    *,
    samples: int = 10_000,
    seed: int = 0,
    batch: int = 500,
) -> InceptionScore:
    """Inception Score of `samples` images drawn from the model with `seed`, `batch` at a time.

    Raises:
        EvaluationError: the classifier was trained on other images than the model draws, or
            `samples` or `batch` is below 1.
    """
    if samples < 1 or batch < 1:
        raise EvaluationError(f"samples {samples}, batch {batch}; at least 1 is allowed")
    drawn = tuple(model.spec.image_shape), type(model.likelihood)
    if drawn != (classifier.image_shape, type(classifier.likelihood)):
        raise EvaluationError(
            f"the classifier {classifier.arch} was trained on images {classifier.image_shape} of "
            f"{classifier.dataset}; {model.spec.name} draws others, {drawn[0]}"
        )
    # All at once: in parts, they would depend on the size of the parts.
    latents = model.sample_latents(samples, seed=seed)
    found = []
    with progress("sampling", total=samples, unit="images", leave=False) as bar:
        for start in range(0, samples, batch):
            output = model.decode([latent[start : start + batch] for latent in latents])
            pictures = model.likelihood.mode(output.float())
            found.append(classifier.log_probabilities(pictures).cpu())
            bar.update(len(pictures))
    return score_probabilities(torch.cat(found))

"""From a trained model to a codec: steps where the posterior has none, and the symbol tables."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from hvae_codec import ops
from hvae_codec.codec.entropy.tables import SymbolTables
from hvae_codec.codec.tiled.encoder_search import EncoderSearch, per_tile
from hvae_codec.codec.tiled.networks import Networks
from hvae_codec.models.hvae import HierarchicalVAE
from hvae_codec.models.inference import inference
from hvae_codec.models.likelihoods import dtype_of
from hvae_codec.utils.progress import progress

_BATCH = 1024


@inference
def fit_tables(model: HierarchicalVAE, images: NDArray[np.uint8]) -> SymbolTables:
    """Tables fitted to the symbols of the training images, uint8 [N, H, W, C], after rounding.

    A model with Gaussian posteriors first gets the steps of a uniform posterior of equal variance:
    sqrt(12) times the root mean square of sigma_q over the images.
    """
    model.eval()
    if model.posterior == "gaussian":
        _set_steps(model, images)
    layers: list[list[NDArray[np.int32]]] = [[] for _ in model.spec.latents]
    starts = range(0, len(images), _BATCH)
    for start in progress("fitting tables", starts, unit="batches", leave=False):
        x = _input(model, images[start : start + _BATCH])
        for layer, k in zip(layers, model.quantise(x), strict=True):
            layer.append(k.flatten(1).to(torch.int32).cpu().numpy())
    return SymbolTables.fit([np.concatenate(layer) for layer in layers])


def refit_tables(
    model: HierarchicalVAE,
    tables: SymbolTables,
    images: NDArray[np.uint8],
    *,
    beta: float,
    effort: int,
    rounds: int = 2,
) -> SymbolTables:
    """Tables fitted to the symbols that an encoder of `effort` chooses for the training images.

    The encoder chooses by the tables and the tables follow its choices: each round does both once,
    starting from `tables`. `beta` is the weight of the rate in training.
    """
    for _ in range(rounds):
        search = EncoderSearch(model, tables, beta)
        refine = partial(search.improve_part, effort, per_tile(effort, 1.0, [1] * len(images)))
        networks = Networks(model, tables)
        tables = SymbolTables.fit(networks.symbols(images, refine))
    return tables


def _set_steps(model: HierarchicalVAE, images: NDArray[np.uint8]) -> None:
    variances = [
        torch.zeros(latent.shape, dtype=torch.float64, device="cpu")
        for latent in model.spec.latents
    ]
    for start in range(0, len(images), _BATCH):
        posteriors = model.posteriors(_input(model, images[start : start + _BATCH]))
        for total, (_, raw) in zip(variances, posteriors, strict=True):
            assert raw is not None
            total += ops.sigma(raw).double().square().sum(dim=0).cpu()
    for index, total in enumerate(variances):
        model.set_step(index, (12.0 * total / len(images)).sqrt().float())


def _input(model: HierarchicalVAE, images: NDArray[np.uint8]) -> torch.Tensor:
    device = next(model.parameters()).device
    pictures = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    return model.likelihood.pixels(pictures, dtype_of(model))

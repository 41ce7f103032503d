"""The tables of a fully convolutional model: for each layer how its levels are found, and a table a
level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hvae_codec.codec.entropy.contexts import ContextIds, LayerContext
from hvae_codec.codec.entropy.tables import FloatArray, Int32Array, LayerTables
from hvae_codec.errors import CheckpointError

_ROLES = ("bias", "thresholds")
_FIELDS = ("low", "size", "frequency")


@dataclass(frozen=True, eq=False)
class ContextLayer:
    """One layer: the context of its symbols, and the table of each of its levels."""

    context: LayerContext
    tables: LayerTables

    def __post_init__(self) -> None:
        if self.tables.dims != self.context.level_count:
            raise CheckpointError(
                f"map tables: {self.tables.dims} tables for {self.context.level_count} levels"
            )

    @property
    def least_bits(self) -> float:
        """Information, in bits, that any symbol of this layer has at least."""
        return float(np.minimum.reduceat(self.tables.cost_bits, self.tables.offset).min())

    def clip(self, symbols: npt.NDArray[np.integer], levels: ContextIds) -> Int32Array:
        """Symbols brought into the tables of their levels; any one shape for both."""
        low, high = self.tables.low[levels], self.tables.high[levels]
        clipped: Int32Array = np.clip(symbols, low, high).astype(np.int32)
        return clipped

    def information_bits(self, symbols: npt.NDArray[np.integer], levels: ContextIds) -> FloatArray:
        """Ideal code length of each symbol, in bits, float64 in their shape.

        Raises ValueError for a symbol outside the table of its level.
        """
        index = symbols - self.tables.low[levels]
        if ((index < 0) | (index >= self.tables.size[levels])).any():
            raise ValueError("a symbol lies outside the support of its table; clip it first")
        bits: FloatArray = self.tables.cost_bits[self.tables.offset[levels] + index]
        return bits

    def draw(
        self, levels: ContextIds, generator: np.random.Generator, temperature: float
    ) -> Int32Array:
        """Random symbols from the tables of their levels, int32 in the levels' shape, their
        deviation scaled by `temperature` as that of a Gaussian would be.
        """
        symbols = np.empty(levels.shape, np.int32)
        for level in np.unique(levels):
            frequencies = self.tables.frequencies_of(int(level)).astype(np.float64)
            if temperature == 0.0:
                chances = (frequencies == frequencies.max()).astype(np.float64)
            else:
                with np.errstate(over="ignore"):  # colder than floats can say: the mode
                    logs = np.log(frequencies / frequencies.max()) / temperature / temperature
                chances = np.exp(logs)
            here = levels == level
            drawn = generator.choice(len(chances), size=int(here.sum()), p=chances / chances.sum())
            symbols[here] = self.tables.low[level] + drawn
        return symbols


class ContextTables:
    """The tables of a model: one `ContextLayer` per layer, top layer first."""

    def __init__(self, layers: Sequence[ContextLayer]) -> None:
        if len(layers) < 2:
            raise CheckpointError(f"map tables: {len(layers)} layers; there are at least 2")
        self.layers = tuple(layers)

    def to_tensors(self) -> dict[str, Int32Array]:
        """int32 arrays `tables.<layer>.<name>` as a checkpoint stores them: low, size, frequency,
        bias, thresholds, and weights.<stride> for the strides above.
        """
        tensors: dict[str, Int32Array] = {}
        for number, layer in enumerate(self.layers):
            head = f"tables.{number}."
            tensors |= {head + name: getattr(layer.tables, name) for name in _FIELDS}
            tensors |= {head + name: getattr(layer.context, name) for name in _ROLES}
            for stride, weights in layer.context.weights.items():
                tensors[f"{head}weights.{stride}"] = weights
        return tensors

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, npt.NDArray[np.generic]],
        latents: Sequence[tuple[int, int]],
    ) -> ContextTables:
        """The inverse of `to_tensors`, for layers of these (stride, channels), top first.

        Raises CheckpointError for anything else than its result.
        """
        left = dict(tensors)
        layers = []
        for number, (stride, channels) in enumerate(latents):
            head = f"tables.{number}."
            own = {name: _take(left, head + name) for name in (*_FIELDS, *_ROLES)}
            above: dict[int, int] = {}
            for coarser, count in latents[:number]:
                above[coarser] = above.get(coarser, 0) + count
            context = LayerContext(
                channels=channels,
                stride=stride,
                bias=own["bias"],
                weights={key: _take(left, f"{head}weights.{key}") for key in above},
                thresholds=own["thresholds"],
            )
            for key, count in above.items():
                context.check_inputs(key, count)
            tables = LayerTables(*(own[name] for name in _FIELDS))
            layers.append(ContextLayer(context, tables))
        if left:
            raise CheckpointError(f"map tables: unexpected tensors {sorted(left)[:6]}")
        return cls(layers)


def _take(tensors: dict[str, npt.NDArray[np.generic]], name: str) -> Int32Array:
    """A read-only copy of an int32 tensor, which is taken out."""
    array = tensors.pop(name, None)
    if not isinstance(array, np.ndarray) or array.dtype != np.int32:
        raise CheckpointError(f"map tables: {name} is missing or not int32")
    copy: Int32Array = array.astype(np.int32, copy=True)
    copy.setflags(write=False)
    return copy

"""One model from any kind of specification."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

from torch.overrides import TorchFunctionMode

from hvae_codec.errors import SpecError
from hvae_codec.models.fully_convolutional.model import ConvVAE
from hvae_codec.models.fully_convolutional.spec import ConvSpec
from hvae_codec.models.hvae import HierarchicalVAE, Posterior
from hvae_codec.models.integer.model import Arithmetic, IntegerConvVAE
from hvae_codec.models.spec import ModelSpec

Spec = ModelSpec | ConvSpec
Model = HierarchicalVAE | ConvVAE
"""What trains."""
ConvModel = ConvVAE | IntegerConvVAE
CodingModel = Model | IntegerConvVAE
"""What codes."""

Built = TypeVar("Built")


def build_model(spec: Spec, posterior: Posterior) -> Model:
    """The model of `spec` with fresh weights.

    Raises:
        SpecError: there is no such posterior, or the kind of model does not have it.
    """
    if isinstance(spec, ModelSpec):
        return HierarchicalVAE(spec, posterior)
    if posterior != "uniform":
        raise SpecError(f"{spec.name} has uniform posteriors only, not {posterior!r}")
    return ConvVAE(spec)


def build_coding_model(spec: Spec, posterior: Posterior, arithmetic: str) -> CodingModel:
    """The model of `spec` in an arithmetic, its weights to be loaded.

    Raises:
        SpecError: as `build_model`, or the kind of model does not have the arithmetic.
    """
    if arithmetic == "float":
        return build_model(spec, posterior)
    for known in get_args(Arithmetic):
        if arithmetic == known and isinstance(spec, ConvSpec) and posterior == "uniform":
            return IntegerConvVAE(spec, known)
    raise SpecError(
        f"{spec.name} with {posterior!r} posteriors has no arithmetic {arithmetic!r}; there is "
        f"float, and for fully convolutional models {' and '.join(get_args(Arithmetic))}"
    )


def arithmetic_of(model: CodingModel) -> str:
    """What defines the model's pixels: integers to the bit, or "float" up to a grey level."""
    return model.arithmetic if isinstance(model, IntegerConvVAE) else "float"


def unweighted(build: Callable[[], Built]) -> Built:
    """What `build` makes, its parameters undefined: all of them are to be assigned.

    Nothing is drawn from torch's generator. The device meta would do the same, but what models
    compute of it imports torch's compiler, for three seconds (findings/torch_meta_normal.sh).
    """
    with _NoInitialisation():
        return build()


class _NoInitialisation(TorchFunctionMode):
    """Within, the functions of torch.nn.init leave their tensors as they are."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def spec_from_json(data: dict[str, Any]) -> Spec:
    """The spec, of either kind, that its `to_json` described.

    Raises:
        SpecError: it is not a specification.
    """
    is_convolutional = isinstance(data, dict) and data.get("kind") == "maps"
    return ConvSpec.from_json(data) if is_convolutional else ModelSpec.from_json(data)

"""The shorter twin of a model: the same floats, the same parameters, and shorter indeed."""

import pytest
import torch
from torch import nn

from hvae_codec.models import HierarchicalVAE, get_spec
from hvae_codec.models.fast_inference import direct
from hvae_codec.models.zoo import SPECS

NAMES = [name for name in SPECS if "vae" in name]

pytestmark = pytest.mark.usefixtures("one_thread")


def make(name, posterior):
    torch.manual_seed(3)
    return HierarchicalVAE(get_spec(name), posterior).eval()


def everything(model, x):
    """All that a codec asks of a model."""
    symbols = model.quantise(x)
    latents = model.dequantise(symbols)
    moments = [each for pair in model.posteriors(x) for each in pair if each is not None]
    drawn = model.sample_latents(len(x), seed=7)
    return [
        *symbols,
        *latents,
        *moments,
        *drawn,
        *model.top_posterior(x),
        *model.dequantise(symbols[:1]),
        model.prior_mode(1, latents[:1]),
        model.decode(latents),
    ]


@pytest.mark.parametrize("posterior", ["gaussian", "uniform"])
@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_the_same_bit_for_bit(name, posterior):
    model = make(name, posterior)
    twin = direct(model)
    for batch in (1, 5):
        x = torch.rand(batch, *model.spec.image_shape).to(memory_format=torch.channels_last)
        for one, other in zip(everything(model, x), everything(twin, x), strict=True):
            assert torch.equal(one, other)
    with torch.autocast("cpu", torch.bfloat16):
        for one, other in zip(everything(model, x), everything(twin, x), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_no_module_is_called_and_no_weight_is_copied(name):
    model = make(name, "uniform")
    twin = direct(model)
    called = []
    for each in twin.modules():
        each.register_forward_hook(lambda module, *_: called.append(type(module)))
    assert [*map(id, twin.parameters())] == [*map(id, model.parameters())]
    x = torch.rand(2, *model.spec.image_shape)
    with torch.no_grad():
        (before, _), *_ = twin.posteriors(x)
        for parameter in model.parameters():
            parameter.mul_(1.5)
        (after, _), *_ = twin.posteriors(x)
        assert not torch.equal(before, after)
        assert torch.equal(after, model.posteriors(x)[0][0])
        twin.decode(twin.dequantise(twin.quantise(x)))
    assert called == []


def test_a_module_that_is_not_known_stays():
    model = make("ghvae-32x32x3", "uniform")
    model.decoder[0] = nn.Sequential(model.decoder[0], nn.Softplus())
    twin = direct(model)
    assert any(isinstance(each, nn.Softplus) for each in twin.modules())
    latents = [torch.randn(2, *latent.shape) for latent in model.spec.latents]
    with torch.inference_mode():
        assert torch.equal(twin.decode(latents), model.decode(latents))

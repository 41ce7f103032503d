"""M models as one: each slice is the model that it would be alone."""

import pytest
import torch

from hvae_codec.models import HierarchicalVAE, get_spec
from hvae_codec.models.stacked import StackedVAE

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS, BATCH = 3, 4


def pair(name, posterior):
    """A stack of models in double precision and the same models one by one."""
    spec = get_spec(name)
    torch.manual_seed(5)
    singles = [HierarchicalVAE(spec, posterior).double() for _ in range(MODELS)]
    stack = StackedVAE(spec, MODELS, posterior).double()
    stack.load_slices(0, singles)
    return stack, singles


def pictures(spec):
    return torch.rand(BATCH, *spec.image_shape, dtype=torch.float64).round(decimals=2)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("posterior", ["gaussian", "uniform"])
@pytest.mark.parametrize("name", ["ghvae-32x32x3", "ghvae-28x28x1", "lvae-32x32x3"])
def test_a_slice_computes_what_the_model_alone_computes(name, posterior, channels_last):
    first = 2
    stack, singles = pair(name, posterior)
    x = pictures(stack.spec)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    rounded = posterior == "uniform"
    whole = stack(x, seed=7, rounded=rounded, noise_index=first)
    loss = (whole.distortion_nats + whole.rates_nats.sum(1)).view(MODELS, BATCH).mean(1).sum()
    loss.backward()
    for index, single in enumerate(singles):
        alone = single(x, seed=7, rounded=rounded, noise_index=first + index)
        (alone.distortion_nats + alone.rates_nats.sum(1)).mean().backward()
        rows = slice(index * BATCH, (index + 1) * BATCH)
        torch.testing.assert_close(whole.distortion_nats[rows], alone.distortion_nats)
        torch.testing.assert_close(whole.rates_nats[rows], alone.rates_nats)
        torch.testing.assert_close(whole.output[rows], alone.output)
        own = dict(stack.named_parameters())
        for key, parameter in single.named_parameters():
            torch.testing.assert_close(own[key].grad[index], parameter.grad, rtol=1e-9, atol=1e-9)


def test_models_of_a_stack_see_different_noise():
    stack, _ = pair("ghvae-28x28x1", "gaussian")
    torch.manual_seed(1)
    same = HierarchicalVAE(stack.spec).double()
    stack.load_slices(0, [same] * MODELS)
    outcome = stack(pictures(stack.spec), seed=7)
    assert len(outcome.distortion_nats.unique()) == MODELS * BATCH


@pytest.mark.parametrize("name", ["ghvae-32x32x3", "ghvae-28x28x1"])
def test_a_slice_is_exported_as_it_was_loaded(name):
    stack, singles = pair(name, "uniform")
    for index, single in enumerate(singles):
        exported = stack.slice_state(index)
        expected = single.state_dict()
        assert exported.keys() == expected.keys()
        assert all(torch.equal(exported[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", ["ghvae-32x32x3", "ghvae-28x28x1"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_model_that_is_not_finite_leaves_the_others_as_they_are(name, precision):
    gradients = []
    for broken in (False, True):
        stack, _ = pair(name, "gaussian")
        stack.float()
        if broken:
            for parameter in stack.parameters():
                parameter.data[1] = torch.nan
        torch.manual_seed(2)
        x = pictures(stack.spec).float().to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            outcome = stack(x, seed=7)
        per_model = (outcome.distortion_nats + outcome.rates_nats.sum(1)).view(MODELS, BATCH)
        assert bool(per_model[1].isnan().all()) == broken
        per_model.mean(1).sum().backward()
        gradients.append([parameter.grad[[0, 2]] for parameter in stack.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))

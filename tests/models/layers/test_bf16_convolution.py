"""Convolutions in bfloat16: values and gradients against PyTorch's own in float64."""

import pytest
import torch
from torch import nn

from hvae_codec.models.layers import bf16_convolution
from hvae_codec.models.layers.bf16_convolution import Conv2d, ConvTranspose2d, weight_gradient

pytestmark = pytest.mark.usefixtures("one_thread")

GEOMETRIES = [(4, 2, 1), (4, 1, 0), (3, 1, 1)]


@pytest.mark.parametrize(("kernel", "stride", "padding"), GEOMETRIES)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("window_bytes", [1, 2**22], ids=["an image at a time", "all at once"])
def test_weight_gradient_is_autograds(
    kernel, stride, padding, transposed, window_bytes, monkeypatch
):
    monkeypatch.setattr(bf16_convolution, "WINDOW_BYTES", window_bytes)
    layer = (nn.ConvTranspose2d if transposed else nn.Conv2d)(5, 7, kernel, stride, padding)
    x = torch.randint(-3, 4, (3, 5, 9, 12)).float()
    output = layer(x)
    gradient = torch.randint(-3, 4, output.shape).float()
    (expected,) = torch.autograd.grad(output, layer.weight, gradient)
    small, large = (x, gradient) if transposed else (gradient, x)
    got = weight_gradient(small, large, kernel, stride, padding)
    assert torch.equal(got, expected), "sums of small integers are exact"


@pytest.mark.parametrize(("kernel", "stride", "padding"), GEOMETRIES)
@pytest.mark.parametrize("channels", [(32, 16), (3, 16)], ids=str)
@pytest.mark.parametrize("transposed", [False, True])
def test_training_in_bfloat16_is_near_float64(kernel, stride, padding, channels, transposed):
    torch.manual_seed(0)
    ours = (ConvTranspose2d if transposed else Conv2d)(*channels, kernel, stride, padding)
    theirs = (nn.ConvTranspose2d if transposed else nn.Conv2d)(*channels, kernel, stride, padding)
    theirs.load_state_dict(ours.state_dict())
    theirs.double()
    x = torch.randn(8, channels[0], 8, 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        got = ours(x)
    expected = theirs(x.double())
    assert got.dtype == torch.bfloat16
    gradient = torch.randn(expected.shape)
    found = torch.autograd.grad(got, [x, *ours.parameters()], gradient.bfloat16())
    right = torch.autograd.grad(expected, [x, *theirs.parameters()], gradient.double())
    for mine, other in zip([got, *found], [expected, *right], strict=True):
        error = (mine - other).norm() / other.norm()
        assert error < 2 * torch.finfo(torch.bfloat16).eps, error


@pytest.mark.parametrize("frozen", ["input", "weight", "bias"])
def test_what_needs_no_gradient_gets_none(frozen):
    layer = Conv2d(16, 16, 3, 1, 1, bias=frozen != "bias")
    layer.weight.requires_grad_(frozen != "weight")
    x = torch.randn(2, 16, 4, 4, requires_grad=frozen != "input")
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).sum().backward()
    assert (x.grad is None) == (frozen == "input")
    assert (layer.weight.grad is None) == (frozen == "weight")
    assert layer.bias is None or layer.bias.grad is not None


@pytest.mark.parametrize("transposed", [False, True])
def test_elsewhere_they_are_the_plain_layers(transposed):
    ours = (ConvTranspose2d if transposed else Conv2d)(16, 16, 4, 2, 1)
    theirs = (nn.ConvTranspose2d if transposed else nn.Conv2d)(16, 16, 4, 2, 1)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 16, 6, 6)
    assert torch.equal(ours(x), theirs(x)), "float32"
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(x), theirs(x)), "inference"

import pytest
import torch
from torch import nn

from hvae_codec.models.layers.subpixel import SubPixelTransposed


@pytest.mark.parametrize(("inputs", "outputs", "size"), [(32, 3, (16, 16)), (5, 1, (3, 7))])
def test_values_and_gradients_are_those_of_the_transposed_convolution(inputs, outputs, size):
    torch.manual_seed(0)
    ours = SubPixelTransposed(inputs, outputs).double()
    theirs = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, inputs, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, outputs, 2 * size[0], 2 * size[1], dtype=torch.float64)

    got, expected = ours(x), theirs(x)

    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    for mine, other in zip(
        torch.autograd.grad((got * weight).sum(), [x, *ours.parameters()]),
        torch.autograd.grad((expected * weight).sum(), [x, *theirs.parameters()]),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


def test_another_output_size_is_refused():
    with pytest.raises(ValueError, match="always twice"):
        SubPixelTransposed(2, 3)(torch.zeros(1, 2, 4, 4), output_size=[9, 9])

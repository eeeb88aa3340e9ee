"""What the tests of the GPU kernels share: a kernel on its device against the reference on the CPU."""

import torch

from nequip_like.nn.kernels.reference import ReferenceConvolution
from tests.nn.test_kernels import ours, values_and_derivatives

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def on_device(kernel, table, edges, device):
    """The kernel as a function of tensors on the CPU, with values and gradients going to and fro."""
    there = tuple(part.to(device) for part in edges)

    def convolve(*tensors):
        return ours(kernel, table, there)(*(tensor.to(device) for tensor in tensors)).cpu()

    return convolve


def expect_reference(kernel, table, tensors, edges, device):
    """Values, first and second derivatives are those of the reference."""
    expected = values_and_derivatives(ours(ReferenceConvolution(table), table, edges), tensors)
    actual = values_and_derivatives(on_device(kernel, table, edges, device), tensors)
    limit = TOLERANCE[tensors[0].dtype]
    for one, two in zip(actual, expected, strict=True):
        scale = float(two.abs().max()) or 1.0 if two.numel() else 1.0
        torch.testing.assert_close(one / scale, two / scale, rtol=limit, atol=limit)

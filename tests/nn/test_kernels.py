"""Every convolution kernel against the reference, and the reference against e3nn's TensorProduct."""

import contextlib

import pytest
import torch
from e3nn import o3
from e3nn.o3 import Irreps

from nequip_like.nn.features import from_flat, to_flat
from nequip_like.nn.kernels import convolution
from nequip_like.nn.kernels.batched import BatchedConvolution
from nequip_like.nn.kernels.paths import PathTable
from nequip_like.nn.kernels.reference import ReferenceConvolution

DTYPES = [torch.float32, torch.float64]
TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 2e-6}, torch.float64: {"rtol": 1e-12, "atol": 1e-13}}
CHANNELS = (5, 4, 3, 2, 1)  # uneven
ATOMS, EDGES = 5, 13


def table_of(l_max, parity):
    irreps = Irreps(
        [
            (count, (degree, p))
            for degree, count in enumerate(CHANNELS[: l_max + 1])
            for p in ((1, -1) if parity else ((-1) ** degree,))
        ]
    )
    return PathTable(irreps, l_max, irreps)


def inputs(table, dtype, edges=EDGES):
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(True)

    tensors = (
        random(ATOMS, table.features.dim),
        random(edges, (table.l_max + 1) ** 2),
        random(edges, table.weight_numel),
    )
    # Atom 3 receives nothing, atom 4 neither sends nor receives.
    centre = torch.randint(0, 3, (edges,), generator=generator).sort().values
    return tensors, (centre, torch.randint(0, 4, (edges,), generator=generator))


def ours(kernel, table, edges):
    return lambda flat, harmonics, weights: to_flat(kernel(from_flat(flat, table.features), harmonics, weights, *edges))


@contextlib.contextmanager
def default_dtype(dtype):
    """E3nn takes its coupling coefficients in the default dtype of the moment of construction."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(before)


def e3nn_convolution(table, edges):
    """The same sum with e3nn's TensorProduct in "uvu" mode, its outputs sorted by irrep, in float64."""
    outputs = Irreps([(table.features[path.source].mul, path.kind) for path in table.paths]).sort()
    instructions = [(path.source, path.degree, outputs.p[i], "uvu", True) for i, path in enumerate(table.paths)]
    harmonics = Irreps.spherical_harmonics(table.l_max)
    with default_dtype(torch.float64):
        product = o3.TensorProduct(
            table.features, harmonics, outputs.irreps, instructions, shared_weights=False, internal_weights=False
        )

    def convolve(flat, harmonics, weights):
        # e3nn keeps paths of one kind behind each other, ours are joined along the channels: the same flat row.
        messages = product(flat[edges[1]], harmonics, weights)
        return flat.new_zeros(len(flat), messages.shape[1]).index_add(0, edges[0], messages)

    return convolve


def values_and_derivatives(function, tensors):
    """Output, first derivatives of a sum of cubes, and second derivatives (as a loss of forces takes them)."""
    value = function(*tensors)
    first = torch.autograd.grad((value**2).sum(), tensors, create_graph=True)
    second = torch.autograd.grad(sum((part**2).sum() for part in first), tensors)
    return [part.detach() for part in (value, *first, *second)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("l_max", "parity"), [(degree, parity) for degree in range(5) for parity in (False, True)])
def test_batched_equals_reference(l_max, parity, dtype):
    table = table_of(l_max, parity)
    tensors, edges = inputs(table, dtype)
    expected = values_and_derivatives(ours(ReferenceConvolution(table), table, edges), tensors)
    actual = values_and_derivatives(ours(convolution("batched", table, dtype), table, edges), tensors)
    assert expected[0].shape == (ATOMS, table.irreps_out.dim)
    assert not expected[0][3:].any(), "atoms without neighbours receive nothing"
    for one, two in zip(actual, expected, strict=True):
        scale = float(two.abs().max())
        torch.testing.assert_close(one / scale, two / scale, **TOLERANCE[dtype])


@pytest.mark.parametrize(("l_max", "parity"), [(0, False), (0, True), (1, True), (2, True), (3, False), (4, False)])
def test_reference_equals_e3nn(l_max, parity):
    table = table_of(l_max, parity)
    tensors, edges = inputs(table, torch.float64)
    expected = values_and_derivatives(e3nn_convolution(table, edges), tensors)
    actual = values_and_derivatives(ours(ReferenceConvolution(table), table, edges), tensors)
    for one, two in zip(actual, expected, strict=True):
        scale = float(two.abs().max())
        torch.testing.assert_close(one / scale, two / scale, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("l_max", range(5))
def test_no_edges(l_max, dtype):
    table = table_of(l_max, True)
    tensors, edges = inputs(table, dtype, edges=0)
    for kernel in (ReferenceConvolution(table), BatchedConvolution(table, dtype)):
        value, *derivatives = values_and_derivatives(ours(kernel, table, edges), tensors)
        assert value.shape == (ATOMS, table.irreps_out.dim)
        assert value.dtype == dtype
        assert not value.any()
        assert not any(part.any() for part in derivatives)


@pytest.mark.parametrize("l_max", [1, 3])
def test_a_wrong_sign_is_noticed(l_max):
    table = table_of(l_max, True)
    tensors, edges = inputs(table, torch.float64)
    expected = ours(ReferenceConvolution(table), table, edges)(*tensors)
    kernel = BatchedConvolution(table, torch.float64)
    coupling = kernel.coupling_1
    row, column = (int(index) for index in coupling.nonzero()[0])
    coupling[row, column] *= -1
    with pytest.raises(AssertionError):
        torch.testing.assert_close(ours(kernel, table, edges)(*tensors), expected, **TOLERANCE[torch.float32])


def test_scalars_by_hand():
    """Without angular parts the convolution is the sum of products."""
    table = PathTable(Irreps("1x0e"), 0, Irreps("1x0e"))
    features = [torch.tensor([[[2.0]], [[3.0]]])]
    harmonics, weights = torch.ones(3, 1), torch.tensor([[10.0], [100.0], [1000.0]])
    centre, neighbour = torch.tensor([0, 0, 1]), torch.tensor([1, 0, 0])
    for kernel in (ReferenceConvolution(table), BatchedConvolution(table, torch.float32)):
        (result,) = kernel(features, harmonics, weights, centre, neighbour)
        assert result.flatten().tolist() == [30 + 200, 2000]


def test_vectors_by_hand():
    """A scalar times Y_1: sqrt(3) from the normalisation times 1/sqrt(3) from the coupling leaves w x Y_1."""
    table = PathTable(Irreps("1x0e"), 1, Irreps("1x1o"))
    features, harmonics = [torch.tensor([[[2.0]]])], torch.tensor([[1.0, 0.3, 0.4, 0.5]])
    for kernel in (ReferenceConvolution(table), BatchedConvolution(table, torch.float32)):
        (result,) = kernel(features, harmonics, torch.tensor([[7.0]]), torch.tensor([0]), torch.tensor([0]))
        assert result.flatten().tolist() == pytest.approx([4.2, 5.6, 7.0], abs=1e-5)


def test_path_table():
    table = PathTable(Irreps("4x0e + 3x1o"), 1, Irreps("0e + 1o"))
    paths = [(path.source, path.degree, str(path.kind)) for path in table.paths]
    assert paths == [(0, 0, "0e"), (0, 1, "1o"), (1, 0, "1o"), (1, 1, "0e")]
    assert table.weight_numel == 4 + 4 + 3 + 3
    assert table.irreps_out == Irreps("7x0e + 7x1o")
    assert not BatchedConvolution(table, torch.float32).state_dict(), "tables are not part of a checkpoint"

import math

import pytest
import torch
from e3nn.o3 import Irreps, spherical_harmonics

from nequip_like.nn.spherical_harmonics import SphericalHarmonics


def directions(rows):
    vectors = torch.randn(rows, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    axes = torch.cat([torch.eye(3, dtype=torch.float64), -torch.eye(3, dtype=torch.float64)])
    return torch.cat([axes, vectors / vectors.norm(dim=1, keepdim=True)])


@pytest.mark.parametrize("l_max", range(7))
def test_equal_to_e3nn(l_max):
    unit = directions(40)
    expected = spherical_harmonics(Irreps.spherical_harmonics(l_max), unit, normalize=False, normalization="component")
    torch.testing.assert_close(SphericalHarmonics(l_max)(unit), expected, rtol=0, atol=2e-13)


def test_by_hand():
    x, y, z = 0.36, -0.48, 0.8
    values = SphericalHarmonics(2)(torch.tensor([[x, y, z]], dtype=torch.float64))[0].tolist()
    root15 = math.sqrt(15)
    expected = [1, *(math.sqrt(3) * v for v in (x, y, z))]
    expected += [root15 * x * z, root15 * x * y, math.sqrt(5) * (y * y - (x * x + z * z) / 2), root15 * y * z]
    expected += [root15 / 2 * (z * z - x * x)]
    assert values == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("l_max", [0, 1, 4])
def test_normalisation_and_polar_axis(l_max):
    harmonics = SphericalHarmonics(l_max)
    values = harmonics(directions(10))
    for degree in range(l_max + 1):
        part = values[:, degree**2 : (degree + 1) ** 2]
        torch.testing.assert_close(part.square().sum(1), torch.full((16,), 2.0 * degree + 1, dtype=torch.float64))
        polar = [0.0] * (2 * degree + 1)
        polar[degree] = math.sqrt(2 * degree + 1)
        assert part[1].tolist() == pytest.approx(polar, abs=1e-14)


@pytest.mark.parametrize("l_max", range(5))
def test_no_edges(l_max):
    vectors = torch.zeros(0, 3, dtype=torch.float64, requires_grad=True)
    values = SphericalHarmonics(l_max)(vectors)
    assert values.shape == (0, (l_max + 1) ** 2)
    (gradient,) = torch.autograd.grad(values.sum() + vectors.sum(), vectors)
    assert gradient.shape == (0, 3)


def test_derivatives():
    vectors = directions(2)[-2:].requires_grad_(True)

    def function(r):
        return SphericalHarmonics(4)(r / r.norm(dim=1, keepdim=True))

    assert torch.autograd.gradcheck(function, (vectors,))
    assert torch.autograd.gradgradcheck(function, (vectors,))


def test_tables_are_not_in_the_checkpoint():
    assert not SphericalHarmonics(4).state_dict()


def test_derivatives_are_those_of_autograd():
    harmonics = SphericalHarmonics(5)
    vectors = torch.nn.functional.normalize(torch.randn(4, 3, dtype=torch.float64), dim=1).requires_grad_(True)
    values, slopes = harmonics.differentiate(vectors.detach())
    expected = harmonics(vectors)
    torch.testing.assert_close(values, expected.detach(), rtol=0, atol=1e-14)
    for component in range(36):
        (gradient,) = torch.autograd.grad(expected[:, component].sum(), vectors, retain_graph=True, allow_unused=True)
        gradient = torch.zeros_like(vectors) if gradient is None else gradient
        torch.testing.assert_close(slopes[:, component], gradient, rtol=0, atol=1e-12)
    assert [part.shape for part in SphericalHarmonics(0).differentiate(vectors.detach())] == [(4, 1), (4, 1, 3)]

"""Splines of the radial networks: by hand, against the networks themselves, and their gradients."""

import pytest
import torch

from nequip_like.nn.mlp import ScalarMLP
from nequip_like.nn.radial import PolynomialEnvelope, RadialEmbedding
from nequip_like.nn.radial_table import SplineTable


def splines(t):
    """The six uniform splines of fifth degree on an interval, shape (6, rows)."""
    cube = [
        sum((-1) ** k * comb * (t + 5 - n - k).clamp_min(0) ** 5 for k, comb in enumerate((1, 6, 15, 20, 15, 6, 1)))
        for n in range(6)
    ]
    return torch.stack(cube) / 120


def value(table, coefficients, x):
    place = x * table.intervals
    interval = place.long()
    weights = splines(place - interval)
    return sum(weights[n].unsqueeze(1) * coefficients[interval + n] for n in range(6))


def test_places():
    table = SplineTable(10)
    assert table.places[6].item() == 0.0
    assert table.places[-7].item() == 1.0
    assert len(table.places) == 11 + 2 * 6


def test_polynomials_are_exact():
    """A spline of fifth degree holds polynomials of fifth degree."""
    table = SplineTable(8)
    x = torch.linspace(0, 0.999, 77, dtype=torch.float64)

    def polynomials(x):
        return torch.stack([torch.ones_like(x), x, x**3 - x, 3 * x**5 - 2 * x**4 + x**2], dim=1)

    coefficients = table.coefficients(polynomials(table.places))
    assert coefficients.shape == (13, 4)
    torch.testing.assert_close(value(table, coefficients, x), polynomials(x), rtol=0, atol=1e-13)


def networks(*depths):
    generator = torch.random.fork_rng(devices=[])
    with generator:
        torch.manual_seed(0)
        return [ScalarMLP(8, 24, depth, 64, "silu", torch.float64) for depth in depths]


@pytest.mark.parametrize(("intervals", "limit"), [(160, 3e-8), (1536, 1e-13)])
@pytest.mark.parametrize("p", [2.0, 5.5, 6.0])
def test_error_of_radial_networks(p, intervals, limit):
    """Relative to the largest weight, with 20 intervals for each Bessel function (float32) and 192 (float64)."""
    embedding = RadialEmbedding(8, False, PolynomialEnvelope(p), 5.0, torch.float64)
    table, nets = SplineTable(intervals), networks(2, 2, 1, 0)
    basis = embedding.continued(table.places)
    x = torch.linspace(0.1, 0.9999, 3001, dtype=torch.float64)
    with torch.no_grad():
        for network in nets:
            expected = network(embedding(x))
            assert (
                float(
                    (value(table, table.coefficients(network(basis)), x) - expected).abs().max() / expected.abs().max()
                )
                < limit
            )

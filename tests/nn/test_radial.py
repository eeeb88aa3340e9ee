import math

import pytest
import torch

from nequip_like.errors import ConfigError
from nequip_like.nn.radial import PolynomialEnvelope, RadialEmbedding, pair_cutoff_table

TYPES = ["H", "C", "O"]


def test_envelope_by_hand():
    x = torch.tensor([0.0, 0.5, 1.0, 1.0000001, 3.0], dtype=torch.float64)
    assert PolynomialEnvelope(2)(x).tolist() == [1.0, 1 - 6 / 4 + 8 / 8 - 3 / 16, 0.0, 0.0, 0.0]
    assert PolynomialEnvelope(6)(x).tolist()[1] == 1 - 28 / 64 + 48 / 128 - 21 / 256


@pytest.mark.parametrize("p", [2, 3.5, 6, 12])
def test_two_derivatives_vanish_at_the_cutoff(p):
    x = torch.tensor([1 - 1e-5], dtype=torch.float64, requires_grad=True)
    value = PolynomialEnvelope(p)(x)
    (first,) = torch.autograd.grad(value, x, create_graph=True)
    (second,) = torch.autograd.grad(first, x)
    # u = p(p+1)(p+2)/6 (1-x)^3 + ...
    third = p * (p + 1) * (p + 2)
    assert value.item() == pytest.approx(third / 6 * 1e-15, abs=1e-13)
    assert first.item() == pytest.approx(-third / 2 * 1e-10, rel=1e-2)
    assert second.item() == pytest.approx(third * 1e-5, rel=1e-2)


def test_envelope_behind_the_cutoff_has_no_gradient():
    x = torch.tensor([1.0, 1.5, 40.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(PolynomialEnvelope()(x).sum(), x)
    assert gradient.tolist() == [0.0, 0.0, 0.0]


def test_envelope_needs_an_exponent_of_two():
    with pytest.raises(ConfigError, match=r"polynomial_cutoff_p is 1\.9"):
        PolynomialEnvelope(1.9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bessel_by_hand(dtype):
    r_max, distance = 4.0, 1.3
    embedding = RadialEmbedding(3, False, PolynomialEnvelope(), r_max, dtype)
    values = embedding(torch.tensor([distance / r_max], dtype=torch.float64))
    x = distance / r_max
    u = 1 - 28 * x**6 + 48 * x**7 - 21 * x**8
    expected = [2 / r_max * math.sin(n * math.pi * x) / distance * u for n in (1, 2, 3)]
    assert values.dtype == dtype
    assert values[0].tolist() == pytest.approx(expected, rel=1e-14 if dtype == torch.float64 else 1e-7)


def test_bessel_at_zero_cutoff_and_behind():
    embedding = RadialEmbedding(2, False, PolynomialEnvelope(), 2.0, torch.float64)
    values = embedding(torch.tensor([0.0, 1.0, 1.7], dtype=torch.float64))
    # sin(n pi x) / (pi x) -> n
    assert values[0].tolist() == pytest.approx([2 * math.pi / 4, 4 * math.pi / 4], rel=1e-15)
    assert values[1].tolist() == [0.0, 0.0]
    assert values[2].tolist() == [0.0, 0.0]
    assert embedding(torch.zeros(0, dtype=torch.float64)).shape == (0, 2)


def test_trainable_frequencies():
    fixed = RadialEmbedding(4, False, PolynomialEnvelope(), 4.0, torch.float32)
    trained = RadialEmbedding(4, True, PolynomialEnvelope(), 4.0, torch.float32)
    assert not list(fixed.parameters())
    assert list(dict(trained.named_parameters())) == ["frequencies"]
    assert trained.frequencies.tolist() == [1, 2, 3, 4]
    assert torch.autograd.gradcheck(
        lambda w: torch.func.functional_call(
            RadialEmbedding(4, True, PolynomialEnvelope(), 4.0, torch.float64),
            {"frequencies": w},
            (torch.tensor([0.3, 0.8], dtype=torch.float64),),
        ),
        (trained.frequencies.detach().clone().requires_grad_(True),),
    )


def test_pair_cutoff_table():
    assert pair_cutoff_table(None, TYPES, 5).tolist() == [[5.0] * 3] * 3
    table = pair_cutoff_table({"H": 2, "C": {"O": 3.5, "C": 5.0}}, TYPES, 5.0)
    # rows are centres; pairs need not be symmetric
    assert table.tolist() == [[2, 2, 2], [5, 5, 3.5], [5, 5, 5]]
    assert table.dtype == torch.float64


@pytest.mark.parametrize(
    ("cutoffs", "message"),
    [
        ({"N": 2.0}, "names 'N'"),
        ({"H": {"N": 2.0}}, "names 'N'"),
        ({"H": 5.1}, r"of H-H is 5\.1"),
        ({"H": {"O": 0.0}}, r"of H-O is 0\.0"),
        ({"C": -1}, "of C-H is -1"),
        ({"C": {"O": "3"}}, "of C-O is 3"),
        ({"C": {"O": True}}, "of C-O is True"),
        ({"C": {"O": float("nan")}}, "of C-O is nan"),
    ],
)
def test_pair_cutoff_errors(cutoffs, message):
    with pytest.raises(ConfigError, match=message):
        pair_cutoff_table(cutoffs, TYPES, 5.0)


def test_continued_beyond_its_ends():
    """For splines: the same inside, smooth through 0 and through the cutoff, where the function itself ends at zero."""
    embedding = RadialEmbedding(3, False, PolynomialEnvelope(5.5), 4.0, torch.float64)
    inside = torch.linspace(0.0, 0.999, 40, dtype=torch.float64)
    assert torch.equal(embedding.continued(inside), embedding(inside))
    ends = torch.tensor([-0.02, -0.01, 0.0, 0.01, 0.02], dtype=torch.float64)
    below = embedding.continued(ends)
    torch.testing.assert_close(below, below.flip(0), rtol=1e-9, atol=1e-9)
    above = embedding.continued(1.0 + ends)
    assert bool((above[3:].abs() > 0).all()), "not cut"
    assert float(above[2].abs().max()) < 1e-12

"""Warm-up factors at the steps 1, 2, half the period, the period and twice the period, against the formulas."""

import math

import pytest

from nequip_like.errors import ConfigError
from nequip_like.optim.schedules import warmup

PERIOD = 790


@pytest.mark.parametrize(
    ("t", "expected"), [(1, 1 / 790), (2, 2 / 790), (395, 0.5), (789, 789 / 790), (790, 1.0), (1580, 1.0)]
)
def test_linear(t, expected):
    assert warmup.warm_up_linearly(t, PERIOD) == expected
    assert warmup.factor("linear", PERIOD, None)(t) == expected


@pytest.mark.parametrize(
    ("t", "expected"),
    [
        (1, 0.002528443657580594),  # 1 - exp(-2/790)
        (2, 0.005050494287831629),
        (395, 0.6321205588285577),  # 1 - 1/e
        (790, 0.8646647167633873),  # 1 - 1/e^2
        (1580, 0.9816843611112658),  # 1 - 1/e^4
    ],
)
def test_exponential(t, expected):
    assert warmup.warm_up_exponentially(t, PERIOD) == pytest.approx(expected, rel=1e-12)
    assert warmup.warm_up_exponentially(t, PERIOD) == pytest.approx(1 - math.exp(-2 * t / PERIOD), rel=1e-12)
    assert warmup.factor("exponential", PERIOD, 0.999)(t) == warmup.warm_up_exponentially(t, PERIOD)


def test_untuned_period_is_that_of_floating_point():
    """2 / (1 - 0.999) is a little below 2000 in double precision: the period is 1999, as in other programs."""
    assert warmup.untuned_period(0.999) == 1999
    assert warmup.untuned_period(0.99) == 199
    assert warmup.untuned_period(0.95) == 39
    assert warmup.untuned_period(0.5) == 4


@pytest.mark.parametrize("t", [1, 2, 999, 1999, 3998])
def test_untuned(t):
    assert warmup.factor("untuned_linear", None, 0.999)(t) == min(1, t / 1999)
    assert warmup.factor("untuned_exponential", None, 0.999)(t) == warmup.warm_up_exponentially(t, 1999)


def radam_by_hand(t: int, beta2: float) -> float:
    """The formula once more, from the definition, with the first step sought by brute force."""
    end = 2 / (1 - beta2) - 1
    rho = [end - 2 * k * beta2**k / (1 - beta2**k) for k in range(1, 5000)]
    delta = next(k for k, value in enumerate(rho, 1) if value > 4)
    r = rho[t + delta - 2]
    return math.sqrt((r - 4) * (r - 2) * end / ((end - 4) * (end - 2) * r))


@pytest.mark.parametrize("beta2", [0.61, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("t", [1, 2, 100, 1000, 2000])
def test_radam(beta2, t):
    assert warmup.factor("radam", None, beta2)(t) == pytest.approx(radam_by_hand(t, beta2), rel=1e-12)


def test_radam_begins_where_rho_exceeds_4():
    """For 0.999 rho is 3.997 at 4 and 4.996 at 5; the first factor is small and the last is 1."""
    assert warmup._find_first_reduced(0.999) == 5
    factors = [warmup.radam(t, 0.999) for t in (1, 10, 100, 1000, 10000)]
    assert factors == sorted(factors)
    assert factors[0] == pytest.approx(0.01731150316637956, rel=1e-11)  # with 60 digits
    assert factors[-1] == pytest.approx(1.0, abs=1e-3)


def test_none():
    assert [warmup.factor(None, None, None)(t) for t in (1, 2, 1000)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("kind", ["untuned_linear", "untuned_exponential", "radam"])
def test_without_betas(kind):
    with pytest.raises(ConfigError, match=f"warmup is '{kind}', .* the optimizer has no betas\n.*warmup_length"):
        warmup.factor(kind, None, None)


@pytest.mark.parametrize(
    ("kind", "beta2", "least"), [("radam", 0.6, "0.6"), ("radam", 0.3, "0.6"), ("untuned_linear", 0.0, "0")]
)
def test_beta2_out_of_range(kind, beta2, least):
    with pytest.raises(ConfigError, match=f"beta2 is {beta2}\n.*above {least} and below 1"):
        warmup.factor(kind, None, beta2)


def test_without_length():
    with pytest.raises(ConfigError, match="warmup_length is not given"):
        warmup.factor("linear", None, 0.999)

"""Power laws."""

import pytest

from nequip_like.auto.outlook import PowerLaw, describe_outlook


def test_line_of_least_squares() -> None:
    law = PowerLaw.through([(1.0, 8.0), (2.0, 4.0), (4.0, 2.0)])
    assert law is not None
    assert (law.scale, law.exponent) == pytest.approx((8.0, 1.0))
    # slope of (0, 0), (1, 0), (2, 3) in units of log 2: 3/2
    law = PowerLaw.through([(1.0, 8.0), (2.0, 8.0), (4.0, 1.0)])
    assert law is not None
    assert law.exponent == pytest.approx(1.5)


def test_one_amount_is_no_line() -> None:
    assert PowerLaw.through([]) is None
    assert PowerLaw.through([(3.0, 1.0), (3.0, 2.0)]) is None


def test_more_cannot_harm() -> None:
    assert PowerLaw(1.0, -0.3).factor(2.0) == 1.0


def test_words() -> None:
    assert describe_outlook(PowerLaw(1.0, 1.0), None) == [
        "twice the time would bring the validation error to some 50% of it (from trials of different length)"
    ]

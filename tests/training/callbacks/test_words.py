"""Roots are taken of means, last of all."""

import math

import pytest

from nequip_like.training.callbacks.words import root_name, take_roots


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("forces_mse", "forces_rmse"),
        ("forces_mse_H", "forces_rmse_H"),
        ("forces_rmse", "forces_rmse"),
        ("forces_msep", "forces_msep"),
        ("weighted_sum", "weighted_sum"),
    ],
)
def test_names(name, root):
    assert root_name(name) == root


def test_roots():
    assert take_roots({"forces_mse": 5.0, "weighted_sum": 4.0}) == {"forces_rmse": 5.0**0.5, "weighted_sum": 4.0}


def test_a_root_that_is_there_already_stays():
    assert take_roots({"forces_mse": 4.0, "forces_rmse": 3.0}) == {"forces_rmse": 3.0}


def test_no_value_has_no_root():
    assert math.isnan(take_roots({"forces_mse": math.nan})["forces_rmse"])

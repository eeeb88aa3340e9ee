"""A module that is evaluated for a moment."""

from __future__ import annotations

import pytest
from torch import nn

from nequip_like.nn.evaluation_mode import evaluation_mode


def test_each_module_has_its_own_mode_again():
    """Also one that was in another mode than the rest, which ``train()`` would forget."""
    layers = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Linear(1, 1), nn.Dropout().eval()))
    before = [module.training for module in layers.modules()]
    assert before == [True, True, True, True, False]

    def fail() -> None:
        with evaluation_mode(layers):
            assert not any(module.training for module in layers.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [module.training for module in layers.modules()] == before


def test_a_module_that_is_evaluated_stays_so():
    layer = nn.Linear(1, 1).eval()
    with evaluation_mode(layer):
        assert not layer.training
    assert not layer.training

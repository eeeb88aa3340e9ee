import pytest
import torch

from nequip_like.errors import ConfigError
from nequip_like.nn.scale_shift import PerTypeScaleShift, per_type_values

TYPES = ["H", "C", "O"]


def test_by_hand():
    layer = PerTypeScaleShift(TYPES, {"O": 3.0, "H": 1.0, "C": 2.0}, {"C": 20.0, "O": 30.0, "H": 10.0})
    result = layer(torch.tensor([0.5, 0.25, -1.0], dtype=torch.float32), torch.tensor([2, 0, 1]))
    assert result.dtype == torch.float64
    assert result.tolist() == [31.5, 10.25, 18.0]
    assert not list(layer.parameters())
    assert sorted(layer.state_dict()) == ["scales", "shifts"]


def test_float64_shift_survives_a_float32_network():
    shift = -2041.3912345678901
    layer = PerTypeScaleShift(["O"], None, shift)
    assert layer(torch.zeros(1), torch.tensor([0])).item() == shift


def test_defaults_and_numbers():
    layer = PerTypeScaleShift(TYPES, None, None)
    assert layer(torch.tensor([1.5, 2.5]), torch.tensor([0, 2])).tolist() == [1.5, 2.5]
    layer = PerTypeScaleShift(TYPES, 2, -1.0)
    assert layer(torch.tensor([1.5, 2.5]), torch.tensor([0, 2])).tolist() == [2.0, 4.0]


def test_trainable():
    layer = PerTypeScaleShift(TYPES, 2.0, 1.0, scales_trainable=True, shifts_trainable=True)
    assert sorted(dict(layer.named_parameters())) == ["scales", "shifts"]
    layer(torch.tensor([3.0, 4.0, 5.0]), torch.tensor([0, 0, 2])).sum().backward()
    assert layer.scales.grad.tolist() == [7.0, 0.0, 5.0]
    assert layer.shifts.grad.tolist() == [2.0, 0.0, 1.0]
    assert layer.scales.dtype == torch.float64
    only_shifts = PerTypeScaleShift(TYPES, 2.0, 1.0, shifts_trainable=True)
    assert list(dict(only_shifts.named_parameters())) == ["shifts"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"H": 1.0, "C": 2.0}, "differ in O"),
        ({"H": 1.0, "C": 2.0, "O": 3.0, "N": 4.0}, "differ in N"),
        ([1.0, 2.0, 3.0], r"energies is \[1.0, 2.0, 3.0\]"),
        ("auto", "energies is 'auto'"),
        (True, "energies is True"),
        (float("nan"), "not finite"),
        ({"H": 1.0, "C": float("inf"), "O": 3.0}, "not finite"),
    ],
)
def test_errors(values, message):
    with pytest.raises(ConfigError, match=message):
        per_type_values("energies", values, TYPES, 0.0)

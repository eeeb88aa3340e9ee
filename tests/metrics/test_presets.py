"""Names, coefficients and refusals of the ready-made losses and metrics."""

from __future__ import annotations

import pytest
import torch

from nequip_like.data.fields import Graph
from nequip_like.errors import ConfigError
from nequip_like.metrics import presets
from nequip_like.metrics.elementwise import MeanAbsoluteError
from nequip_like.metrics.manager import MetricsManager


def names(manager: MetricsManager) -> list[str]:
    return [row[0] for row in manager.describe()]


def used(manager: MetricsManager) -> dict[str, float]:
    return {name: coeff for name, coeff in manager.coeffs.items() if coeff}


def triple(*quantities: str) -> list[str]:
    return [f"{quantity}_{metric}" for quantity in quantities for metric in ("rmse", "mae", "maxabserr")]


@pytest.mark.parametrize(
    ("manager", "expected"),
    [
        (presets.EnergyForceLoss(), ["per_atom_energy_mse", "forces_mse"]),
        (presets.EnergyForceLoss(per_atom_energy=False), ["total_energy_mse", "forces_mse"]),
        (presets.EnergyForceStressLoss(), ["per_atom_energy_mse", "forces_mse", "stress_mse"]),
        (presets.EnergyOnlyLoss(), ["per_atom_energy_mse"]),
        (presets.EnergyForceMetrics(), triple("total_energy", "per_atom_energy", "forces")),
        (presets.EnergyForceStressMetrics(), triple("total_energy", "per_atom_energy", "forces", "stress")),
        (presets.EnergyOnlyMetrics(), triple("total_energy", "per_atom_energy")),
        (presets.ForceOnlyLoss(), ["forces_mse"]),
        (presets.ForceOnlyLoss(function="stratified_huber", average="frames"), ["forces_stratified_huber"]),
        (presets.ForceOnlyMetrics(), triple("forces")),
    ],
)
def test_names(manager: MetricsManager, expected: list[str]) -> None:
    assert names(manager) == expected


@pytest.mark.parametrize(
    ("manager", "expected"),
    [
        (presets.EnergyForceLoss(), {"per_atom_energy_mse": 0.5, "forces_mse": 0.5}),
        (presets.EnergyForceLoss({"total_energy": 3, "forces": 1}), {"per_atom_energy_mse": 0.75, "forces_mse": 0.25}),
        (presets.EnergyForceLoss({"total_energy": 3}), {"per_atom_energy_mse": 1.0}),
        (
            presets.EnergyForceStressLoss({"total_energy": 1, "forces": 1, "stress": 2}),
            {"per_atom_energy_mse": 0.25, "forces_mse": 0.25, "stress_mse": 0.5},
        ),
        (presets.EnergyOnlyLoss(), {"per_atom_energy_mse": 1.0}),
        (presets.EnergyForceMetrics(), {"total_energy_rmse": 0.5, "forces_rmse": 0.5}),
        (presets.EnergyForceMetrics({"forces_mae": 2}), {"forces_mae": 1.0}),
        (
            presets.EnergyForceStressMetrics(),
            {"total_energy_rmse": 1 / 3, "forces_rmse": 1 / 3, "stress_rmse": 1 / 3},
        ),
        (presets.EnergyOnlyMetrics(), {"total_energy_rmse": 1.0}),
        (presets.ForceOnlyLoss(), {"forces_mse": 1.0}),
        (presets.ForceOnlyMetrics(), {"forces_rmse": 1.0}),
        (presets.EnergyOnlyMetrics({}), {}),
    ],
)
def test_coefficients(manager: MetricsManager, expected: dict[str, float]) -> None:
    assert used(manager) == pytest.approx(expected)


def test_wrong_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'forces'"):
        presets.EnergyForceLoss(coeffs={"total_energy": 1, "force": 1})
    with pytest.raises(ConfigError, match="'stress'"):
        presets.EnergyForceLoss(coeffs={"total_energy": 1, "forces": 1, "stress": 100})
    with pytest.raises(ConfigError, match="did you mean 'forces_rmse'"):
        presets.EnergyForceMetrics(coeffs={"force_rmse": 1})
    with pytest.raises(ConfigError, match="did you mean 'stress'"):
        presets.EnergyForceStressLoss(ignore_nan={"stres": True})


@pytest.mark.parametrize("coeffs", [{}, {"forces": None}, {"forces": 0.0, "total_energy": 0}])
def test_a_loss_without_coefficients_is_refused(coeffs: dict[str, float | None]) -> None:
    with pytest.raises(ConfigError, match="no coefficient"):
        presets.EnergyForceLoss(coeffs=coeffs)


def test_ignore_nan() -> None:
    def settings(manager: MetricsManager) -> list[bool]:
        return [term.ignore_nan for term in manager.terms]

    assert settings(presets.EnergyForceStressLoss()) == [True, True, True]
    assert settings(presets.EnergyForceStressLoss(ignore_nan=False)) == [False, False, False]
    assert settings(presets.EnergyForceStressLoss(ignore_nan={"forces": False})) == [True, False, True]
    assert settings(presets.EnergyOnlyMetrics(ignore_nan={"total_energy": False})) == [False] * 6


def water() -> tuple[Graph, Graph]:
    """H2O, with errors of the forces of 1 (H), 1 (H) and 4 (O) eV/Angstrom, and of the energy of 3 eV."""
    target: Graph = {
        "pos": torch.zeros(3, 3),
        "num_atoms": torch.tensor([3]),
        "atom_types": torch.tensor([0, 0, 1]),
        "total_energy": torch.zeros(1, 1, dtype=torch.float64),
        "forces": torch.zeros(3, 3, dtype=torch.float64),
    }
    forces = torch.tensor([1.0, 1.0, 4.0], dtype=torch.float64)[:, None].expand(3, 3)
    return target | {"total_energy": target["total_energy"] + 3, "forces": forces}, target


def test_per_type_forces_coeffs() -> None:
    def forces_mse(**kwargs: object) -> float:
        return presets.EnergyForceLoss(type_names=["H", "O"], **kwargs).step(*water())["forces_mse"].item()

    # Mean squared errors: H 1, O 16; two H for each O.
    assert forces_mse() == pytest.approx((2 * 1 + 16) / 3)
    assert forces_mse(per_type_forces_coeffs={"H": 1, "O": 1}) == pytest.approx((1 + 16) / 2)
    assert forces_mse(per_type_forces_coeffs={"H": 3, "O": 1}) == pytest.approx((3 + 16) / 4)
    assert forces_mse(per_type_forces_coeffs={"H": 30, "O": 10}) == pytest.approx((3 + 16) / 4)
    values = presets.EnergyForceStressLoss(
        coeffs={"total_energy": 1, "forces": 1},
        type_names=["H", "O"],
        per_type_forces_coeffs={"O": 1, "H": 3},
    )
    with_stress = [graph | {"stress": torch.zeros(1, 3, 3)} for graph in water()]
    step = values.step(*with_stress)
    assert step["forces_mse_H"].item() == 1.0
    assert step["forces_mse_O"].item() == 16.0
    assert step["per_atom_energy_mse"].item() == 1.0
    assert step["weighted_sum"].item() == pytest.approx((1 + 19 / 4) / 2)


@pytest.mark.parametrize("coeffs", [{"H": 1}, {"H": 1, "O": 0}, {"H": 1, "O": -1}, {"H": 1, "O": 1, "C": 1}])
def test_wrong_per_type_coefficients(coeffs: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        presets.EnergyForceLoss(type_names=["H", "O"], per_type_forces_coeffs=coeffs)


def test_per_type_needs_type_names() -> None:
    with pytest.raises(ConfigError, match="type_names"):
        presets.EnergyForceLoss(per_type_forces_coeffs={"H": 1})


def test_extra_metrics() -> None:
    extra = {"name": "per_type_forces_mae", "field": "forces", "metric": MeanAbsoluteError, "per_type": True}
    for preset in (presets.EnergyForceLoss, presets.EnergyForceMetrics):
        manager = preset(extra_metrics=[extra], type_names=["H", "O"])
        step = manager.step(*water())
        assert step["per_type_forces_mae"].item() == 2.5
        assert step["per_type_forces_mae_H"].item() == 1.0
        assert step["per_type_forces_mae_O"].item() == 4.0
        assert manager.coeffs["per_type_forces_mae"] is None
    only_energy = presets.EnergyOnlyLoss(
        extra_metrics=[{"field": "total_energy", "metric": MeanAbsoluteError, "coeff": 3}]
    )
    assert used(only_energy) == {"per_atom_energy_mse": 0.25, "E_mae": 0.75}

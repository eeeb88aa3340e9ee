"""Losses by one word: values by hand, names, arguments, and absolute weights."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nequip_like.data.dataset import load_dataset
from nequip_like.data.fields import FIELDS, LABELS, Field, Graph
from nequip_like.data.graph import collate
from nequip_like.errors import ConfigError
from nequip_like.metrics import (
    EnergyForceLoss,
    EnergyForceStressLoss,
    EnergyOnlyLoss,
    FieldLoss,
    MetricsManager,
    SmoothL1Loss,
    StratifiedHuberForceLoss,
)

EXACT = 1e-12


def tensor(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def frames(sizes: list[int], energy: list[float], force: list[list[float]]) -> tuple[Graph, Graph]:
    """Structures with labels of zero; errors of the energies, and of the forces of each atom."""
    atoms = sum(sizes)
    target: Graph = {
        "pos": torch.zeros(atoms, 3),
        "num_atoms": torch.tensor(sizes),
        "batch": torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
        "atom_types": torch.zeros(atoms, dtype=torch.int64),
        "total_energy": torch.zeros(len(sizes), 1, dtype=torch.float64),
        "forces": torch.zeros(atoms, 3, dtype=torch.float64),
    }
    prediction = target | {"total_energy": tensor(*energy)[:, None], "forces": tensor(*force)}
    return prediction, target


def values(manager: MetricsManager, pair: tuple[Graph, Graph]) -> dict[str, float]:
    return {name: value.item() for name, value in manager.step(*pair).items()}


@pytest.mark.parametrize(
    ("word", "short", "expected"),
    [
        ("smooth_l1", "smooth_l1", 0.8125),
        ("SmoothL1", "smooth_l1", 0.8125),
        ("mse", "mse", 2.125),
        ("L2", "mse", 2.125),
        ("MAE", "mae", 1.25),
        ("l1", "mae", 1.25),
        ("rmse", "rmse", math.sqrt(2.125)),
        ("huber", "huber", (0.01 * (0.5 - 0.005) + 0.01 * (2 - 0.005)) / 2),
    ],
)
def test_two_errors_by_hand(word: str, short: str, expected: float) -> None:
    """Errors of 0.5 and 2, as the specification has them."""
    manager = EnergyOnlyLoss(per_atom_energy=False, function=word)
    step = values(manager, frames([1, 1], [0.5, -2.0], [[0.0] * 3] * 2))
    assert step == pytest.approx({f"total_energy_{short}": expected, "weighted_sum": expected}, rel=EXACT)


def test_smooth_l1_is_that_of_torch() -> None:
    error = torch.linspace(-3, 3, 61, dtype=torch.float64)
    for beta in (1.0, 0.25):
        metric = SmoothL1Loss(beta=beta)
        metric.update(error, torch.zeros_like(error))
        expected = torch.nn.SmoothL1Loss(beta=beta)(error, torch.zeros_like(error))
        assert metric.compute().item() == pytest.approx(expected.item(), rel=EXACT)


def test_function_by_label() -> None:
    pair = frames([2], [0.4], [[1.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    manager = EnergyForceLoss(function={"total_energy": "huber", "forces": "mae"}, delta=0.1)
    expected = {"per_atom_energy_huber": 0.1 * (0.2 - 0.05), "forces_mae": 4 / 6}
    step = values(manager, pair)
    assert step["weighted_sum"] == pytest.approx(sum(expected.values()) / 2, rel=EXACT)
    del step["weighted_sum"]
    assert step == pytest.approx(expected, rel=EXACT)
    manager = EnergyForceLoss(function={"total_energy": "huber"}, delta={"total_energy": 0.15})
    assert list(values(manager, pair)) == ["per_atom_energy_huber", "forces_mse", "weighted_sum"]
    assert values(manager, pair)["per_atom_energy_huber"] == pytest.approx(0.15 * (0.2 - 0.075), rel=EXACT)


# --- strata

# mlip 0.1.8, at norms around and exactly at its bounds: the factor of delta = 0.01.
MLIP = [
    (0.0, 1.0),
    (99.999, 1.0),
    (100.0, 0.1),
    (100.001, 0.7),
    (199.999, 0.7),
    (200.0, 0.1),
    (200.001, 0.4),
    (299.999, 0.4),
    (300.0, 0.1),
    (1000.0, 0.1),
]


@pytest.mark.parametrize(("norm", "factor"), MLIP)
@pytest.mark.parametrize("error", [0.0005, 2.0])
def test_strata_of_mlip(norm: float, factor: float, error: float) -> None:
    delta = 0.01 * factor
    size = min(error, delta)
    expected = (0.5 * size**2 + delta * (error - size)) / 3
    prediction, target = frames([1], [0.0], [[error, 0.0, 0.0]])
    target["forces"] = tensor([0.0, norm, 0.0])
    prediction["forces"] = prediction["forces"] + target["forces"]
    manager = EnergyForceLoss(function="stratified_huber", edges="last")
    step = values(manager, (prediction, target))
    assert list(step) == ["per_atom_energy_huber", "forces_stratified_huber", "weighted_sum"]
    assert step["forces_stratified_huber"] == pytest.approx(expected, rel=1e-9)


def test_edges() -> None:
    """At a bound: NequIP's rule takes the stratum above, mlip's the last one."""
    target = tensor([100.0, 0.0, 0.0], [0.0, 200.0, 0.0], [0.0, 0.0, 300.0])
    for edges, deltas in (("above", (0.007, 0.004, 0.001)), ("last", (0.001, 0.001, 0.001))):
        metric = StratifiedHuberForceLoss({0: 0.01, 100: 0.007, 200: 0.004, 300: 0.001}, edges=edges)
        metric.update(target + 1.0, target)
        expected = sum(delta * (1 - delta / 2) for delta in deltas) / 3
        assert metric.compute().item() == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ConfigError, match="unknown edges 'middle'"):
        StratifiedHuberForceLoss({0: 0.01, 100: 0.007}, edges="middle")  # type: ignore[arg-type]


def test_own_strata() -> None:
    pair = frames([1], [0.0], [[1.0, 0.0, 0.0]])
    step = values(EnergyForceLoss(function="stratified_huber", strata={0: 0.5, 1: 0.1}), pair)
    assert step["forces_stratified_huber"] == pytest.approx(0.5 * (1 - 0.25) / 3, rel=EXACT)


# --- means over frames


def test_average_over_frames() -> None:
    """mlip's force term: a mean over frames of the mean within each. Here 4 in one atom, and 1 in each of three."""
    pair = frames([1, 3], [0.0, 0.0], [[2.0] * 3, *([1.0] * 3 for _ in range(3))])
    assert values(EnergyForceLoss(), pair)["forces_mse"] == pytest.approx((4 + 3) / 4, rel=EXACT)
    assert values(EnergyForceLoss(average="frames"), pair)["forces_mse"] == pytest.approx((4 + 1) / 2, rel=EXACT)
    pair[1]["frame_weight"] = tensor([3.0], [1.0])
    assert values(EnergyForceLoss(average="frames"), pair)["forces_mse"] == pytest.approx((3 * 4 + 1) / 4, rel=EXACT)
    epoch = EnergyForceLoss(average="frames")
    for part in (frames([1], [0.0], [[2.0] * 3]), frames([3], [0.0], [[1.0] * 3] * 3)):
        epoch.update(*part)
    assert epoch.compute()["forces_mse"].item() == pytest.approx(2.5, rel=EXACT)


# --- absolute weights


def test_weights_are_not_scaled() -> None:
    """XequiNet's losses_weight: an error of 1 in the energy and in each force component, weights 1 and 1000."""
    pair = frames([2], [1.0], [[1.0] * 3] * 2)
    manager = EnergyForceLoss(weights={"total_energy": 1, "forces": 1000}, per_atom_energy=False, function="mae")
    assert values(manager, pair)["weighted_sum"] == 1001.0
    assert manager.coeffs == {"total_energy_mae": 1.0, "forces_mae": 1000.0}
    assert [row[3] for row in manager.describe()] == [1.0, 1000.0]
    scaled = EnergyForceLoss({"total_energy": 1, "forces": 1000}, per_atom_energy=False, function="mae")
    assert values(scaled, pair)["weighted_sum"] == 1.0
    manager.set_coeffs({"forces_mae": 5.0})
    assert manager.coeffs == {"total_energy_mae": None, "forces_mae": 5.0}


def test_weights_of_a_checkpoint() -> None:
    one, two = (EnergyForceLoss(weights={"total_energy": 1, "forces": 10}) for _ in range(2))
    one.set_coeffs({"per_atom_energy_mse": 7.0, "forces_mse": 0.3})
    two.load_state_dict(one.state_dict())
    assert two.coeffs == {"per_atom_energy_mse": 7.0, "forces_mse": 0.3}
    with pytest.raises(
        ConfigError, match="has weights, which are absolute; that of the config coeffs, which are scaled"
    ):
        EnergyForceLoss().load_state_dict(one.state_dict())
    with pytest.raises(ConfigError, match="has coeffs, which are scaled; that of the config weights"):
        one.load_state_dict(EnergyForceLoss().state_dict())
    old = EnergyForceLoss()
    old.set_extra_state({"coeffs": {"per_atom_energy_mse": 0.25, "forces_mse": 0.75}})  # before there were weights
    assert old.coeffs == {"per_atom_energy_mse": 0.25, "forces_mse": 0.75}


def test_a_checkpoint_gives_coefficients_back_to_the_bit() -> None:
    for weight in range(1, 200):
        one, two = (EnergyForceStressLoss({"total_energy": 1, "forces": weight, "stress": 0.7}) for _ in range(2))
        two.load_state_dict(one.state_dict())
        assert one.coeffs == two.coeffs


# --- any field


def test_loss_of_fields() -> None:
    prediction, target = frames([2], [3.0], [[1.0] * 3] * 2)
    target |= {"cell": 2 * torch.eye(3, dtype=torch.float64)[None], "stress": torch.full((1, 3, 3), 0.25)}
    target["atomic_energy"] = torch.zeros(2, 1)
    prediction |= {
        "virial": torch.full((1, 3, 3), 1.0),
        "atomic_energy": torch.ones(2, 1),
        "stress": target["stress"] + 2,
    }
    manager = FieldLoss(
        {
            "total_energy": 1,
            "per_atom_energy": 2,
            "forces": 1000,
            "virial": 5,
            "atomic_energy": 3,
            "per_atom_stress": 1,
        },
        function="mae",
    )
    step = values(manager, (prediction, target))
    assert step == {
        "total_energy_mae": 3.0,
        "per_atom_energy_mae": 1.5,
        "forces_mae": 1.0,
        "virial_mae": 3.0,  # 1 and -8 * 0.25
        "atomic_energy_mae": 1.0,
        "per_atom_stress_mae": 1.0,
        "weighted_sum": 3 + 2 * 1.5 + 1000 + 5 * 3 + 3 + 1,
    }
    assert manager.required_fields() == {"total_energy", "forces", "stress", "cell", "atomic_energy"}
    assert FieldLoss({"forces": 1, "virial": 3}, scaled=True).coeffs == {"forces_mse": 0.25, "virial_mse": 0.75}
    assert FieldLoss({"forces": 1, "virial": None}).coeffs == {"forces_mse": 1.0}


def test_a_label_that_is_registered_is_a_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dipole, say: a row in the table of fields is all that a loss needs."""
    dipole = Field("dipole", "graph", (3,), "e Angstrom", torch.float64, "vector", "dipole", label=True)
    monkeypatch.setitem(FIELDS, "dipole", dipole)
    monkeypatch.setattr("nequip_like.metrics.losses.LABELS", (*LABELS, "dipole"))
    prediction, target = frames([2], [0.0], [[0.0] * 3] * 2)
    prediction, target = prediction | {"dipole": tensor([1.0, 2.0, 3.0])}, target | {"dipole": torch.zeros(1, 3)}
    step = values(FieldLoss({"dipole": 7, "per_atom_dipole": 2}, function="mae"), (prediction, target))
    assert step == {"dipole_mae": 2.0, "per_atom_dipole_mae": 1.0, "weighted_sum": 16.0}


def test_virial_of_a_model_is_that_of_its_stress(make_potential: Any, crystal_file: Path) -> None:
    """Labels that are the model's own stress: nothing is left, of the stress or of the virial."""
    dataset = load_dataset(crystal_file, ["Cu"], cutoff=3.0)
    batch = collate([dataset[0], dataset[1]])
    prediction = make_potential(type_names=["Cu"])(batch)
    target = batch | {"stress": prediction["stress"].detach()}
    step = values(FieldLoss({"stress": 1, "virial": 1}), (prediction, target))
    assert prediction["virial"].abs().max().item() > 1e-3
    assert step["stress_mse"] == 0.0
    assert step["virial_mse"] == pytest.approx(0.0, abs=1e-24)


def test_virial_without_a_cell_has_no_label() -> None:
    prediction, target = frames([2], [3.0], [[1.0] * 3] * 2)
    target |= {"cell": torch.zeros(1, 3, 3), "stress": torch.full((1, 3, 3), math.nan)}
    prediction["virial"] = torch.full((1, 3, 3), math.nan)
    step = values(FieldLoss({"forces": 1, "virial": 1}), (prediction, target))
    assert math.isnan(step["virial_mse"])
    assert step["weighted_sum"] == 1.0


# --- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": "hubber"}, "unknown loss function 'hubber'.*did you mean 'huber'"),
        ({"function": {"force": "huber"}}, "unknown term in function: 'force'.*did you mean 'forces'"),
        ({"function": {"total_energy": "stratified_huber"}}, "which is for vectors"),
        ({"delta": 0.1}, "delta of a loss is given, but no term uses it"),
        ({"function": "huber", "delta": -1.0}, "delta is -1.0"),
        ({"function": "huber", "delta": {"forces": 0.0}}, "delta of HuberLoss"),
        ({"function": "huber", "delta": {"force": 0.1}}, "unknown term in delta: 'force'"),
        ({"function": "huber", "strata": {0: 0.1, 1: 0.2}}, "strata of a loss is given, but no term uses it"),
        ({"function": "huber", "edges": "last"}, "edges of a loss is given"),
        ({"function": "stratified_huber", "strata": {0: 0.1}}, "two or more strata"),
        ({"weights": {"forces": 1.0}, "coeffs": {"forces": 1.0}}, "both coeffs .* and weights"),
        ({"weights": {"force": 1.0}}, "unknown label in weights of a loss: 'force'.*did you mean 'forces'"),
        ({"weights": {"forces": 0.0}}, "no coefficient of the loss is larger than 0"),
        ({"average": "frame"}, "average of 'forces_mse'"),
    ],
)
def test_mistakes(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EnergyForceLoss(**arguments)  # type: ignore[arg-type]
    assert re.search(message, f"{caught.value.message} {caught.value.advice}")


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"force": 1}, "unknown term of a loss 'force'"),
        ({"pos": 1}, "unknown term of a loss 'pos'"),
        ({}, "no terms"),
        ({"forces": -1}, "coefficient of 'forces_mse' is -1"),
    ],
)
def test_mistakes_of_fields(terms: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FieldLoss(terms)

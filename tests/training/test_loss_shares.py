"""Shares of the loss: by hand, and as a run shows them."""

from __future__ import annotations

import csv
import math
from typing import Any

import pytest
import torch

from nequip_like.metrics import EnergyForceLoss, EnergyForceStressLoss
from nequip_like.training.loss_shares import compute_shares, describe_small_shares
from nequip_like.workflow.train import train


def test_a_term_without_labels_has_none_of_it() -> None:
    loss = EnergyForceStressLoss({"total_energy": 1.0, "forces": 3.0, "stress": 1.0})
    values = {"per_atom_energy_mse": 2.0, "forces_mse": 1.0, "stress_mse": math.nan, "weighted_sum": 1.0}
    shares = compute_shares(loss, {name: torch.tensor(value) for name, value in values.items()})
    assert {name: float(share) for name, share in shares.items()} == pytest.approx(
        {"per_atom_energy_mse": 0.4, "forces_mse": 0.6, "stress_mse": 0.0}
    )


def test_words() -> None:
    shares = {"per_atom_energy_mse": 0.3, "forces_mse": 0.699, "stress_mse": 0.001}
    assert describe_small_shares(EnergyForceStressLoss(), shares) == [
        "note: stress_mse has 0.1 % of the loss, so it is hardly trained: raise its coefficient, "
        "training_module.loss.coeffs.stress"
    ]
    weighted = EnergyForceStressLoss(weights={"total_energy": 1.0, "forces": 1.0, "stress": 1.0})
    assert describe_small_shares(weighted, shares)[0].endswith("training_module.loss.weights.stress")


def test_energies_beside_forces_may_have_less() -> None:
    shares = {"per_atom_energy_mse": 0.001, "forces_mse": 0.999}
    assert describe_small_shares(EnergyForceLoss(), shares) == []
    (note,) = describe_small_shares(EnergyForceLoss(), {**shares, "per_atom_energy_mse": 1e-6})
    assert note.startswith("note: per_atom_energy_mse has 0.0001 % of the loss")


def test_a_run(compose: Any, capsys: Any) -> None:
    """Energies that hardly count are named once, after the third epoch; the table has shares and the baseline."""
    options = ("run=[train]", "trainer.max_epochs=4", "training_module.loss.coeffs.total_energy=1.0e-9")
    result = train(compose(*options, "console=table"))
    lines = capsys.readouterr().out.splitlines()
    notes = [i for i, line in enumerate(lines) if line.startswith("note: per_atom_energy_mse has ")]
    tables = [i for i, line in enumerate(lines) if line.startswith("epoch ")]
    assert len(tables) == 4
    assert len(notes) == 1
    assert tables[2] < notes[0] < tables[3]
    assert "training_module.loss.coeffs.total_energy" in lines[notes[0]]
    assert [line.strip() for line in lines if line.startswith("loss: ")] == [
        "loss: per_atom_energy_mse 0.0 %, forces_mse 100.0 %"
    ] * 4
    baselines = [line for line in lines if line.startswith("│ val0, baseline ")]
    assert len(baselines) == 4
    assert len(set(baselines)) == 1
    rows = list(csv.DictReader((result.folder / "metrics.csv").read_text().splitlines()))
    shares = [float(row["train_loss_share/forces_mse"]) for row in rows if row["train_loss_share/forces_mse"]]
    assert len(shares) == 4
    assert min(shares) > 0.999999

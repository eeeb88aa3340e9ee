"""The parts of a Lightning module out of their configs: species of the potential, one manager for each data set."""

import math

import torch

from nequip_like.metrics import EnergyForceMetrics
from nequip_like.training.build import build_loss, build_manager, build_managers, cast_managers

PER_TYPE = {
    "_target_": "nequip_like.metrics.MetricsManager",
    "metrics": [
        {
            "name": "forces_mae",
            "field": "forces",
            "metric": {"_target_": "nequip_like.metrics.MeanAbsoluteError"},
            "per_type": True,
        }
    ],
}


def test_metrics_by_species_have_those_of_the_potential():
    manager = build_manager("val_metrics", PER_TYPE, ["H", "O"])
    assert list(manager.log_names) == ["forces_mae", "forces_mae_H", "forces_mae_O"]


def test_species_of_the_config_have_precedence():
    manager = build_manager("val_metrics", {**PER_TYPE, "type_names": ["C"]}, ["H", "O"])
    assert list(manager.log_names) == ["forces_mae", "forces_mae_C"]


def test_each_data_set_sums_for_itself():
    manager = EnergyForceMetrics()
    first, second = cast_managers(build_managers("val_metrics", manager, ["H"], 2))
    assert first is manager
    batch = {"forces": torch.zeros(1, 3), "total_energy": torch.zeros(1, 1), "num_atoms": torch.tensor([1])}
    first.update({**batch, "forces": torch.ones(1, 3)}, batch)
    assert float(first.compute()["forces_mae"]) == 1.0
    assert math.isnan(float(second.compute()["forces_mae"]))


def test_parts_without_a_config_are_left_out():
    assert build_loss(None, ["H"]) is None
    assert build_manager("train_metrics", None, ["H"]) is None
    assert len(build_managers("test_metrics", None, ["H"], 3)) == 0

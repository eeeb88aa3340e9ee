"""What ``--check`` says a config would do."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nequip_like.errors import ConfigError
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.printing import plan, print_plan


def test_plan(compose, tmp_path, molecule_file):
    lines = plan(check_config(compose("data.val=[5,0.2]", "trainer.max_time='00:01:00:00'")))
    assert lines == {
        "tasks": "train, val, test",
        "train data": str(molecule_file),
        "val data": "5, 0.2",
        "test data": "5",
        "species": "from the data",
        "cutoff": "4.0 Angstrom",
        "model": "NequIPGNNModel: num_layers 2, l_max 1, parity yes, num_features 4, model_dtype float64, seed 0",
        "loss": "0.5 per_atom_energy_mse, 0.5 forces_mse",
        "val metrics": "0.5 per_atom_energy_rmse, 0.5 forces_rmse; 7 more observed",
        "test metrics": "0.5 per_atom_energy_rmse, 0.5 forces_rmse; 7 more observed",
        "monitored": "val0_epoch/weighted_sum (best_checkpoint, early_stopping, lr_scheduler)",
        "optimizer": "Adam (lr 0.005)",
        "learning rate": "ReduceLROnPlateau (factor 0.6, patience 5, threshold 0.001, min_lr 1e-06)",
        "batch size": "5",
        "length": "max_epochs 2, max_time 00:01:00:00",
        "class": "EMALightningModule",
        "devices": "accelerator cpu, devices 1, num_nodes 1, strategy auto",
        "output": str(tmp_path / "run"),
    }


def test_coefficients_that_the_data_will_tell(compose):
    """The rest of such a loss is checked, and what follows its values."""
    lines = plan(check_config(compose("targets=energy_force_stress")))
    assert lines["loss"] == "per_atom_energy_mse, forces_mse, stress_mse, with coefficients from the data"
    with pytest.raises(ConfigError, match="unknown label in coeffs of a loss: 'force'"):
        check_config(compose("targets=energy_force_stress", "+training_module.loss.coeffs.force=1.0"))
    with pytest.raises(ConfigError, match="which is not logged"):
        check_config(compose("targets=energy_force_stress", "monitored_metric=val0_epoch/stres_rmse"))


def test_plan_of_a_test(compose):
    lines = plan(check_config(compose("run=test", "chemical_species=[H,C,O]", "~training_module.lr_scheduler")))
    assert lines["tasks"] == "test"
    assert lines["species"] == "H, C, O"
    assert not {"optimizer", "monitored", "length"} & set(lines)


def test_plan_without_test_data(compose):
    lines = plan(check_config(compose("data.test=null")))
    assert lines["tasks"] == "train, val (no test, for data.test is not given)"


def test_print(compose):
    stream = io.StringIO()
    print_plan(check_config(compose()), Console(file=stream, width=200))
    assert "The config is sound. It would run" in stream.getvalue()
    assert "EMALightningModule" in stream.getvalue()

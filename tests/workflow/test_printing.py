"""What is told before the first step."""

import io

import pytest
from rich.console import Console

from nequip_like.workflow import printing, setup


@pytest.fixture
def told(compose, tmp_path):
    """The text of both tables for a config."""

    def tell(*overrides: str) -> str:
        config = compose(*overrides)
        data = setup.build_data(config)
        module = setup.build_module(config, data, {})
        console = Console(file=io.StringIO(), width=200)
        printing.print_data(console, data)
        printing.print_training(console, data, module, config.monitored_metric, tmp_path / "run")
        return console.file.getvalue()

    return tell


def rows(text: str) -> dict[str, str]:
    cells = [line.strip("│ ").split("│") for line in text.splitlines() if line.startswith("│")]
    return {cell[0].strip(): cell[1].strip() for cell in cells if len(cell) == 2}


def test_training(told, tmp_path):
    found = rows(told("training_module.loss.coeffs={total_energy: 1.0, forces: 3.0}", "data.val=[3,2]"))
    assert found["loss"] == "0.25 per_atom_energy_mse, 0.75 forces_mse"
    assert found["monitored"].startswith("val0_epoch/weighted_sum (weighted_sum: 0.5 per_atom_energy_rmse")
    assert found["labels, train"] == "train: total_energy, forces"
    assert found["labels, val"] == "val: total_energy, forces; val_2: total_energy, forces"
    assert found["untrained labels"] == "none"
    assert found["output"] == str(tmp_path / "run")


def test_monitored_value_of_the_training(told):
    """Its terms are those of the loss, with or without a validation."""
    terms = "0.25 per_atom_energy_mse, 0.75 forces_mse"
    loss = "training_module.loss.coeffs={total_energy: 1.0, forces: 3.0}"
    for override in ("data.val=5", "data.val=null"):
        found = rows(told(loss, override, "monitored_metric=train_loss_epoch/weighted_sum"))
        assert found["monitored"] == f"train_loss_epoch/weighted_sum (weighted_sum: {terms})"


def test_monitored_metric_of_the_training(told):
    metrics = (
        "+training_module.train_metrics={_target_: nequip_like.metrics.EnergyForceMetrics, coeffs: {forces_mae: 1.0}}"
    )
    found = rows(told(metrics, "monitored_metric=train_metric_epoch/weighted_sum"))
    assert found["monitored"] == "train_metric_epoch/weighted_sum (weighted_sum: 1 forces_mae)"


def test_number_of_parameters(told, compose):
    config = compose()
    model = setup.build_module(config, setup.build_data(config), {}).model
    trained = sum(parameter.numel() for parameter in model.parameters())
    text = rows(told())["model"]
    assert text.startswith(f"{trained:,} trained parameters, species H C O, with an exponential moving average")
    assert "average" not in rows(told("training_module=default"))["model"]


def test_labels_that_are_not_trained_on(told):
    found = rows(told("targets=energy", "data.test=null"))
    assert found["untrained labels"] == "forces"
    assert found["labels, test"] == "no data"


def test_labels_that_some_frames_lack(told, molecule_file, tmp_path):
    import ase.io
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = ase.io.read(molecule_file, ":")
    for atoms in frames[:4]:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())
    ase.io.write(tmp_path / "some.xyz", frames)
    found = rows(told(f"data.train={tmp_path / 'some.xyz'}", "data.val=null", "data.test=null"))
    assert found["labels, train"] == "train: total_energy, forces (20 of 24)"


def test_data(told):
    text = told()
    assert "frames" in text
    assert "H 28, C 14, O 14" in text
    assert "reference energies" in text


def test_warnings_of_the_data_are_shown(told, molecule_file, tmp_path):
    """The same structure twice."""
    import ase.io

    frames = ase.io.read(molecule_file, ":")
    ase.io.write(tmp_path / "twice.xyz", [*frames[:10], frames[0]])
    text = told(f"data.train={tmp_path / 'twice.xyz'}", "data.val=null", "data.test=null")
    assert "warning: train" in text

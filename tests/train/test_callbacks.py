"""The line that is printed for each validation."""

import re
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from nequip_like.train import EnergyForceMetrics, EpochPrinter, NequIPLightningModule


@pytest.fixture
def trainer(make_potential):
    """A trainer as the callback sees it, after the validation of epoch 3."""
    module = NequIPLightningModule(
        make_potential(), val_metrics={"_target_": "nequip_like.train.EnergyForceMetrics"}, num_datasets={"val": 2}
    )
    metrics = {
        "train_loss_step/weighted_sum": 0.25,
        "val0_epoch/per_atom_energy_rmse": 0.0012345,
        "val0_epoch/forces_rmse": 0.05,
        "val0_epoch/weighted_sum": 0.0306,
        "val1_epoch/per_atom_energy_rmse": 0.5,
        "val1_epoch/stress_rmse": 0.002,
    }
    return SimpleNamespace(
        callback_metrics={name: torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()},
        optimizers=[torch.optim.SGD(module.parameters(), lr=0.005)],
        current_epoch=3,
        global_step=120,
        lightning_module=module,
        sanity_checking=False,
        state=SimpleNamespace(fn=TrainerFn.FITTING),
    )


def test_line(trainer):
    line = EpochPrinter().line(trainer)
    assert re.fullmatch(
        r"epoch    3 \| step    120 \| lr 5\.00e-03 \| loss 2\.500e-01 \| "
        r"val0: E rmse 1\.234 meV/atom, F rmse 50 meV/A, weighted sum 0\.0306 \| "
        r"val1: E rmse 500 meV/atom, S rmse 2 meV/A\^3 \| \d+ s",
        line,
    )


def test_printed_at_every_nth_validation(trainer, capsys):
    printer = EpochPrinter(every_n=2)
    printer.on_train_start(trainer, trainer.lightning_module)
    for epoch in range(5):
        trainer.current_epoch = epoch
        printer.on_validation_end(trainer, trainer.lightning_module)
    epochs = [int(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert epochs == [0, 2, 4]


@pytest.mark.parametrize("change", [{"sanity_checking": True}, {"state": SimpleNamespace(fn=TrainerFn.VALIDATING)}])
def test_silent_outside_training(change, trainer, capsys):
    trainer.__dict__.update(change)
    EpochPrinter().on_validation_end(trainer, trainer.lightning_module)
    assert capsys.readouterr().out == ""


def test_module_of_another_kind(trainer):
    trainer.lightning_module = torch.nn.Identity()
    trainer.optimizers = []
    assert "lr nan" in EpochPrinter().line(trainer)
    assert "val0" not in EpochPrinter().line(trainer)


def test_names_are_those_of_the_metrics():
    logged = {term.name for term in EnergyForceMetrics().terms}
    assert {"per_atom_energy_rmse", "forces_rmse"} <= logged

"""The table of a validation."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from nequip_like.data.graph import collate
from nequip_like.errors import ConfigError
from nequip_like.training import EpochPrinter, NequIPLightningModule
from nequip_like.training.callbacks import MetricsTable
from nequip_like.training.callbacks.words import collect_validation_values, compute_training_values


def cells(text):
    """Rows of a printed table without its frame."""
    return [[cell.strip() for cell in line.strip("│┃").split("│")] for line in text.splitlines() if line[:1] == "│"]


@pytest.mark.parametrize("printer", [EpochPrinter(style="table"), MetricsTable()])
def test_rows_and_units(printer, trainer, capsys):
    printer.on_validation_end(trainer, trainer.lightning_module)
    out = capsys.readouterr().out
    assert "epoch 3, step 120 (120 batches), lr 5.00e-03" in out
    heads = [line for line in out.splitlines() if "┃" in line]
    assert [" ".join(line.split()) for line in heads] == [
        "┃ ┃ E rmse ┃ F rmse ┃ S rmse ┃ weighted sum ┃",
        "┃ set ┃ meV/atom ┃ meV/A ┃ meV/A^3 ┃ ┃",
    ]
    assert cells(out) == [["val0", "1.234", "50", "", "0.0306"], ["val1", "500", "", "2", ""]]


def test_only_every_nth(trainer, capsys):
    table = MetricsTable(every_n=2)
    for _ in range(4):
        table.on_validation_end(trainer, trainer.lightning_module)
    assert capsys.readouterr().out.count("epoch 3") == 2


@pytest.mark.parametrize(
    "change",
    [{"sanity_checking": True}, {"state": SimpleNamespace(fn=TrainerFn.TESTING)}, {"is_global_zero": False}],
)
def test_silent(change, trainer, capsys):
    trainer.__dict__.update(change)
    MetricsTable().on_validation_end(trainer, trainer.lightning_module)
    assert capsys.readouterr().out == ""


def test_intervals_are_checked():
    with pytest.raises(ConfigError, match="every_n is 0"):
        MetricsTable(every_n=0)


def test_training_is_the_mean_over_the_epoch_with_the_root_last(make_potential, make_data):
    """Two batches whose mean squares differ: the root is of the mean of all components."""
    module = NequIPLightningModule(make_potential(), loss={"_target_": "nequip_like.metrics.EnergyForceLoss"})
    frames = list(make_data().train_set)[:3]
    differences = []
    for batch in (collate(frames[:1]), collate(frames[1:])):
        module.training_step(batch, 0)
        differences.append((module.model(batch)["forces"] - batch["forces"]).detach().flatten())
    values = compute_training_values(module)["train"]
    assert values["forces_rmse"] == pytest.approx(float(torch.cat(differences).square().mean().sqrt()), rel=1e-12)
    assert "forces_mse" not in values
    assert values["weighted_sum"] == pytest.approx(
        0.5 * values["forces_rmse"] ** 2 + 0.5 * values["per_atom_energy_rmse"] ** 2, rel=1e-12
    )


def test_validation_sets_are_told_apart():
    metrics = {
        "val1_epoch/a": 1.0,
        "val0_epoch/forces_mse": 4.0,
        "val0_raw_epoch/a": 3.0,
        "lr": 0.1,
        "test0_epoch/a": 5.0,
    }
    trainer = SimpleNamespace(callback_metrics={name: torch.tensor(value) for name, value in metrics.items()})
    assert collect_validation_values(trainer) == {
        "val0": {"forces_rmse": 2.0},
        "val0_raw": {"a": 3.0},
        "val1": {"a": 1.0},
    }

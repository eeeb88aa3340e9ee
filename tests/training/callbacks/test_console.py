"""The lines that a run prints."""

import re
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from nequip_like.errors import ConfigError
from nequip_like.metrics import EnergyForceMetrics
from nequip_like.training import EpochPrinter
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.setup import build_trainer


def test_line(trainer):
    line = EpochPrinter().line(trainer)
    assert re.fullmatch(
        r"epoch    3 \| step    120 \| lr 5\.00e-03 \| loss 2\.500e-01 \| "
        r"val0: E rmse 1\.234 meV/atom, F rmse 50 meV/A, weighted sum 0\.0306 \| "
        r"val1: E rmse 500 meV/atom, S rmse 2 meV/A\^3 \| \d+ s",
        line,
    )


def test_batches_are_told_where_they_are_not_steps(trainer):
    trainer.fit_loop.epoch_loop.batch_progress.total.processed = 480
    assert "| step    120 of 480 batches |" in EpochPrinter().line(trainer)


def test_steps_that_were_left_out_are_no_updates(trainer):
    trainer.lightning_module.guard.skipped_steps = 2
    assert "| step    118 of 120 batches |" in EpochPrinter().line(trainer)


def test_printed_at_every_nth_validation(trainer, capsys):
    printer = EpochPrinter(every_n=2)
    printer.on_train_start(trainer, trainer.lightning_module)
    for epoch in range(5):
        trainer.current_epoch = epoch
        printer.on_validation_end(trainer, trainer.lightning_module)
    epochs = [int(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert epochs == [0, 2, 4]


@pytest.mark.parametrize("style", ["line", "table"])
def test_printed_at_every_nth_step(style, trainer, capsys):
    printer = EpochPrinter(every_n_steps=50, style=style)
    for step in range(1, 121):
        trainer.global_step = trainer.fit_loop.epoch_loop.batch_progress.total.processed = step
        printer.on_train_batch_end(trainer, trainer.lightning_module, None, None, 0)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[1] for line in lines] == ["step     50", "step    100"]
    assert all("val0" not in line and "loss 2.500e-01" in line for line in lines)


def test_nothing_is_printed(trainer, capsys):
    printer = EpochPrinter(every_n_steps=1, style="none")
    printer.on_train_start(trainer, trainer.lightning_module)
    printer.on_train_batch_end(trainer, trainer.lightning_module, None, None, 0)
    printer.on_validation_end(trainer, trainer.lightning_module)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("console", "style"), [("line", "line"), ("table", "table"), ("none", "none")])
def test_one_key_of_the_config_chooses(console, style, compose):
    config = compose(f"console={console}")
    assert check_config(config).values["callbacks"]["epoch_printer"] == {
        "_target_": "nequip_like.training.callbacks.EpochPrinter",
        "every_n": 1,
        "every_n_steps": None,
        "style": style,
    }


@pytest.mark.parametrize(
    ("settings", "styles"),
    [
        ((), ["line"]),
        (("callbacks=[default,metrics_table]",), ["line", "table"]),
        (("callbacks=[default,metrics_table]", "~callbacks.epoch_printer"), ["table"]),
        (("callbacks.epoch_printer=null",), []),
        (("~callbacks.epoch_printer",), []),
        (("console=none", "callbacks.epoch_printer=null"), []),
    ],
)
def test_keys_of_earlier_versions(settings, styles, compose):
    config = compose("~callbacks.learning_rate", "~logger", *settings)
    check_config(config)
    callbacks = build_trainer(config).callbacks
    assert [callback.style for callback in callbacks if isinstance(callback, EpochPrinter)] == styles


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


@pytest.mark.parametrize("arguments", [{"every_n": 0}, {"every_n_steps": 0}, {"every_n_steps": "often"}])
def test_intervals_are_checked(arguments):
    with pytest.raises(ConfigError, match="every_n"):
        EpochPrinter(**arguments)


def test_names_are_those_of_the_metrics():
    logged = {term.name for term in EnergyForceMetrics().terms}
    assert {"per_atom_energy_rmse", "forces_rmse"} <= logged

"""Which steps get a row. Whole runs and resuming: tests/workflow/test_run_callbacks.py."""

import pytest
import torch

from nequip_like.data.graph import collate
from nequip_like.errors import ConfigError, OutputError
from nequip_like.training import NequIPLightningModule
from nequip_like.training.callbacks import LossLog


@pytest.fixture
def module(make_potential, make_data):
    """It has seen one batch."""
    module = NequIPLightningModule(make_potential(), loss={"_target_": "nequip_like.metrics.EnergyForceLoss"})
    module.training_step(collate(list(make_data().train_set)[:2]), 0)
    return module


def train(trainer, log, module, steps, epoch=0):
    """Takes the steps of an epoch."""
    trainer.lightning_module, trainer.current_epoch, trainer.ckpt_path = module, epoch, None
    counts = trainer.fit_loop.epoch_loop.batch_progress
    trainer.fit_loop.epoch_loop._num_ready_batches_reached = lambda: counts.current.ready == steps
    for step in range(1, steps + 1):
        counts.current.ready, counts.total.processed = step, epoch * steps + step
        trainer.global_step = counts.total.processed
        log.on_train_batch_end(trainer, module, None, None, step - 1)


def begin(trainer, log, module, done=0):
    trainer.ckpt_path, trainer.fit_loop.epoch_loop.batch_progress.total.processed = None, done
    log.on_train_start(trainer, module)


def rows(path, column):
    lines = [line.split() for line in path.read_text().splitlines()]
    assert lines[0][:5] == ["set", "epoch", "update_step", "micro_step", "lr"]
    return [line[lines[0].index(column)] for line in lines[1:]]


def test_120_steps(trainer, module, tmp_path):
    """Every 50 steps of an epoch, and its last one."""
    log = LossLog(tmp_path / "loss.log")
    begin(trainer, log, module)
    for epoch in (0, 1):
        train(trainer, log, module, 120, epoch)
    assert rows(log.path, "update_step") == ["50", "100", "120", "170", "220", "240"]
    assert rows(log.path, "epoch") == ["0"] * 3 + ["1"] * 3
    assert set(rows(log.path, "lr")) == {"5.0000e-03"}


def test_a_row_falls_on_the_last_step_once(trainer, module, tmp_path):
    log = LossLog(tmp_path / "loss.log")
    begin(trainer, log, module)
    train(trainer, log, module, 100)
    assert rows(log.path, "update_step") == ["50", "100"]


def test_every_second_epoch(trainer, module, tmp_path):
    log = LossLog(tmp_path / "loss.log", log_steps=7, log_epochs=2)
    begin(trainer, log, module)
    for epoch in range(4):
        train(trainer, log, module, 7, epoch)
    assert rows(log.path, "epoch") == ["1", "3"]


def test_values_are_those_of_the_epoch_so_far(trainer, module, tmp_path):
    log = LossLog(tmp_path / "loss.log")
    begin(trainer, log, module)
    train(trainer, log, module, 1)
    values = module.loss.compute()
    assert float(rows(log.path, "forces_rmse")[0]) == pytest.approx(float(values["forces_mse"]) ** 0.5, rel=1e-5)
    assert float(rows(log.path, "weighted_sum")[0]) == pytest.approx(float(values["weighted_sum"]), rel=1e-5)


def test_resumed_it_forgets_what_comes_again(trainer, module, tmp_path):
    """Rows up to the checkpoint stay; what was cut off, and the last words of the first run, do not."""
    log = LossLog(tmp_path / "loss.log", log_steps=1)
    begin(trainer, log, module)
    train(trainer, log, module, 5)
    with log.path.open("a") as file:
        file.write("# early stopping\ntrain 0 6")
    begin(trainer, LossLog(tmp_path / "loss.log", log_steps=1), module, done=3)
    assert rows(log.path, "micro_step") == ["1", "2", "3"]
    assert log.path.read_text().count("set") == 1


def test_other_columns_have_another_head(trainer, module, make_potential, tmp_path):
    log = LossLog(tmp_path / "loss.log", log_steps=1)
    begin(trainer, log, module)
    train(trainer, log, module, 2)
    metrics = {"_target_": "nequip_like.metrics.EnergyForceMetrics"}
    other = NequIPLightningModule(make_potential(), loss=module.loss, val_metrics=metrics)
    begin(trainer, log, other, done=2)
    train(trainer, log, other, 1)
    lines = [line.split() for line in log.path.read_text().splitlines()]
    assert [line[0] for line in lines] == ["set", "train", "train", "set", "train"]
    assert [len(line) for line in lines] == [8, 8, 8, 8 + 7, 8 + 7]
    assert "forces_maxabserr" in lines[3]


def test_what_it_cannot_do(trainer, module, tmp_path):
    trainer.ckpt_path = None
    with pytest.raises(ConfigError, match="LossLog cannot write of a Identity"):
        LossLog(tmp_path / "loss.log").on_train_start(trainer, torch.nn.Identity())
    with pytest.raises(ConfigError, match="log_steps is 0"):
        LossLog(tmp_path / "loss.log", log_steps=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*loss\.log"):
        begin(trainer, LossLog(tmp_path / "file" / "loss.log"), module)

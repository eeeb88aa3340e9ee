"""A run that diverges goes back to its last good weights; batches that are to blame themselves change nothing.

14 frames in batches of 5 are 3 steps an epoch. The watch looks at each tenth step.
"""

from __future__ import annotations

import copy
import math
import re

import lightning
import pytest
import torch

from nequip_like.cli.errors import run_cli
from nequip_like.errors import TrainingError
from nequip_like.metrics import EnergyForceLoss
from nequip_like.training import EMALightningModule
from nequip_like.training.checkpointing.callback import ResumableCheckpoint
from nequip_like.workflow.train import train


@pytest.fixture
def fit(make_potential, make_data, quiet_trainer, tmp_path):
    """Train, by default for 8 epochs; gives the module and its trainer."""

    def fit(*callbacks, data=None, epochs=8, accumulate=1, **changes):
        arguments = {
            "model": make_potential(num_layers=1).train(),
            "loss": EnergyForceLoss(),
            "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01},
            "val_metrics": {"_target_": "nequip_like.metrics.EnergyForceMetrics"},
        }
        module = EMALightningModule(**{**arguments, **changes})
        best = ResumableCheckpoint(dirpath=tmp_path, filename="best", monitor="val0_epoch/weighted_sum")
        trainer = quiet_trainer(
            max_epochs=epochs,
            callbacks=[*callbacks, best],
            enable_checkpointing=True,
            accumulate_grad_batches=accumulate,
            limit_val_batches=1.0,
        )
        trainer.fit(module, datamodule=data or make_data())
        return module, trainer

    return fit


class Kick(lightning.Callback):
    """Makes weights many times as large after some steps."""

    def __init__(self, *steps: int, factor: float = 30.0) -> None:
        self.steps, self.factor = steps, factor

    def on_train_batch_end(self, trainer, module, *_):
        if trainer.global_step in self.steps:
            with torch.no_grad():
                for parameter in module.model.parameters():
                    parameter.mul_(self.factor)


class Watch(lightning.Callback):
    """State after each number of steps, and the learning rates that steps are taken with."""

    def __init__(self):
        self.states, self.rates = {}, []

    def on_train_batch_end(self, trainer, module, *_):
        self.states[trainer.global_step] = state_of(trainer, module)

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])


def state_of(trainer, module):
    held = trainer.optimizers[0].state.values()
    tensors = [*module.model.parameters(), *module.ema.parameters(), module.ema.n_averaged]
    return copy.deepcopy([*tensors, *(value for state in held for value in state.values())])


def is_same(one, two):
    return len(one) == len(two) and all(map(torch.equal, one, two))


def test_goes_back(fit, capsys):
    """Kicked after the 13th step, seen at the 20th; the last good weights are those of the end of the fourth epoch."""
    watch = Watch()
    module, trainer = fit(Kick(13), watch)
    said = [line for line in capsys.readouterr().out.splitlines() if "back to the weights" in line]
    assert len(said) == 1
    assert said[0].startswith("epoch 6, step 19: the loss rose from ")
    assert said[0].endswith(
        "back to the weights of step 12, with 0.5 times the schedule's learning rate, 0.005 now (rollback 1, at most 5)"
    )
    assert is_same(watch.states[20], watch.states[12])
    assert not is_same(watch.states[21], watch.states[12])
    assert watch.rates == [0.01] * 20 + [0.005] * 4
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.01
    assert (module.rollbacks, module.rate_factor, trainer.global_step) == (1, 0.5, 24)
    assert trainer.callback_metrics["rollbacks"] == 1.0


def test_epoch_values_begin_anew(fit):
    """Of the epoch of the rollback the last step alone counts."""

    class Note(lightning.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            self.step = float(trainer.callback_metrics["train_loss_step/weighted_sum"])

    note = Note()
    _, trainer = fit(Kick(13), note, epochs=7)
    assert float(trainer.callback_metrics["train_loss_epoch/weighted_sum"]) == pytest.approx(note.step, rel=1e-12)


def test_batches_that_are_to_blame_themselves(fit):
    """Labels that are suddenly a hundred times as large: the earlier weights are no better, and nothing changes."""

    class Enlarge(lightning.Callback):
        def on_train_batch_start(self, trainer, module, batch, *_):
            if trainer.global_step >= 12:
                batch["forces"].mul_(100.0)

    suspicions = []
    results = []
    for action in ("rollback", "ignore"):
        module, trainer = fit(Enlarge(), on_divergence=action)
        results.append(state_of(trainer, module))
        suspicions.append(module.watch.get_range()["loss"])
        assert module.rollbacks == 0
    assert is_same(*results)
    assert len(suspicions[0]) == 1  # the range began anew at the 20th step


def test_warns(fit):
    with pytest.warns(UserWarning, match=r"rose from .*training goes on") as warned:
        module, _ = fit(Kick(13), on_divergence="warn")
    said = [str(warning.message) for warning in warned if "the loss rose" in str(warning.message)]
    assert [text.split(" the loss")[0] for text in said] == ["epoch 6, step 19:"]
    assert (module.rollbacks, module.rate_factor) == (0, 1.0)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_weights_that_give_nothing_finite(accumulate, fit, capsys, make_data):
    """The batches are finite with the last good weights: these are taken."""
    data = make_data(batch_size=5 if accumulate == 1 else 3)
    module, _ = fit(Kick(4, factor=1e200), data=data, epochs=3, accumulate=accumulate)
    assert module.rollbacks == 1
    assert "back to the weights of step 3," in capsys.readouterr().out


def test_weights_that_are_not_finite(fit, capsys):
    """After the last step of an epoch: before the validation."""
    module, trainer = fit(Kick(6, factor=math.nan), epochs=3)
    assert module.rollbacks == 1
    assert "are not finite; step before: batch of 4" in capsys.readouterr().out
    assert math.isfinite(trainer.callback_metrics["val0_epoch/weighted_sum"])


def test_data_that_are_not_finite(fit, make_data):
    """They are so with any weights: the run stops and names the frame, as without a watch."""
    data = make_data()
    data.train_set.frames[6]["forces"] = torch.full_like(data.train_set.frames[6]["forces"], math.inf)
    with pytest.raises(TrainingError, match=r"^epoch 0, step \d: the loss 'forces_mse' is inf; batch of "):
        fit(data=data)


def test_validation_that_is_not_finite(fit, capsys):
    class Break(lightning.Callback):
        def on_validation_start(self, trainer, module):
            if trainer.global_step == 6:
                with torch.no_grad():
                    next(module.ema.parameters()).fill_(math.inf)

    module, trainer = fit(Break(), epochs=3)
    assert "epoch 1, step 6, val0_epoch: " in (said := capsys.readouterr().out)
    assert "back to the weights of step 3," in said
    assert math.isfinite(trainer.callback_metrics["val0_epoch/weighted_sum"])
    assert module.rollbacks == 1


def test_ends_with_the_best_weights(fit, tmp_path):
    with pytest.raises(TrainingError) as error:
        fit(Kick(13, 22, 25), epochs=14, on_divergence={"max_rollbacks": 1})
    assert "; the run went back to earlier weights 1 times before, as often as on_divergence.max_rollbacks" in str(
        error.value
    )
    assert f"the best weights are in {tmp_path}/best.ckpt" in error.value.message
    assert error.value.advice.startswith("give the optimizer a lower lr, below 0.005, or clip")
    assert (tmp_path / "best.ckpt").is_file()


def test_command_whose_rate_is_hopeless(compose, capfd):
    """SGD whose first step blows up the weights, at any rate that is tried: exit code 2, and no traceback."""
    overrides = ["training_module.optimizer._target_=torch.optim.SGD", "training_module.optimizer.lr=1e200"]
    settings = ["training_module.lr_scheduler=null", "data.batch_size=5", "trainer.max_epochs=5", "run=[train]"]
    assert run_cli(lambda: train(compose(*overrides, *settings))) == 2
    out, text = capfd.readouterr()
    # Each time to the same weights, and the rate falls faster each time: by a half, a quarter, an eighth, ...
    said = re.findall(r": back to the weights of step 0, with (\S+) times", out)
    assert said == ["0.5", "0.125", "0.0156", "0.000977", "3.05e-05"]
    assert "earlier weights 5 times before" in text
    assert "Traceback" not in text

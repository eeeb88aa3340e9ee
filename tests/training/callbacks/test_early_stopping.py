"""Lightning's early stopping: another patience after a resume, and the reason in one line."""

from types import SimpleNamespace

import pytest
import torch

from nequip_like.training.callbacks import ResumableEarlyStopping
from nequip_like.training.callbacks.early_stopping import stop_reasons

NAME = "val0_epoch/weighted_sum"


def judge(trainer, callback, *values):
    trainer.fast_dev_run = False
    trainer.strategy = SimpleNamespace(reduce_boolean_decision=lambda decision, all: decision)
    for value in values:
        trainer.callback_metrics = {NAME: torch.tensor(value)}
        callback.on_validation_end(trainer, trainer.lightning_module)


@pytest.mark.parametrize(
    ("arguments", "values", "why"),
    [
        ({"patience": 2}, [0.5, 0.75, 0.75], f"{NAME} has not improved in 2 validations, best 0.5"),
        ({"patience": 2, "stopping_threshold": 0.3}, [0.5, 0.25], rf"Stopping threshold reached: {NAME} = 0.25 < 0.3."),
    ],
)
def test_the_reason_is_one_line(arguments, values, why, trainer, capsys):
    callback = ResumableEarlyStopping(NAME, check_on_train_epoch_end=False, **arguments)
    judge(trainer, callback, *values)
    assert trainer.should_stop
    assert callback.reason == f"early stopping at epoch 3, step 120: {why}"
    assert capsys.readouterr().out == callback.reason + "\n"
    trainer.callbacks = [callback, ResumableEarlyStopping(NAME)]
    assert stop_reasons(trainer) == [callback.reason]


def test_silent_as_long_as_it_goes_on(trainer, capsys):
    callback = ResumableEarlyStopping(NAME, patience=3, check_on_train_epoch_end=False)
    judge(trainer, callback, 0.5, 0.75, 0.75)
    assert not trainer.should_stop
    assert callback.reason is None
    assert capsys.readouterr().out == ""


def test_patience_is_that_of_the_resumed_run(trainer):
    old = ResumableEarlyStopping(NAME, patience=9, check_on_train_epoch_end=False)
    judge(trainer, old, 0.5, 0.75)
    new = ResumableEarlyStopping(NAME, patience=2, check_on_train_epoch_end=False)
    new.load_state_dict(old.state_dict())
    assert (new.patience, new.wait_count) == (2, 1)
    judge(trainer, new, 0.75)
    assert trainer.should_stop


def test_at_the_end_of_epochs_a_validation_counts_once(trainer):
    """Validated in each third epoch: three bad values are nine epochs, not three."""
    callback = ResumableEarlyStopping(NAME, patience=3, check_on_train_epoch_end=True)
    ended = []
    for epoch in range(1, 13):
        if epoch % 3 == 0:
            judge(trainer, callback, 0.5)
        if epoch == 6:  # resumed between a validation and the end of its epoch
            before, callback = callback, ResumableEarlyStopping(NAME, patience=3, check_on_train_epoch_end=True)
            callback.load_state_dict(before.state_dict())
        callback.on_train_epoch_end(trainer, trainer.lightning_module)
        ended.append(trainer.should_stop)
    assert ended == [False] * 11 + [True]
    assert callback.wait_count == 3

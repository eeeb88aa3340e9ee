"""Times of a training: steps, validations, frames per second, what is left."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from nequip_like.training.callbacks import run_times
from nequip_like.training.callbacks.run_times import RunTimes, find_run_times


@pytest.fixture
def clock(monkeypatch):
    state = SimpleNamespace(now=100.0)
    monkeypatch.setattr(run_times.time, "perf_counter", lambda: state.now)
    return state


@pytest.fixture
def trainer():
    progress = SimpleNamespace(current=SimpleNamespace(processed=0))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    return SimpleNamespace(
        global_step=10, world_size=2, num_training_batches=4, max_epochs=5, max_steps=-1, current_epoch=1,
        fit_loop=loop, state=SimpleNamespace(fn=TrainerFn.FITTING), sanity_checking=False, callbacks=[],
    )  # fmt: skip


def do_batch(times, trainer, clock, seconds):
    clock.now += seconds
    trainer.global_step += 1
    trainer.fit_loop.epoch_loop.batch_progress.current.processed += 1
    times.on_train_batch_end(trainer, None, None, {"num_atoms": torch.zeros(3)}, 0)


def test_a_run_from_its_second_epoch_on(clock, trainer):
    times = RunTimes()
    times.on_train_start(trainer, None)
    assert times.measure_rate() is None
    assert times.estimate_left(trainer) is None
    for _ in range(4):
        do_batch(times, trainer, clock, 0.5)
    assert (times.steps, times.frames, times.epochs) == (4, 24, 1.0)
    clock.now += 0.1  # between the last batch and the validation
    times.on_validation_start(trainer, None)
    clock.now += 1.9
    times.on_validation_end(trainer, None)
    assert times.training_seconds == pytest.approx(2.1)
    assert times.validation_seconds == pytest.approx(1.9)
    assert times.measure_rate() == pytest.approx(24 / 2.1)
    # One epoch took 4 s; the second of five is done.
    assert times.estimate_left(trainer) == pytest.approx(3 * 4.0)
    trainer.max_steps = 16
    assert times.estimate_left(trainer) == pytest.approx(2 * 1.0)
    do_batch(times, trainer, clock, 1.0)
    assert times.measure_rate() == pytest.approx(6 / 1.0)


def test_a_validation_without_training_does_not_count(clock, trainer):
    times = RunTimes()
    times.on_train_start(trainer, None)
    trainer.state.fn = TrainerFn.VALIDATING
    times.on_validation_start(trainer, None)
    clock.now += 5.0
    times.on_validation_end(trainer, None)
    assert times.validation_seconds == 0.0


def test_it_is_found_among_callbacks(trainer):
    assert find_run_times(trainer) is None
    trainer.callbacks = [times := RunTimes()]
    assert find_run_times(trainer) is times

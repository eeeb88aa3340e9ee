"""What is done in Lightning's place around the hooks of a step is what Lightning does."""

from collections import Counter

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.profilers import SimpleProfiler

from nequip_like.training.lean_steps.module import (
    IdleProfiler,
    LeanModule,
    bring_back_idle_hooks,
    leave_out_idle_hooks,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*number of training batches.*"
)


class Usual(lightning.LightningModule):
    """Writes down what Lightning tells it at each step."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.append((self._current_fx_name, float(batch["x"].sum())))
        self.log("value", self.weight.sum() * batch["x"].sum(), on_step=True, on_epoch=True)
        return (self.weight * batch["x"]).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Lean(LeanModule, Usual):
    pass


def run(module, **arguments):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", **quiet, **arguments)
    data = [{"x": torch.tensor([float(i)])} for i in range(3)]
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=None))
    return trainer


def test_a_run_is_lightnings():
    lean, usual = Lean(), Usual()
    trainers = run(lean), run(usual)
    assert lean.seen == usual.seen
    assert [name for name, _ in lean.seen] == ["training_step"] * 6
    assert lean._current_fx_name == usual._current_fx_name
    assert torch.equal(lean.weight, usual.weight)
    for name in ("value_step", "value_epoch"):
        assert torch.equal(trainers[0].callback_metrics[name], trainers[1].callback_metrics[name])


def test_the_users_profiler_measures(capsys):
    profiler = SimpleProfiler()
    assert run(Lean(), profiler=profiler).profiler is profiler
    assert len(profiler.recorded_durations["[Strategy]SingleDeviceStrategy.training_step"]) == 6
    assert isinstance(run(Lean()).profiler, IdleProfiler)


def test_other_attributes_are_torchs():
    module = Lean()
    module.extra = torch.nn.Parameter(torch.zeros(2))
    assert "extra" in dict(module.named_parameters())


# --- hooks of callbacks


class Named(lightning.Callback):
    """Counts how often Lightning asks for its name, which it does for each call of a hook."""

    def __init__(self):
        self.asked = Counter()

    @property
    def state_key(self):
        self.asked["name"] += 1
        return "named"


class EndsBatches(Named):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.asked["batch"] += 1


class LateHook(Named):
    """Gets its hook when the training begins."""

    def on_train_start(self, trainer, pl_module):
        self.on_before_backward = lambda trainer, pl_module, loss: self.asked.update(["backward"])


def test_idle_hooks_of_a_batch_are_passed_over():
    lean, usual = ([Named(), EndsBatches(), LateHook()] for _ in range(2))
    run(Lean(), callbacks=lean)
    run(Usual(), callbacks=usual)
    # Six hooks in each of six batches: of those that do something, nobody asks the name either.
    assert [there.asked["name"] - here.asked["name"] for here, there in zip(lean, usual, strict=True)] == [36, 36, 36]
    for callbacks in (lean, usual):
        assert callbacks[1].asked["batch"] == callbacks[2].asked["backward"] == 6


def test_functions_given_one_by_one_are_called():
    seen = Counter()
    callback = LambdaCallback(
        on_train_batch_start=lambda *_: seen.update(["start"]), on_after_backward=lambda *_: seen.update(["backward"])
    )
    run(Lean(), callbacks=[callback])
    assert seen == {"start": 6, "backward": 6}


def test_the_users_profiler_sees_all_hooks():
    profiler = SimpleProfiler()
    run(Lean(), profiler=profiler, callbacks=[Named()])
    assert len(profiler.recorded_durations["[Callback]named.on_before_backward"]) == 6


def test_callbacks_are_left_as_they_were():
    callbacks = [Named(), EndsBatches()]
    run(Lean(), callbacks=callbacks)
    before = [set(vars(callback)) for callback in callbacks]
    assert before == [{"asked", "log", "log_dict"}] * 2  # the latter two are Lightning's own
    leave_out_idle_hooks(callbacks)
    leave_out_idle_hooks(callbacks)  # as after a run that ended with an error
    assert [callback.on_train_batch_end is None for callback in callbacks] == [True, False]
    assert callbacks[0].on_validation_end is not None  # not of a batch
    bring_back_idle_hooks(callbacks)
    assert [set(vars(callback)) for callback in callbacks] == before

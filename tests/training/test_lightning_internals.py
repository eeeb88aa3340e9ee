"""What is done in Lightning's place around the hooks of a step is what Lightning does."""

import lightning
import pytest
import torch
from lightning.pytorch.profilers import SimpleProfiler

from nequip_like.training.lightning_internals import IdleProfiler, LeanModule


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


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*number of training batches.*")
def test_a_run_is_lightnings():
    lean, usual = Lean(), Usual()
    trainers = run(lean), run(usual)
    assert lean.seen == usual.seen
    assert [name for name, _ in lean.seen] == ["training_step"] * 6
    assert lean._current_fx_name == usual._current_fx_name
    assert torch.equal(lean.weight, usual.weight)
    for name in ("value_step", "value_epoch"):
        assert torch.equal(trainers[0].callback_metrics[name], trainers[1].callback_metrics[name])


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*number of training batches.*")
def test_the_users_profiler_measures(capsys):
    profiler = SimpleProfiler()
    assert run(Lean(), profiler=profiler).profiler is profiler
    assert len(profiler.recorded_durations["[Strategy]SingleDeviceStrategy.training_step"]) == 6
    assert isinstance(run(Lean()).profiler, IdleProfiler)


def test_other_attributes_are_torchs():
    module = Lean()
    module.extra = torch.nn.Parameter(torch.zeros(2))
    assert "extra" in dict(module.named_parameters())

"""A step of the lean loop is Lightning's: the same hooks in the same order, the same counts and values."""

import lightning
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from nequip_like.errors import TrainingError
from nequip_like.training.lean_steps.epoch_loop import LeanEpochLoop
from nequip_like.training.lean_steps.module import LeanModule

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*",
    "ignore:.*number of training batches.*",
    "ignore:.*returned `None`.*",
)
HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def describe(value):
    """What a hook got, comparable between runs."""
    if isinstance(value, torch.Tensor):
        return value.item() if value.numel() == 1 else value.tolist()
    if isinstance(value, dict):
        return {name: describe(entry) for name, entry in value.items()}
    return value if isinstance(value, int | float | str | None) else type(value).__name__


class Usual(lightning.LightningModule):
    """Writes down each hook, what it got, and where training stands in it."""

    def __init__(self, gives="tensor", ends_at=None, optimizer=torch.optim.SGD, schedule=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
        self.trace, self.gives, self.ends_at, self.kind = [], gives, ends_at, optimizer
        self.schedule = {"interval": "step"} if schedule is None else schedule

    def write(self, name, *arguments):
        stands = (self._current_fx_name, self.current_epoch, self.global_step, self.trainer.is_last_batch)
        values = describe(dict(self.trainer.callback_metrics))
        self.trace.append((name, *stands, *map(describe, arguments), values, torch.is_grad_enabled()))

    def training_step(self, batch, batch_idx):
        self.write("training_step", batch, batch_idx)
        loss = ((self.weight * batch["x"]).sum() - 1.0) ** 2
        self.log("step_only", loss.detach(), on_step=True, on_epoch=False, prog_bar=True)
        self.log("both", loss.detach() * 2.0, on_step=True, on_epoch=True)
        return {"tensor": loss, "dict": {"loss": loss, "more": 7}, "none": None}[self.gives]

    def validation_step(self, batch, batch_idx):
        self.write("validation_step", batch)
        self.log("val", self.weight.sum())

    def on_train_batch_start(self, batch, batch_idx):
        self.write("on_train_batch_start", batch, batch_idx)
        return -1 if batch_idx == self.ends_at else None

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        self.write("optimizer_step", epoch, batch_idx, optimizer.param_groups[0]["lr"])
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        self.write("clipping", optimizer, gradient_clip_val, str(gradient_clip_algorithm), self.weight.grad)
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self):
        optimizer = self.kind(self.parameters(), lr=0.05)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, **self.schedule}}


for hook in HOOKS[1:]:

    def write_hook(self, *arguments, hook=hook):
        self.write(hook, *arguments)

    setattr(Usual, hook, write_hook)


class Lean(LeanModule, Usual):
    pass


class Witness(lightning.Callback):
    """Writes down the hooks of callbacks, with what is logged from each."""


for hook in HOOKS:

    def see_hook(self, trainer, module, *arguments, hook=hook):
        module.write(f"callback {hook}", *arguments)
        if hook == "on_train_batch_end":
            module.log("of_callback", float(module.global_step))

    setattr(Witness, hook, see_hook)


def fit(module, folder, frames=5, resume=None, **arguments):
    trainer = lightning.Trainer(
        accelerator="cpu",
        callbacks=[Witness()],
        logger=CSVLogger(folder),
        log_every_n_steps=2,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **{"max_epochs": 2, **arguments},
    )
    data = [{"x": torch.tensor([1.0 + i, 0.5 * i])} for i in range(frames)]
    loaders = [torch.utils.data.DataLoader(data[:count], batch_size=None) for count in (frames, 2)]
    trainer.fit(module, *loaders, ckpt_path=resume)
    return trainer


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({}, {}),
        ({"gives": "dict"}, {"gradient_clip_val": 0.3}),
        ({"gives": "none"}, {}),
        ({"ends_at": 2}, {}),
        ({"schedule": {"interval": "step", "frequency": 3}}, {}),
        ({"schedule": {"interval": "epoch"}}, {}),
        ({"optimizer": torch.optim.LBFGS}, {}),
        ({}, {"val_check_interval": 2, "gradient_clip_val": 0.1, "gradient_clip_algorithm": "value"}),
        ({}, {"max_epochs": -1, "max_steps": 7}),
        ({}, {"limit_train_batches": 3, "check_val_every_n_epoch": 2}),
        ({}, {"limit_val_batches": 0}),
        ({}, {"accumulate_grad_batches": 2}),
        ({}, {"detect_anomaly": True}),
    ],
    ids=str,
)
def test_a_run_is_lightnings(options, arguments, tmp_path):
    usual, lean = Usual(**options), Lean(**options)
    trainers = fit(usual, tmp_path / "usual", **arguments), fit(lean, tmp_path / "lean", **arguments)
    assert len(usual.trace) > 30
    for here, there in zip(lean.trace, usual.trace, strict=True):
        # The optimizer itself in place of Lightning's, which calls it.
        assert [x for x in here if x != "SGD"] == [x for x in there if x not in ("SGD", "LightningSGD")]
    assert torch.equal(lean.weight, usual.weight)
    states = [trainer.fit_loop.state_dict() for trainer in trainers]
    assert states[0] == states[1]
    for name in ("callback_metrics", "logged_metrics", "progress_bar_metrics"):
        values = [describe(dict(getattr(trainer, name))) for trainer in trainers]
        assert values[0]
        assert values[0] == values[1]
    logs = [sorted((tmp_path / kind).rglob("metrics.csv")) for kind in ("usual", "lean")]
    assert logs[0][0].read_text() == logs[1][0].read_text()


def test_only_an_ordinary_step_is_taken(tmp_path, monkeypatch):
    seen, optimize = [], LeanEpochLoop._optimize
    monkeypatch.setattr(LeanEpochLoop, "_optimize", lambda *arguments: seen.append(1) or optimize(*arguments))
    trainer = fit(Lean(), tmp_path)
    assert trainer.global_step == len(seen) == 10
    assert fit(Lean(), tmp_path, accumulate_grad_batches=2).global_step == 6
    assert fit(Lean(), tmp_path, precision="bf16-mixed").global_step == 10
    assert len(seen) == 10
    assert type(trainer.fit_loop.epoch_loop) is not LeanEpochLoop  # a run of another module finds what it expects


def test_an_optimizer_that_asks_for_no_loss_is_told_of(tmp_path):
    class Silent(Lean):
        def optimizer_step(self, *arguments, **options):
            pass

    with pytest.raises(TrainingError, match="never asked for the loss"):
        fit(Silent(), tmp_path)


def test_a_run_goes_on_from_the_middle_of_an_epoch(tmp_path):
    """The first step after it is Lightning's own, the others are not."""
    weights = []
    for kind in (Usual, Lean):
        whole, part, rest = kind(), kind(), kind()
        fit(whole, tmp_path)
        trainer = fit(part, tmp_path, max_steps=3)
        path = tmp_path / f"{kind.__name__}.ckpt"
        trainer.save_checkpoint(path)
        fit(rest, tmp_path, resume=path)
        weights += [rest.weight.detach(), [entry[:4] for entry in rest.trace]]
    assert torch.equal(weights[0], weights[2])
    assert weights[1] == weights[3]

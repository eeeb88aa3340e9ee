"""What is not finite stops the run or is left out, and names its frames; what has no label is no zero."""

from __future__ import annotations

import copy
import math
import socket
from pathlib import Path

import lightning
import pytest
import torch
import torch.distributed as dist
from torch import nn

from nequip_like.cli.errors import run_cli
from nequip_like.data.graph import collate
from nequip_like.errors import ConfigError, TrainingError
from nequip_like.metrics import EnergyForceLoss, MeanSquaredError, MetricsManager
from nequip_like.training import EMALightningModule
from nequip_like.training.checkpointing.callback import ResumableCheckpoint
from nequip_like.training.gradients import sum_gradients
from nequip_like.training.nonfinite_guard import FiniteGuard, finite_frames
from nequip_like.workflow.train import train
from tests.processes import run_side_by_side

BAD = 6  # a frame of the training set


@pytest.fixture
def make_module(make_potential):
    def make(**changes):
        metrics = {"_target_": "nequip_like.metrics.EnergyForceMetrics"}
        arguments = {
            "model": make_potential().train(),
            "loss": EnergyForceLoss(),
            "optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.01},
            "val_metrics": metrics,
            "on_divergence": "ignore",  # of weights that go back, see test_recovering_module.py
        }
        return EMALightningModule(**{**arguments, **changes})

    return make


def fit(module, data, folder, callbacks=(), ckpt_path=None, **changes) -> lightning.Trainer:
    arguments = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "default_root_dir": folder,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "inference_mode": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
    }
    last = ResumableCheckpoint(dirpath=folder, filename="last", every_n_epochs=1, save_on_train_epoch_end=True)
    best = ResumableCheckpoint(dirpath=folder, filename="best", monitor="val0_epoch/weighted_sum")
    trainer = lightning.Trainer(**{**arguments, **changes}, callbacks=[*callbacks, last, best])
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True if ckpt_path else None)
    return trainer


def spoil(dataset, field: str, value: float, index: int = BAD) -> str:
    """Change a frame in memory, behind the checks of the data; gives its file and frame."""
    dataset.frames[index][field] = dataset.frames[index][field].clone()
    dataset.frames[index][field][0, 0] = value
    return dataset.origin(index)


class Watch(lightning.Callback):
    """State before and after each batch."""

    def __init__(self):
        self.before, self.after, self.frames = [], [], []

    def state(self, trainer, module):
        return copy.deepcopy(
            {
                "weights": [p.detach() for p in module.model.parameters()],
                "ema": [*module.ema.module.parameters(), module.ema.n_averaged],
                "optimizer": [x for s in trainer.optimizers[0].state.values() for x in s.values()],
                "schedule": [torch.tensor(s["lr"]) for s in trainer.optimizers[0].param_groups],
            }
        )

    def on_train_batch_start(self, trainer, module, batch, *_):
        self.frames.append(batch["frame_index"].tolist())
        self.before.append(self.state(trainer, module))

    def on_train_batch_end(self, trainer, module, *_):
        self.after.append(self.state(trainer, module))

    def unchanged(self, position: int) -> list[str]:
        """Parts that a batch left bit for bit as they were."""
        before, after = self.before[position], self.after[position]
        return [
            name
            for name in before
            if len(before[name]) == len(after[name])
            and all(torch.equal(one, two) for one, two in zip(before[name], after[name], strict=True))
        ]


# --- stop


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("forces", math.inf, r"the loss 'forces_mse' is inf; batch of \d: .*{origin}"),
        ("total_energy", -math.inf, r"the loss 'per_atom_energy_mse' is inf; batch of \d: .*{origin}"),
        ("pos", math.nan, r"the loss 'per_atom_energy_mse' is nan; predictions are not finite of {origin}\n"),
    ],
)
def test_loss_stops_the_run(field, value, message, make_data, make_module, tmp_path):
    data, module = make_data(batch_size=4), make_module()  # a list of up to four frames is whole
    origin = spoil(data.train_set, field, value)
    with pytest.raises(TrainingError, match=r"^epoch 0, step \d: " + message.format(origin=origin)) as error:
        fit(module, data, tmp_path)
    assert "on_non_finite=skip leaves such steps out" in error.value.advice
    assert "learning rate" in error.value.advice
    assert "\n" not in error.value.message
    assert list(tmp_path.glob("*.ckpt")) == []
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


def test_long_batches_are_cut_short(make_data, make_module, tmp_path):
    data, module = make_data(batch_size=14), make_module()
    spoil(data.train_set, "forces", math.inf)
    with pytest.raises(TrainingError, match=r"batch of 14: ([^,]+ frame \d+(, | and )){4}10 more\n"):
        fit(module, data, tmp_path)


def break_gradient(module, at: int):
    """The gradient of one parameter is infinite at one backward pass; gives the parameter's name."""
    name, parameter = next((n, p) for n, p in module.model.named_parameters() if p.dim() > 0)
    calls = []

    def hook(gradient):
        calls.append(1)
        return gradient * math.inf if len(calls) == at else gradient

    parameter.register_hook(hook)
    return name


def test_gradient_stops_the_run(make_data, make_module, tmp_path):
    data, module = make_data(), make_module()
    name = break_gradient(module, at=2)
    with pytest.raises(TrainingError, match=rf"^epoch 0, step 1: the gradient of '{name}' is not finite; batch of 5: "):
        fit(module, data, tmp_path)


class BreakWeights(lightning.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if batch_idx == self.at:
            with torch.no_grad():
                next(module.model.parameters()).fill_(math.nan)

    def __init__(self, at):
        self.at = at


@pytest.mark.parametrize(("at", "step"), [(0, 1), (2, 3)])
@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_weights_stop_the_run_and_are_never_saved(at, step, policy, make_data, make_module, tmp_path):
    """At the next step, or, after the last step of the epoch, before the validation and any checkpoint."""
    data, module = make_data(), make_module(on_non_finite=policy)
    name = next(n for n, _ in module.model.named_parameters())
    size = 4 if at == 2 else 5
    message = rf"^epoch 0, step {step}: the weights '{name}' are not finite; step before: batch of {size}: "
    with pytest.raises(TrainingError, match=message):
        fit(module, data, tmp_path, [BreakWeights(at)])
    assert list(tmp_path.glob("*.ckpt")) == []


def test_weights_are_looked_at_when_they_are_saved(make_data, make_module, tmp_path):
    """A checkpoint by steps, right after the step."""
    data, module = make_data(), make_module()
    saver = ResumableCheckpoint(dirpath=tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    with pytest.raises(TrainingError, match="step 2: the weights"):
        fit(module, data, tmp_path, [BreakWeights(1), saver])
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["step=1.ckpt"]
    saved = torch.load(tmp_path / "step=1.ckpt", weights_only=True)["state_dict"]
    assert all(torch.isfinite(tensor).all() for tensor in saved.values() if isinstance(tensor, torch.Tensor))


def test_last_good_checkpoint_stays(make_data, make_module, tmp_path):
    class BadLater(lightning.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 1:
                spoil(trainer.datamodule.train_set, "forces", math.inf)

    with pytest.raises(TrainingError, match=r"epoch 1"):
        fit(make_module(), make_data(), tmp_path, [BadLater()], max_epochs=3)
    for name in ("last", "best"):
        assert torch.load(tmp_path / f"{name}.ckpt", weights_only=True)["epoch"] == 0


def test_command_ends_with_one_line(compose, tmp_path, capfd):
    """SGD with a learning rate that blows up the weights: exit code 2, one line and advice, no traceback."""
    overrides = [
        "training_module.optimizer._target_=torch.optim.SGD",
        "training_module.optimizer.lr=1e200",
        "training_module.on_divergence.action=ignore",
        "training_module.lr_scheduler=null",
        "data.batch_size=5",
        "trainer.max_epochs=3",
        "run=[train]",
    ]
    assert run_cli(lambda: train(compose(*overrides))) == 2
    text = capfd.readouterr().err
    assert "error: epoch 0, step 1: the loss 'per_atom_energy_mse' is" in text
    assert "-> likely: too high a learning rate" in text
    assert "Traceback" not in text
    assert not list((tmp_path / "run").rglob("*.ckpt"))


# --- skip


@pytest.mark.parametrize(
    "schedule",
    [
        {"scheduler": {"_target_": "torch.optim.lr_scheduler.ExponentialLR", "gamma": 0.9}, "interval": "step"},
        {"_target_": "nequip_like.optim.LearningRate", "warmup": "linear", "warmup_length": {"steps": 50}},
    ],
    ids=["torch", "ours"],
)
def test_a_step_that_is_left_out_changes_nothing(schedule, make_data, make_module, tmp_path):
    """Weights with decay, Adam's moments, the average and a schedule by steps: as if the batch had not been."""
    data = make_data()
    origin = spoil(data.train_set, "forces", math.inf)
    module, watch = make_module(on_non_finite="skip", lr_scheduler=schedule), Watch()
    with pytest.warns(UserWarning, match=r"the loss 'forces_mse' is inf; batch of .*left out \(\d so far\)") as warned:
        trainer = fit(module, data, tmp_path, [watch], max_epochs=2, gradient_clip_val=1.0)
    assert sum("left out" in str(w.message) for w in warned) == 2
    assert data.train_set.origin(BAD) == origin
    bad = [i for i, frames in enumerate(watch.frames) if BAD in frames]
    assert len(bad) == 2
    for position in range(6):
        expected = ["weights", "ema", "optimizer", "schedule"] if position in bad else []
        assert watch.unchanged(position) == expected, position
    assert module.guard.skipped_steps == 2
    assert trainer.callback_metrics["skipped_steps"] == 2
    assert int(module.ema.n_averaged) == 1 + 4
    assert math.isfinite(trainer.callback_metrics["train_loss_epoch/weighted_sum"])


def test_count_survives_a_checkpoint(make_data, make_module, tmp_path):
    data = make_data()
    spoil(data.train_set, "forces", math.inf)
    with pytest.warns(UserWarning, match=r"left out \(\d so far\)"):
        fit(make_module(on_non_finite="skip"), data, tmp_path, max_epochs=2)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["nequip_like"]["skipped_steps"] == 2
    again = make_module(on_non_finite="skip")
    (tmp_path / "best.ckpt").unlink()
    with pytest.warns(UserWarning, match=r"3 so far|the best is sought"):
        fit(again, data, tmp_path / "again", max_epochs=3, ckpt_path=tmp_path / "last.ckpt")
    assert again.guard.skipped_steps == 3


@pytest.mark.parametrize("accumulate", [1, 2])
def test_epoch_values_are_those_of_the_steps_taken(accumulate, make_data, make_module, tmp_path):
    """With accumulation, all batches of a step are left out with it: the one with the bad frame, and its neighbour."""
    data = make_data(batch_size=3)
    spoil(data.train_set, "pos", math.nan)
    module = make_module(
        on_non_finite="skip",
        optimizer={"_target_": "torch.optim.SGD", "lr": 0.0},
        train_metrics={"_target_": "nequip_like.metrics.EnergyForceMetrics"},
    )
    watch = Watch()
    with pytest.warns(UserWarning, match="predictions are not finite of "):
        trainer = fit(module, data, tmp_path, [watch], accumulate_grad_batches=accumulate)
    steps = [watch.frames[i : i + accumulate] for i in range(0, 5, accumulate)]
    good = [frames for step in steps if not any(BAD in frames for frames in step) for frames in step]
    assert len(good) == 5 - len(next(step for step in steps if any(BAD in frames for frames in step)))
    expected = EnergyForceLoss()
    for frames in good:
        batch = collate([data.train_set[i] for i in frames])
        expected.update(module.model(batch), batch)
    for name, value in expected.compute().items():
        found = float(trainer.callback_metrics[f"train_loss_epoch/{name}"])
        assert found == pytest.approx(float(value), rel=1e-12), name
    assert math.isfinite(trainer.callback_metrics["train_metric_epoch/forces_rmse"])
    assert module.guard.skipped_steps == 1


def test_accumulated_batches_that_were_fine_are_not_named(make_data, make_module, tmp_path):
    data = make_data(batch_size=2)
    spoil(data.train_set, "forces", math.inf)
    with pytest.raises(TrainingError, match=r"the loss 'forces_mse' is inf; batch of 2: "):
        fit(make_module(), data, tmp_path, accumulate_grad_batches=7)


def test_gradient_that_is_left_out(make_data, make_module, tmp_path):
    data, module, watch = make_data(), make_module(on_non_finite="skip"), Watch()
    name = break_gradient(module, at=2)
    with pytest.warns(UserWarning, match=rf"the gradient of '{name}' is not finite; batch of 5: "):
        fit(module, data, tmp_path, [watch])
    # The schedule is None: its learning rate never changes.
    assert [watch.unchanged(i) for i in range(3)] == [
        ["schedule"],
        ["weights", "ema", "optimizer", "schedule"],
        ["schedule"],
    ]
    assert module.guard.skipped_steps == 1


def test_too_many_left_out(make_data, make_module, tmp_path):
    data = make_data()
    for index in range(14):
        spoil(data.train_set, "forces", math.inf, index)
    module = make_module(on_non_finite="skip", max_skipped_steps=2)  # an epoch has three
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(TrainingError, match=r"3 steps were left out, more than max_skipped_steps"),
    ):
        fit(module, data, tmp_path)


def test_an_epoch_without_any_step(make_data, make_module, tmp_path):
    data = make_data()
    for index in range(14):
        spoil(data.train_set, "forces", math.inf, index)
    with (
        pytest.warns(UserWarning, match=r"left out \(\d so far\)"),
        pytest.raises(TrainingError, match=r"^epoch 0, step 3: all steps of the epoch were left out"),
    ):
        fit(make_module(on_non_finite="skip"), data, tmp_path)
    assert not (tmp_path / "last.ckpt").exists()


def test_nothing_is_counted_where_all_is_finite(make_data, make_module, tmp_path):
    one, two = make_module(), make_module(on_non_finite="skip")
    trainers = [fit(module, make_data(), tmp_path / module.guard.policy) for module in (one, two)]
    assert trainers[1].callback_metrics["skipped_steps"] == 0
    assert "skipped_steps" not in trainers[0].callback_metrics
    for first, second in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"on_non_finite": "skipp"},
            r"^on_non_finite is 'skipp'\n  -> did you mean 'skip'\? give stop or skip",
        ),
        ({"on_non_finite": None}, r"on_non_finite is null"),
        ({"max_skipped_steps": 0}, r"^max_skipped_steps is 0\n  -> give a whole number, 1 or more"),
        ({"max_skipped_steps": 1.5}, r"max_skipped_steps is 1\.5"),
        ({"max_skipped_steps": True}, r"max_skipped_steps is true"),
    ],
)
def test_values_that_make_no_sense(changes, message, make_module):
    with pytest.raises(ConfigError, match=message):
        make_module(**changes)


# --- validation


def test_validation_names_set_and_frames(make_data, make_module, tmp_path):
    data = make_data()
    origin = spoil(data.val_sets["val"], "pos", math.nan, 3)
    message = rf"^epoch 0, step 3, val0_epoch: '\w+' is nan; the predictions of {origin} are not finite\n"
    with pytest.raises(TrainingError, match=message):
        fit(make_module(), data, tmp_path)
    assert list(tmp_path.glob("*.ckpt")) == []


def test_label_that_counts_as_nan(make_data, make_module, tmp_path):
    data = make_data()
    spoil(data.val_sets["val"], "forces", math.nan, 3)
    metrics = MetricsManager([{"field": "forces", "metric": MeanSquaredError, "coeff": 1.0, "ignore_nan": False}])
    with pytest.raises(TrainingError, match="'F_mse' is nan; all predicted energies and forces are finite") as error:
        fit(make_module(val_metrics=metrics), data, tmp_path)
    assert "ignore_nan: false" in error.value.advice


def test_values_that_are_not_finite_are_never_the_best(make_data, make_module, tmp_path):
    class GoodLater(lightning.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 1:
                trainer.datamodule.val_sets["val"].frames[3]["pos"][0, 0] = 0.1

    data = make_data()
    spoil(data.val_sets["val"], "pos", math.nan, 3)
    with pytest.warns(UserWarning, match="val0_epoch: .* not finite"):
        fit(make_module(on_non_finite="skip"), data, tmp_path, [GoodLater()], max_epochs=2)
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == 1


def test_values_without_labels_are_named_once_and_never_the_best(make_data, make_module, tmp_path):
    data = make_data()
    for frame in data.val_sets["val"].frames:
        frame["total_energy"] = torch.full_like(frame["total_energy"], math.nan)
        frame["forces"] = torch.full_like(frame["forces"], math.nan)
    with pytest.warns(UserWarning, match="has no value") as warned:
        trainer = fit(make_module(), data, tmp_path, max_epochs=2)
    texts = [str(w.message) for w in warned if "has no value" in str(w.message)]
    assert len(texts) == len(set(texts)) == 9
    assert (
        "'val0_epoch/forces_mae' has no value: no frame has a label for it that counts; it adds 0 to weighted_sum"
        in texts
    )
    assert math.isnan(trainer.callback_metrics["val0_epoch/weighted_sum"])
    assert not (tmp_path / "best.ckpt").exists()


def test_loss_terms_without_labels_are_named(make_data, make_module, tmp_path):
    data = make_data()
    for frame in data.train_set.frames:
        frame["forces"] = torch.full_like(frame["forces"], math.nan)
    with pytest.warns(UserWarning, match="'train_loss_epoch/forces_mse' has no value"):
        trainer = fit(make_module(), data, tmp_path)
    energy = float(trainer.callback_metrics["train_loss_epoch/per_atom_energy_mse"])
    assert float(trainer.callback_metrics["train_loss_epoch/weighted_sum"]) == pytest.approx(0.5 * energy, rel=1e-12)


# --- parts


def test_frames_that_are_finite():
    batch = {"num_atoms": torch.tensor([1, 2, 1]), "batch": torch.tensor([0, 1, 1, 2]), "pos": torch.zeros(4, 3)}
    forces = torch.zeros(4, 3)
    forces[2, 1] = math.inf
    prediction = {"total_energy": torch.tensor([[math.nan], [0.0], [0.0]]), "forces": forces}
    assert finite_frames(prediction, batch).tolist() == [False, False, True]
    assert finite_frames({"stress": torch.full((3, 3, 3), math.nan)}, batch).tolist() == [True, True, True]


def values_of(*losses: float):
    manager = MetricsManager([{"field": "total_energy", "metric": MeanSquaredError, "coeff": 1.0, "name": "E"}])
    graph = {"num_atoms": torch.tensor([1]), "total_energy": torch.zeros(1, 1), "frame_index": torch.tensor([4])}
    manager.step(graph, graph)
    for loss in losses:
        value = torch.tensor(loss, dtype=torch.float64)
        yield manager, graph, {"E": value, "weighted_sum": value}


def test_gradients_that_a_scaler_looks_after():
    """Infinite gradients are its business; an infinite loss is not."""
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([math.inf, 0.0])
    guard = FiniteGuard()
    for (manager, graph, values), sound in zip(values_of(1.0, math.inf), (True, False), strict=True):
        guard.see(graph, graph, values, manager)
        arguments = ([("w", parameter)], manager, str, lambda: "now", False)
        if sound:
            assert guard.judge(*arguments)
        else:
            with pytest.raises(TrainingError, match=r"^now: the loss 'E' is inf; batch of 1: 4\n"):
                guard.judge(*arguments)


def test_large_gradients_are_finite():
    """The root of their sum of squares would not be."""
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1e30, -1e30])
    guard = FiniteGuard()
    manager, graph, values = next(values_of(1.0))
    guard.see(graph, graph, values, manager)
    assert guard.judge([("w", parameter)], manager, str, lambda: "now")


# --- several processes


def judged(rank: int, folder: str) -> None:
    """The second process has a label that is infinite; then a gradient that is."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=Path(folder, "meet").read_text(), rank=rank, world_size=2)
    manager = MetricsManager([{"field": "total_energy", "metric": MeanSquaredError, "coeff": 1.0, "name": "E"}])
    results = []
    for label, factor, policy in ((math.inf, 1.0, "stop"), (math.inf, 1.0, "skip"), (0.0, math.inf, "stop")):
        weight = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
        energy = torch.ones(2, 1, dtype=torch.float64)
        target = {"num_atoms": torch.tensor([1, 1]), "total_energy": energy * 0, "frame_index": torch.arange(2) + rank}
        if rank == 1:
            weight.register_hook(lambda gradient, factor=factor: gradient * factor)
            target["total_energy"] = energy * label
        prediction = {"total_energy": weight * energy}
        values = manager.step(prediction, target)
        values["weighted_sum"].backward()
        sum_gradients([weight])
        guard = FiniteGuard(policy)
        guard.see(target, prediction, values, manager)
        try:
            results.append(str(guard.judge([("w", weight)], manager, str, lambda: "now")))
        except TrainingError as error:
            results.append(error.message)
        results.append(str(guard.skipped_steps))
    Path(folder, f"{rank}.txt").write_text("\n".join(results))
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_processes_judge_alike(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "meet").write_text(f"tcp://127.0.0.1:{free.getsockname()[1]}")
    run_side_by_side(judged, str(tmp_path))
    texts = [(tmp_path / f"{rank}.txt").read_text().splitlines() for rank in range(2)]
    assert texts[0] == texts[1]
    assert texts[0] == [
        "now: the loss 'E' is inf; batch of 4: 0, 1, 1, 2",
        "0",
        "False",
        "1",
        "now: the gradient of 'w' is not finite; batch of 4: 0, 1, 1, 2",
        "0",
    ]

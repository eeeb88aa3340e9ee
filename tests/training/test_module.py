"""The Lightning modules: loss by hand, logged names, averages of weights, checkpoints, missing labels and weights."""

from __future__ import annotations

import copy
import re

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from nequip_like.data import fields
from nequip_like.data.datamodule import DataModule
from nequip_like.data.graph import collate
from nequip_like.errors import ConfigError, ModelFileError
from nequip_like.metrics import EnergyForceLoss, EnergyForceMetrics, MeanSquaredError, MetricsManager
from nequip_like.training import EMALightningModule, NequIPLightningModule
from nequip_like.training.callbacks import StepCounters

EXACT = 1e-12
ADAM = {"_target_": "torch.optim.Adam", "lr": 0.01}
METRICS = {"_target_": "nequip_like.metrics.EnergyForceMetrics"}
SETS = ("total_energy", "per_atom_energy", "forces")
METRIC_NAMES = [f"{name}_{short}" for name in SETS for short in ("rmse", "mae", "maxabserr")] + ["weighted_sum"]
LOSS_NAMES = ["per_atom_energy_mse", "forces_mse", "weighted_sum"]


@pytest.fixture
def make_module(make_potential):
    def make(kind=NequIPLightningModule, **changes):
        arguments = {
            "model": make_potential().train(),
            "loss": EnergyForceLoss(),
            "optimizer": ADAM,
            "train_metrics": METRICS,
            "val_metrics": METRICS,
            "test_metrics": METRICS,
        }
        return kind(**{**arguments, **changes})

    return make


def make_trainer(folder, **changes) -> lightning.Trainer:
    arguments = {
        "accelerator": "cpu",
        "max_epochs": 2,
        "default_root_dir": folder,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "inference_mode": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
    }
    return lightning.Trainer(**{**arguments, **changes})


class Recorder(lightning.pytorch.loggers.logger.DummyLogger):
    """Keeps the names of everything that is logged."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def log_metrics(self, metrics, step=None):
        self.names |= set(metrics) - {"epoch"}


# --- loss


def batch_of(data: DataModule, size: int):
    return collate([data.train_set[i] for i in range(size)])


def test_loss_of_a_step_is_the_sum_written_out(make_data, make_module):
    module, batch = make_module(), batch_of(make_data(), 3)
    prediction = module.model(batch)
    energy = (prediction["total_energy"] - batch["total_energy"]).detach().numpy()[:, 0] / 4
    forces = (prediction["forces"] - batch["forces"]).detach().numpy()
    expected = 0.5 * np.mean(energy**2) + 0.5 * np.sum(forces**2) / (3 * 4 * 3)
    assert module.training_step(batch, 0).item() == pytest.approx(expected, rel=EXACT)


def test_missing_labels_and_weights_in_a_step(make_data, make_module):
    """Energies of frames 0 and 2, forces of frames 0 and 1 without one atom, weights of frames and atoms."""
    graphs = [dict(make_data().train_set[i]) for i in range(3)]
    frame_weights, atom_weights = [1.0, 3.0, 0.5], [1.0, 2.0, 0.0, 4.0]
    for graph, weight in zip(graphs, frame_weights, strict=True):
        graph["frame_weight"] = torch.tensor([[weight]], dtype=torch.float64)
        graph["atom_weight"] = torch.tensor(atom_weights, dtype=torch.float64)[:, None]
    graphs[1]["total_energy"] = torch.full((1, 1), torch.nan, dtype=torch.float64)
    graphs[2]["forces"] = torch.full((4, 3), torch.nan, dtype=torch.float64)
    graphs[0]["forces"] = graphs[0]["forces"].clone()
    graphs[0]["forces"][1] = torch.nan
    batch = collate(graphs)

    module = make_module(loss=EnergyForceLoss(coeffs={"total_energy": 3.0, "forces": 1.0}))
    prediction = {name: value.detach() for name, value in module.model(batch).items()}
    energy_sum = energy_count = force_sum = force_count = 0.0
    for i in range(3):
        if i != 1:
            error = float(prediction["total_energy"][i, 0] - batch["total_energy"][i, 0]) / 4
            energy_sum, energy_count = energy_sum + frame_weights[i] * error**2, energy_count + frame_weights[i]
        for j in range(4):
            if i == 2 or (i, j) == (0, 1):
                continue
            for k in range(3):
                error = float(prediction["forces"][4 * i + j, k] - batch["forces"][4 * i + j, k])
                weight = frame_weights[i] * atom_weights[j]
                force_sum, force_count = force_sum + weight * error**2, force_count + weight
    expected = 0.75 * energy_sum / energy_count + 0.25 * force_sum / force_count

    loss = module.training_step(batch, 0)
    assert loss.item() == pytest.approx(expected, rel=EXACT)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in module.model.parameters() if p.grad is not None)


def test_frames_that_do_not_count_leave_the_gradient_alone(make_data, make_module):
    """A frame of weight 0, or without labels, beside another one: loss and gradient are those of the other alone."""
    first, second = (dict(make_data().train_set[i]) for i in range(2))
    alone = make_module()
    alone.training_step(collate([first]), 0).backward()
    no_labels = {
        **second,
        "total_energy": torch.full_like(second["total_energy"], torch.nan),
        "forces": torch.full_like(second["forces"], torch.nan),
    }
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    for pair in ([first, no_labels], [first | {"frame_weight": one}, second | {"frame_weight": zero}]):
        module = make_module()
        module.training_step(collate(pair), 0).backward()
        for (name, here), there in zip(module.model.named_parameters(), alone.model.parameters(), strict=True):
            if there.grad is not None:
                torch.testing.assert_close(here.grad, there.grad, rtol=1e-10, atol=EXACT, msg=name)


# --- what is logged


@pytest.mark.parametrize("kind", [NequIPLightningModule, EMALightningModule])
def test_names_that_are_logged(kind, make_data, make_module, tmp_path):
    data = make_data(val=[3, 2], test=[3, 2])
    module = make_module(kind, num_datasets={"val": 2, "test": 2})
    recorder = Recorder()
    trainer = make_trainer(tmp_path, logger=recorder, max_epochs=1)
    trainer.fit(module, datamodule=data)
    trained = recorder.names
    assert trained == {
        *(f"train_loss_{when}/{name}" for when in ("step", "epoch") for name in LOSS_NAMES),
        *(f"train_loss_share/{name}" for name in LOSS_NAMES if name != "weighted_sum"),
        *(f"train_metric_{when}/{name}" for when in ("step", "epoch") for name in METRIC_NAMES),
        *(f"val{i}_epoch/{name}" for i in range(2) for name in METRIC_NAMES),
    }
    assert set(module.validation_names()) == {name for name in trained if name.startswith("val")}
    recorder.names = set()
    trainer.test(module, datamodule=data, verbose=False)
    assert recorder.names == {f"test{i}_epoch/{name}" for i in range(2) for name in METRIC_NAMES}


class Rows(lightning.pytorch.loggers.logger.DummyLogger):
    """Keeps everything that is logged."""

    def __init__(self):
        super().__init__()
        self.rows: list[tuple] = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, {name: float(value) for name, value in metrics.items()}))


class EachStep(lightning.Callback):
    """Keeps what callbacks see after each batch; ends the training in the second epoch of 7 batches."""

    def __init__(self):
        self.seen: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, *arguments):
        self.seen.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        trainer.should_stop = len(self.seen) == 10


class LogsMore(NequIPLightningModule):
    """Logs a value of its own after the usual ones; Lightning clears what was logged at the first batch of an epoch."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("mine", loss.detach())
        return loss


class LogsOtherwise(NequIPLightningModule):
    """Logs a value beside each of the usual ones."""

    def log(self, name, value, *arguments, **options):
        super().log(name, value, *arguments, **options)
        if name == "train_loss_step/weighted_sum":
            super().log("train_loss_step/double", 2 * value, *arguments, **options)


class LogsEpochs(NequIPLightningModule):
    """Means over the epoch, too, for which sizes of batches count."""

    def log_dict(self, values, **options):
        of_batch = any(name.startswith("train_loss_step") for name in values)
        super().log_dict(values, **options, **({"on_step": True, "on_epoch": True} if of_batch else {}))


@pytest.mark.parametrize(
    ("kind", "every", "accumulate"),
    [
        (NequIPLightningModule, 1, 1),
        (EMALightningModule, 3, 2),
        (LogsMore, 1, 1),
        (LogsOtherwise, 1, 1),
        (LogsEpochs, 1, 1),
    ],
)
def test_what_is_logged_again_is_what_lightning_logs(
    kind, every, accumulate, make_data, make_module, tmp_path, monkeypatch
):
    """Values of a step take a shorter way from the second one on, to the same loggers and callbacks."""
    logged = []
    for shorter in (True, False):
        torch.manual_seed(0)
        with monkeypatch.context() as patch:
            if not shorter:
                patch.setattr("nequip_like.training.module.log_again", lambda trainer, values: False)
            rows, steps = Rows(), EachStep()
            options = {"log_every_n_steps": every, "accumulate_grad_batches": accumulate, "max_epochs": 3}
            trainer = make_trainer(tmp_path, logger=rows, callbacks=[steps, StepCounters()], **options)
            trainer.fit(make_module(kind, num_datasets={"val": 2}), datamodule=make_data(batch_size=2, val=[3, 2]))
        logged.append((rows.rows, steps.seen))
    shorter, longer = logged
    assert shorter == longer
    assert len({values["train_loss_step/weighted_sum"] for values in shorter[1]}) == len(shorter[1]) == 10


def test_lightning_logs_once(make_data, make_module, tmp_path, monkeypatch):
    """After the first epoch no value of a step, a validation, an epoch or a counter takes Lightning's longer way."""
    epochs = []
    log = lightning.LightningModule.log

    def note(module, name, *arguments, **options):
        epochs.append(module.current_epoch)
        log(module, name, *arguments, **options)

    monkeypatch.setattr(lightning.LightningModule, "log", note)
    trainer = make_trainer(tmp_path, logger=Rows(), callbacks=[StepCounters()], max_epochs=3)
    trainer.fit(make_module(), datamodule=make_data(batch_size=2))
    assert set(epochs) == {0}


def test_each_set_has_its_own_numbers(make_data, make_module, tmp_path):
    data = make_data(val=[3, 2])
    module = make_module(num_datasets={"val": 2})
    trainer = make_trainer(tmp_path)
    trainer.validate(module, datamodule=data, verbose=False)
    for i, dataset in enumerate(data.val_sets.values()):
        manager = EnergyForceMetrics()
        batch = collate(list(dataset))
        manager.update(module.model(batch), batch)
        for name, value in manager.compute().items():
            assert float(trainer.callback_metrics[f"val{i}_epoch/{name}"]) == pytest.approx(float(value), rel=EXACT)


def test_epoch_values_do_not_depend_on_the_batch_size(make_data, make_module, tmp_path):
    """The validation set has 7 frames, so batches of 3 leave a rest."""
    module = make_module()
    found = []
    for size in (1, 3, 16):
        trainer = make_trainer(tmp_path)
        trainer.validate(module, datamodule=make_data(val=7, val_batch_size=size), verbose=False)
        found.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    assert found[0].keys() == {f"val0_epoch/{name}" for name in METRIC_NAMES}
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=EXACT)


# --- evaluation


def test_evaluation_gives_forces_without_gradients_of_weights(make_data, make_module, tmp_path):
    """Lightning turns autograd off around validation; forces need it, weights do not."""
    data, module = make_data(), make_module()
    batch = collate(list(data.val_sets["val"]))
    with torch.no_grad():
        prediction = module.evaluation_model(batch)
    assert not prediction["forces"].requires_grad
    torch.testing.assert_close(prediction["forces"], module.model(batch)["forces"].detach(), rtol=EXACT, atol=EXACT)
    assert prediction["forces"].abs().max() > 0
    assert all(parameter.grad is None for parameter in module.parameters())


# --- averages


def test_average_is_beside_the_weights_and_evaluated(make_data, make_module, tmp_path):
    data, module = make_data(), make_module(EMALightningModule, ema_decay=0.9)
    trainer = make_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, datamodule=data)
    raw, averaged = module.model.state_dict(), module.ema.module.state_dict()
    assert any(not torch.equal(raw[name], averaged[name]) for name in raw)
    trainer.validate(module, datamodule=data, verbose=False)
    found = float(trainer.callback_metrics["val0_epoch/forces_rmse"])
    batch = collate(list(data.val_sets["val"]))
    rmse = {
        name: (model(batch)["forces"] - batch["forces"]).square().mean().sqrt().item()
        for name, model in (("raw", module.model), ("ema", module.ema.module))
    }
    assert found == pytest.approx(rmse["ema"], rel=EXACT)
    assert abs(found - rmse["raw"]) > 1e-6
    assert module.forward(batch)["forces"].detach().equal(module.model(batch)["forces"].detach())


def test_average_follows_each_optimizer_step(make_data, make_module, tmp_path):
    """Three steps of training, the average recomputed from the weights after each step."""
    steps: list[torch.Tensor] = []

    class Watch(lightning.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            steps.append(torch.nn.utils.parameters_to_vector(module.model.parameters()).detach().clone())

    module = make_module(EMALightningModule, ema_decay=0.2)
    expected = torch.nn.utils.parameters_to_vector(module.model.parameters()).detach().clone()
    make_trainer(tmp_path, max_steps=3, max_epochs=-1, callbacks=[Watch()]).fit(module, datamodule=make_data())
    for n, weights in enumerate(steps, start=1):
        decay = min(0.2, (1 + n) / (10 + n))
        expected += (1 - decay) * (weights - expected)
    assert len(steps) == 3
    found = torch.nn.utils.parameters_to_vector(module.ema.module.parameters())
    torch.testing.assert_close(found, expected, rtol=EXACT, atol=EXACT)


def test_average_counts_optimizer_steps_not_batches(make_data, make_module, tmp_path):
    module = make_module(EMALightningModule)
    make_trainer(tmp_path, max_epochs=1, accumulate_grad_batches=3).fit(module, datamodule=make_data())
    assert int(module.ema.n_averaged) == 1 + 1  # 14 frames in batches of 5 are three batches, one step


# --- checkpoints


class Everywhere(lightning.Callback):
    """Writes a checkpoint at every possible moment."""

    def __init__(self, folder):
        self.folder = folder
        self.files = []

    def save(self, trainer, when):
        path = self.folder / f"{len(self.files):03d}_{when}.ckpt"
        trainer.save_checkpoint(path)
        self.files.append(path)

    def on_train_batch_end(self, trainer, *_):
        self.save(trainer, "train_batch_end")

    def on_validation_start(self, trainer, *_):
        self.save(trainer, "validation_start")

    def on_validation_batch_end(self, trainer, *_):
        self.save(trainer, "validation_batch_end")

    def on_validation_end(self, trainer, *_):
        self.save(trainer, "validation_end")

    def on_train_epoch_end(self, trainer, *_):
        self.save(trainer, "train_epoch_end")


@pytest.mark.parametrize("schedule", [{"val_check_interval": 0.5}, {"check_val_every_n_epoch": 2}])
def test_every_checkpoint_has_both_sets_of_weights(schedule, make_data, make_module, tmp_path):
    data, module = make_data(batch_size=3), make_module(EMALightningModule, ema_decay=0.9)
    everywhere = Everywhere(tmp_path)
    make_trainer(tmp_path, callbacks=[everywhere], enable_checkpointing=True, **schedule).fit(module, datamodule=data)
    whens = {re.sub(r"\d+_", "", path.stem) for path in everywhere.files}
    assert whens == {
        "train_batch_end",
        "validation_start",
        "validation_batch_end",
        "validation_end",
        "train_epoch_end",
    }
    names = module.model.state_dict().keys()
    for path in everywhere.files:
        content = torch.load(path, weights_only=True)
        state = content["state_dict"]
        raw = {name: state[f"model.{name}"] for name in names}
        averaged = {name: state[f"ema.module.{name}"] for name in names}
        step = content["global_step"]
        assert int(state["ema.n_averaged"]) == 1 + step, path
        # After the first step they differ; the raw ones are those that the optimizer steps.
        assert any(not torch.equal(raw[name], averaged[name]) for name in names), path
        optimizer = content["optimizer_states"][0]
        assert len(optimizer["state"]) > 0
        assert content["nequip_like"]["uses_ema"] is True
    last = torch.load(everywhere.files[-1], weights_only=True)["state_dict"]
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            assert torch.equal(last[name], tensor), name


def test_checkpoint_tells_its_metrics_and_where_it_comes_from(make_data, make_module, tmp_path):
    module = make_module(EMALightningModule, info={"versions": {"torch": "x"}, "overrides": ["a=b"]})
    best = ModelCheckpoint(tmp_path, "best", monitor="val0_epoch/weighted_sum", save_top_k=1)
    trainer = make_trainer(tmp_path, callbacks=[best], enable_checkpointing=True, max_epochs=3)
    trainer.fit(module, datamodule=make_data())
    own = torch.load(best.best_model_path, weights_only=True)["nequip_like"]
    assert own["potential"] == module.model.config
    assert own["overrides"] == ["a=b"]
    assert own["metrics"].keys() == set(module.validation_names())
    assert own["metrics"]["val0_epoch/weighted_sum"] == float(best.best_model_score)


def test_checkpoints_of_others_are_refused(make_module):
    plain, averaged = make_module(), make_module(EMALightningModule)

    def checkpoint_of(module):
        checkpoint = {"state_dict": copy.deepcopy(module.state_dict())}
        module.on_save_checkpoint(checkpoint)
        return checkpoint

    with pytest.raises(ModelFileError, match="is not a checkpoint of nequip_like"):
        plain.on_load_checkpoint({"state_dict": {}})
    newer = checkpoint_of(plain)
    newer["nequip_like"]["format_version"] += 1
    with pytest.raises(ModelFileError, match="install a newer"):
        plain.on_load_checkpoint(newer)
    with pytest.raises(ModelFileError, match="_target_ of EMALightningModule"):
        plain.on_load_checkpoint(checkpoint_of(averaged))
    with pytest.raises(ModelFileError, match="_target_ of NequIPLightningModule"):
        averaged.on_load_checkpoint(checkpoint_of(plain))


def test_checkpoint_of_another_model_is_refused(make_module, make_potential):
    other = make_module(model=make_potential(num_features=6))
    checkpoint = {"state_dict": other.state_dict()}
    other.on_save_checkpoint(checkpoint)
    with pytest.raises(ModelFileError, match=r"another model: 'model\."):
        make_module().on_load_checkpoint(checkpoint)


def test_checkpoint_loads_with_other_sets_to_test_on(make_module):
    two = make_module(num_datasets={"val": 1, "test": 2})
    checkpoint = {"state_dict": two.state_dict()}
    two.on_save_checkpoint(checkpoint)
    three = make_module(num_datasets={"val": 2, "test": 3}, test_metrics=EnergyForceMetrics({"forces_mae": 1.0}))
    three.on_load_checkpoint(checkpoint)
    three.load_state_dict(checkpoint["state_dict"])
    assert three.test_metrics[2].coeffs["forces_mae"] == 1.0


# --- mistakes


def test_loss_without_a_weighted_sum_is_refused(make_module):
    only_observed = MetricsManager([{"field": fields.FORCES, "metric": MeanSquaredError}])
    with pytest.raises(ConfigError, match="loss has no term with a coefficient"):
        make_module(loss=only_observed)


def test_missing_parts_are_named(make_data, make_module, tmp_path):
    with pytest.raises(ConfigError, match=r"^optimizer is not given\n.*torch\.optim\.Adam"):
        make_trainer(tmp_path).fit(make_module(optimizer=None), datamodule=make_data())
    with pytest.raises(ConfigError, match=r"^loss is not given"):
        make_trainer(tmp_path).fit(make_module(loss=None), datamodule=make_data())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"r_max": 3.0}}, r"^model has no _target_"),
        ({"model": 3}, r"^model has no _target_"),
        ({"model": {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}}, "no Potential"),
        ({"loss": {"_target_": "nequip_like.training.EnergyForceLos"}}, r"^loss: .*EnergyForceLos"),
        ({"loss": {"_target_": "nequip_like.metrics.EnergyForceLoss", "coefs": {}}}, "coefs"),
        ({"loss": {"_target_": "nequip_like.metrics.EnergyForceLoss", "coeffs": {"force": 1.0}}}, "'force'"),
        ({"val_metrics": {"_target_": "torch.nn.Identity"}}, "no MetricsManager"),
    ],
)
def test_parts_that_cannot_be_built(changes, message, make_module):
    with pytest.raises(ConfigError, match=message):
        make_module(**changes)

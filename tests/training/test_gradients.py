"""Several batches of a step are one large batch: gradients, whatever labels are missing, at any number of processes."""

from __future__ import annotations

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from nequip_like.data.datamodule import DataModule
from nequip_like.data.graph import collate
from nequip_like.errors import ConfigError, TrainingError
from nequip_like.instantiate import instantiate
from nequip_like.metrics import EnergyForceLoss, EnergyForceStressLoss, MetricsManager, RootMeanSquaredError
from nequip_like.training import NequIPLightningModule
from nequip_like.training.gradients import check_can_accumulate
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.train import train
from tests.processes import environment, run_python


def term(field: str, metric: str) -> dict:
    return {"name": field, "field": field, "coeff": 1.0, "metric": {"_target_": f"nequip_like.metrics.{metric}"}}


RMSE = [term("total_energy", "MeanSquaredError"), term("forces", "RootMeanSquaredError")]


class Gradients(lightning.Callback):
    """Gradients of each step."""

    def __init__(self):
        self.steps = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.steps.append({n: p.grad.clone() for n, p in module.model.named_parameters() if p.grad is not None})


@pytest.fixture
def gradients(make_potential, quiet_trainer):
    """Gradients of all steps of an epoch, with weights that stay as they are."""

    def run(data, accumulate, loss=None, dtype="float64", loader=None, **changes) -> list[dict[str, torch.Tensor]]:
        model = make_potential(type_names=data.type_names, model_dtype=dtype, seed=1).train()
        optimizer = {"_target_": "torch.optim.SGD", "lr": 1e-30}
        module = NequIPLightningModule(model, loss or EnergyForceStressLoss(), optimizer)
        watch = Gradients()
        trainer = quiet_trainer(callbacks=[watch], accumulate_grad_batches=accumulate, **changes)
        if loader is None:
            trainer.fit(module, datamodule=data)
        else:
            trainer.fit(module, train_dataloaders=loader)
        return watch.steps

    return run


@pytest.fixture
def crystals(crystal_file):
    """16 of 24 crystals train, or fewer; of some the stress is missing, of some the energy, of some a few forces."""

    def make(batch_size, held_out=8, weighted=False) -> DataModule:
        data = DataModule(str(crystal_file), held_out, cutoff_radius=3.0, batch_size=batch_size, seed=3).prepare()
        for i, frame in enumerate(data.train_set.frames):
            if i % 3 != 1:
                frame["stress"] = torch.full_like(frame["stress"], torch.nan)
            if i % 5 == 0:
                frame["total_energy"] = torch.full_like(frame["total_energy"], torch.nan)
            if i % 4 == 2:
                frame["forces"] = frame["forces"].clone()
                frame["forces"][:3] = torch.nan
            if weighted:
                frame["frame_weight"] = torch.full((1, 1), 0.5 + i, dtype=torch.float64)
        return data

    return make


def same(one, two, tolerance: float) -> None:
    """The same gradients in each step, to a part of the largest component."""
    assert len(one) == len(two)
    for first, second in zip(one, two, strict=True):
        assert first.keys() == second.keys()
        scale = max(gradient.abs().max().item() for gradient in second.values())
        assert scale > 1e-3
        for name, gradient in first.items():
            assert (gradient - second[name]).abs().max().item() <= tolerance * scale, name


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)])
def test_four_batches_of_four_are_one_of_sixteen(dtype, tolerance, crystals, gradients):
    several = gradients(crystals(4), 4, dtype=dtype)
    assert len(several) == 1
    same(several, gradients(crystals(16), 1, dtype=dtype), tolerance)


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "held_out", "steps"),
    [(4, 2, 10, 2), (3, 3, 10, 2), (3, 4, 11, 2), (1, 16, 8, 1), (5, 7, 10, 1)],
)
def test_steps_at_the_end_of_an_epoch(batch_size, accumulate, held_out, steps, crystals, gradients):
    """A last batch that is smaller, and a last step of fewer batches, which Lightning would divide by all."""
    several = gradients(crystals(batch_size, held_out), accumulate)
    assert len(several) == steps
    same(several, gradients(crystals(batch_size * accumulate, held_out), 1), 1e-12)


def test_part_of_an_epoch(crystals, gradients):
    """Three of four batches: a step of two and one of one."""
    several = gradients(crystals(4), 2, limit_train_batches=3)
    same(several[:1], gradients(crystals(8), 1, limit_train_batches=1), 1e-12)
    assert len(several) == 2


def test_weights_of_frames(crystals, gradients):
    same(gradients(crystals(4, weighted=True), 4), gradients(crystals(16, weighted=True), 1), 1e-12)


def test_terms_per_type(make_data, gradients):
    """A type that only some batches have labels of."""

    def data(batch_size):
        made = make_data(batch_size=batch_size)
        for i, frame in enumerate(made.train_set.frames):
            if i % 4:
                frame["forces"] = frame["forces"].clone()
                frame["forces"][1:2] = torch.nan  # the oxygen
        return made

    def loss():
        return EnergyForceLoss(per_type_forces_coeffs={"H": 1.0, "C": 2.0, "O": 5.0}, type_names=["H", "C", "O"])

    same(gradients(data(3), 3, loss()), gradients(data(9), 1, loss()), 1e-12)


def test_frames_are_counted_once(crystals, gradients, monkeypatch):
    """Two epochs: the labels of a frame are looked at in the first only."""
    looked, count = [], MetricsManager.label_counts

    def watched(self, graph):
        looked.append(int(graph["frame_index"]))
        return count(self, graph)

    monkeypatch.setattr(MetricsManager, "label_counts", watched)
    assert len(gradients(crystals(4), 2, max_epochs=2)) == 4
    assert sorted(looked) == list(range(16))
    looked.clear()
    gradients(crystals(4), 1)
    assert looked == []


def test_logged_loss_is_that_of_the_batch(crystals, make_potential, quiet_trainer):
    """Not the batch's share of the step."""
    logged = []

    class Watch(lightning.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            loss = EnergyForceStressLoss()
            expected = loss.step(module.model(batch), batch)["weighted_sum"].item()
            logged.append((trainer.callback_metrics["train_loss_step/weighted_sum"].item(), expected))

    data = crystals(4)
    optimizer = {"_target_": "torch.optim.SGD", "lr": 1e-30}
    module = NequIPLightningModule(make_potential(type_names=["Cu"]).train(), EnergyForceStressLoss(), optimizer)
    quiet_trainer(callbacks=[Watch()], accumulate_grad_batches=2).fit(module, datamodule=data)
    assert len(logged) == 4
    for found, expected in logged:
        assert found == pytest.approx(expected, rel=1e-12)


# --- where it cannot be


def test_losses_that_batches_do_not_add_up_to(crystals, gradients, compose):
    message = (
        r"accumulate_grad_batches is above 1, but .*'forces' \(RootMeanSquaredError\).*\n.*a larger data\.batch_size"
    )
    loss = {"_target_": "nequip_like.metrics.MetricsManager", "metrics": RMSE}
    with pytest.raises(ConfigError, match=message):
        check_can_accumulate(instantiate("loss", loss))
    with pytest.raises(ConfigError, match=message):
        gradients(crystals(4), 2, instantiate("loss", loss))
    assert len(gradients(crystals(4), 1, instantiate("loss", loss))) == 4
    config = compose("trainer.accumulate_grad_batches=2")
    config.training_module.loss = loss
    with pytest.raises(ConfigError, match=message):
        check_config(config)
    config.trainer.accumulate_grad_batches = 1
    check_config(config)


def test_an_observed_term_may_be_any():
    observed = {"name": "observed", "field": "forces", "metric": RootMeanSquaredError}
    check_can_accumulate(EnergyForceStressLoss(extra_metrics=[observed]))


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_loader_whose_order_is_not_known(crystals, gradients):
    """Each batch is divided by its own labels, as Lightning does; it is said once."""
    data = crystals(4)
    loader = DataLoader(data.train_set, batch_size=4, collate_fn=collate)
    with pytest.warns(UserWarning, match="the order of the training frames is not known") as warned:
        found = gradients(data, 2, loader=loader)
    assert len(found) == 2
    assert sum("order of the training frames" in str(w.message) for w in warned) == 1
    single = gradients(data, 1, loader=DataLoader(data.train_set, batch_size=4, collate_fn=collate))
    means = [{name: (a[name] + b[name]) / 2 for name in a} for a, b in (single[:2], single[2:])]
    same(found, means, 1e-12)


def test_loader_with_other_frames(crystals, gradients):
    data = crystals(4)
    for i, frame in enumerate(data.train_set.frames):
        frame["frame_index"] = torch.tensor([15 - i])
    with pytest.raises(TrainingError, match="has other frames than the order of the training data tells"):
        gradients(data, 4)


# --- several processes

RUN = (
    "data.val=4",
    "data.test=null",
    "run=[train]",
    "targets=energy_force_stress",
    "training_module=default",
    "training_module.optimizer._target_=torch.optim.SGD",
    "training_module.optimizer.lr=1e-4",
    "training_module.lr_scheduler=null",
    "model.avg_num_neighbors=10.0",
    "model.per_type_energy_scales=1.0",
    "data.reference_energies=null",
)


def weights(folder) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}


@pytest.mark.slow
def test_two_processes_that_accumulate(compose, tiny, write_labelled, tmp_path):
    """Steps of 2 x 2 x 2 frames and of 1 x 8; 14 frames, whose stress and forces are often missing."""
    file = write_labelled(tmp_path / "data.xyz", frames=18)
    single, double = tmp_path / "one", tmp_path / "two"
    train(compose(*RUN, f"data.train={file}", "data.batch_size=8", f"output_dir={single}"))
    overrides = [
        *("-cn", "train", f"data.train={file}", "cutoff_radius=4.0", *tiny, *RUN, "data.batch_size=2"),
        *(f"output_dir={double}", "trainer.devices=2", "trainer.strategy=ddp", "trainer.accumulate_grad_batches=2"),
    ]
    done = run_python(
        "-m", "nequip_like.cli.train", *overrides, cwd=tmp_path, env=environment(PYTHONWARNINGS="default")
    )
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = weights(single), weights(double)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-12, atol=1e-12, msg=name)

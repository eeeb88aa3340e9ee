"""Sampling by errors in whole trainings: what is told, and that a resumed run goes on with it."""

import lightning
import numpy as np
import pytest
import torch

from nequip_like.errors import ConfigError
from nequip_like.metrics import EnergyForceLoss
from nequip_like.training import NequIPLightningModule
from nequip_like.workflow.train import train

ADAM = {"_target_": "torch.optim.Adam", "lr": 0.01}


@pytest.fixture
def make_module(make_potential):
    def make(data):
        potential = make_potential(type_names=data.type_names).train()
        return NequIPLightningModule(model=potential, loss=EnergyForceLoss(), optimizer=ADAM)

    return make


class Scores(lightning.Callback):
    """Writes down the scores that each epoch is drawn by, and those at the end of training."""

    def __init__(self):
        self.scores = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.scores.append(trainer.train_dataloader.frame_order.scores.copy())

    on_train_end = on_train_epoch_start


def test_scores_are_the_errors_of_the_epoch(make_data, quiet_trainer, make_module):
    from nequip_like.training.callbacks import FrameErrors

    data = make_data(sampling={"policy": "error_weighted"})
    module = make_module(data)
    sums, draws = np.zeros(len(data.train_set)), np.zeros(len(data.train_set))

    def observe(batch, prediction):
        if module.current_epoch > 0:
            return
        errors = (prediction["total_energy"] - batch["total_energy"]).abs().flatten() / batch["num_atoms"]
        for frame, error in zip(batch["frame_index"].tolist(), errors.tolist(), strict=True):
            sums[frame] += error
            draws[frame] += 1

    module.prediction_observers.append(observe)
    scores = Scores()
    quiet_trainer(max_epochs=2, callbacks=[FrameErrors(), scores]).fit(module, datamodule=data)
    expected = np.where(draws > 0, sums / np.maximum(draws, 1), 1.0)
    assert scores.scores[0].tolist() == [1.0] * len(draws)
    assert scores.scores[1] == pytest.approx(expected, rel=1e-12)
    assert 0 < (draws == 0).sum() < len(draws)


def test_somebody_has_to_tell_the_errors(make_data, quiet_trainer, make_module):
    data = make_data(sampling={"policy": "error_weighted"})
    with pytest.raises(ConfigError, match="but no callback tells the errors of frames"):
        quiet_trainer(max_epochs=1).fit(make_module(data), datamodule=data)


@pytest.mark.parametrize(
    "stop",
    [pytest.param("trainer.max_epochs=2", marks=pytest.mark.slow), "trainer.max_steps=5"],
    ids=["epoch", "within"],
)
def test_a_resumed_run_is_the_uninterrupted_one(stop, compose, tmp_path):
    """Weights and monitored values to the last bit, stopped at the end of an epoch and within one."""
    changes = ["data.sampling={policy: error_weighted}", "run=[train]"]
    whole = train(compose(*changes, "trainer.max_epochs=4", f"output_dir={tmp_path}/whole"))
    expected = torch.load(whole.folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    folder = f"output_dir={tmp_path}/part"
    train(compose(*changes, stop, folder))
    train(compose(*changes, "trainer.max_epochs=4", "trainer.max_steps=-1", folder, "resume=auto"))
    found = torch.load(tmp_path / "part" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    weights = [key for key, value in expected.items() if torch.is_tensor(value)]
    assert len(weights) > 5
    assert all(torch.equal(found[key], expected[key]) for key in weights)


def test_training_that_ends_within_an_epoch_leaves_its_scores(make_data, quiet_trainer, make_module):
    """The order of the epoch goes by the scores that it began with: what is written now has to go on with them."""
    from nequip_like.training.callbacks import FrameErrors

    data, errors, scores = make_data(sampling={"policy": "error_weighted"}), FrameErrors(), Scores()
    trainer = quiet_trainer(max_epochs=-1, max_steps=5, callbacks=[errors, scores])
    trainer.fit(make_module(data), datamodule=data)
    assert trainer.num_training_batches == 3
    assert len(scores.scores) == 3  # at the beginning of two epochs, and at the end of training
    assert not np.array_equal(scores.scores[1], scores.scores[0])
    assert np.array_equal(scores.scores[2], scores.scores[1])
    state = errors.state_dict()
    assert np.array_equal(state["scores"].numpy(), scores.scores[1])
    assert (state["draws"].sum(), state["epoch"]) == (10.0, 1)  # two batches of five, for the next epoch to know

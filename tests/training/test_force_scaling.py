"""The scale of errors of forces, and steps of several batches, where a part of the forces is trained on."""

import lightning
import pytest
import torch

from nequip_like.errors import ConfigError
from nequip_like.metrics import EnergyForceLoss
from nequip_like.training import NequIPLightningModule

SGD = {"_target_": "torch.optim.SGD", "lr": 1e-3}
QUARTER = {"force_fraction": 0.25, "force_sampling": "fixed"}


class Losses(lightning.Callback):
    """The logged terms of the loss of each step, and the frames."""

    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        names = ("per_atom_energy_mse", "forces_mse")
        self.steps.append([float(trainer.callback_metrics[f"train_loss_step/{name}"]) for name in names])


@pytest.fixture
def fit(make_data, quiet_trainer, make_potential):
    """One epoch: the logged terms of each step, and by how much the weights change."""

    def fit(sampling, batch_size=12, coeffs=None, **changes):
        data = make_data(val=None, test=None, batch_size=batch_size, sampling=sampling)
        potential = make_potential(type_names=data.type_names).train()
        module = NequIPLightningModule(model=potential, loss=EnergyForceLoss(coeffs), optimizer=SGD)
        start, losses = [p.detach().clone() for p in potential.parameters()], Losses()
        quiet_trainer(callbacks=[losses], **changes).fit(module, datamodule=data)
        changed = [(p.detach() - q).flatten() for p, q in zip(potential.parameters(), start, strict=True)]
        return losses.steps, torch.cat(changed)

    return fit


def test_a_quarter_of_the_forces_doubles_their_errors(fit):
    """24 frames in one batch, 6 with their forces: the root mean square error is twice, its square four times."""
    plain, _ = fit(QUARTER, batch_size=24)
    scaled, _ = fit({**QUARTER, "force_scale_unbiased": True}, batch_size=24)
    assert scaled[0][0] == pytest.approx(plain[0][0], rel=1e-12)
    assert scaled[0][1] == pytest.approx(4 * plain[0][1], rel=1e-12)


def test_the_gradient_is_scaled_as_well(fit):
    """One step of gradient descent with the loss of forces alone is four times as long."""
    forces = {"total_energy": 0.0, "forces": 1.0}
    _, plain = fit(QUARTER, batch_size=24, coeffs=forces)
    _, scaled = fit({**QUARTER, "force_scale_unbiased": True}, batch_size=24, coeffs=forces)
    assert plain.abs().max() > 1e-6
    torch.testing.assert_close(scaled, 4 * plain, rtol=1e-6, atol=1e-12)


def test_batches_without_forces_have_energies_only(fit):
    """6 batches of 4 frames, of which one frame has forces: the others have no such term, and are not scaled."""
    steps, _ = fit({"force_fraction": 0.05, "force_scale_unbiased": True}, batch_size=4)
    assert len(steps) == 6
    assert all(energy > 0 for energy, _ in steps)


def test_several_batches_of_a_step_are_one_large_one(fit):
    """Over two epochs that have other frames with forces; their labels are counted anew."""
    sampling = {"force_fraction": 0.4, "force_resample_num_epochs": 1}
    _, whole = fit(sampling, batch_size=8, max_epochs=2)
    _, parts = fit(sampling, batch_size=4, max_epochs=2, accumulate_grad_batches=2)
    torch.testing.assert_close(parts, whole, rtol=1e-7, atol=1e-13)


def test_the_scale_is_one_of_each_batch(fit):
    with pytest.raises(ConfigError, match=r"force_scale_unbiased is true, but trainer.accumulate_grad_batches"):
        fit({**QUARTER, "force_scale_unbiased": True}, batch_size=4, accumulate_grad_batches=2)

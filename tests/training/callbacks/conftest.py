"""A trainer as callbacks see it, without one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn

from nequip_like.training import NequIPLightningModule


def progress(batches: int, batches_of_epoch: int) -> SimpleNamespace:
    """Counters of Lightning's loop."""
    counts = SimpleNamespace(total=SimpleNamespace(processed=batches), current=SimpleNamespace(ready=batches_of_epoch))
    return SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=counts))


@pytest.fixture
def trainer(make_potential):
    """After the validation of epoch 3, with two validation sets."""
    module = NequIPLightningModule(
        make_potential(), val_metrics={"_target_": "nequip_like.metrics.EnergyForceMetrics"}, num_datasets={"val": 2}
    )
    metrics = {
        "train_loss_step/weighted_sum": 0.25,
        "val0_epoch/per_atom_energy_rmse": 0.0012345,
        "val0_epoch/forces_rmse": 0.05,
        "val0_epoch/weighted_sum": 0.0306,
        "val1_epoch/per_atom_energy_rmse": 0.5,
        "val1_epoch/stress_rmse": 0.002,
    }
    return SimpleNamespace(
        callback_metrics={name: torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()},
        optimizers=[torch.optim.SGD(module.parameters(), lr=0.005)],
        current_epoch=3,
        global_step=120,
        lightning_module=module,
        fit_loop=progress(120, 30),
        accumulate_grad_batches=1,
        sanity_checking=False,
        should_stop=False,
        is_global_zero=True,
        world_size=1,
        callbacks=[],
        checkpoint_callbacks=[],
        state=SimpleNamespace(fn=TrainerFn.FITTING),
    )

"""The callback that watches the coefficients of the loss, with a trainer that only counts epochs."""

from types import SimpleNamespace

import pytest

from nequip_like.errors import ConfigError
from nequip_like.training import NequIPLightningModule
from nequip_like.training.callbacks.loss_weights.coefficients import LossCoefficientMonitor, LossWeightSchedule

E, F, S = "per_atom_energy_mse", "forces_mse", "stress_mse"


@pytest.fixture
def module(make_potential):
    return NequIPLightningModule(make_potential(), loss={"_target_": "nequip_like.metrics.EnergyForceStressLoss"})


@pytest.mark.parametrize(
    ("interval", "frequency", "logged"), [("epoch", 2, [0, 2, 4]), ("epoch", 1, [0, 1, 2, 3, 4]), ("batch", 3, [0, 3])]
)
def test_monitor(interval, frequency, logged, module, monkeypatch):
    module.loss.set_coeffs({E: 1.0, F: 3.0})
    values, now = [], {}
    monkeypatch.setattr(module, "log", lambda name, value: values.append((now["n"], name, value)))
    callback = LossCoefficientMonitor(interval, frequency)
    for n in range(5):
        now["n"] = n
        callback.on_train_batch_end(SimpleNamespace(global_step=n), module, None, None, 0)
        callback.on_train_epoch_end(SimpleNamespace(current_epoch=n), module)
    assert values == [(n, f"loss_coeff/{name}", coeff) for n in logged for name, coeff in ((E, 0.25), (F, 0.75))]


@pytest.mark.parametrize(
    ("build", "part"),
    [
        (lambda: LossCoefficientMonitor("step", 1), "write epoch or batch"),
        (lambda: LossCoefficientMonitor("epoch", 0), "frequency"),
    ],
)
def test_mistakes(build, part):
    with pytest.raises(ConfigError, match=part):
        build()


def test_a_module_without_loss(make_potential):
    schedule = LossWeightSchedule(stages=[{"start": 0, "coeffs": {F: 1.0}}])
    with pytest.raises(ConfigError, match=r"needs training_module\.loss"):
        schedule.on_fit_start(None, NequIPLightningModule(make_potential()))

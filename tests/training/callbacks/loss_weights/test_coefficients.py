"""Callbacks that watch and change the coefficients of the loss, with a trainer that only counts epochs."""

from types import SimpleNamespace

import pytest

from nequip_like.errors import ConfigError
from nequip_like.training import NequIPLightningModule
from nequip_like.training.callbacks.loss_weights.coefficients import (
    LinearLossCoefficientScheduler,
    LossCoefficientMonitor,
    LossCoefficientScheduler,
)

E, F, S = "per_atom_energy_mse", "forces_mse", "stress_mse"


@pytest.fixture
def module(make_potential):
    return NequIPLightningModule(make_potential(), loss={"_target_": "nequip_like.metrics.EnergyForceStressLoss"})


def epochs(callback, module, count, first=0):
    """Coefficients after the start of each epoch."""
    seen = []
    callback.on_fit_start(SimpleNamespace(current_epoch=first), module)
    for epoch in range(first, count):
        callback.on_train_epoch_start(SimpleNamespace(current_epoch=epoch), module)
        seen.append(module.loss.coeffs)
    return seen


def test_schedule(module):
    schedule = {"1": {E: 1.0, F: 3.0}, 3: {S: 2.0}}
    third = pytest.approx(1 / 3)
    assert epochs(LossCoefficientScheduler(schedule), module, 4) == [
        {E: third, F: third, S: third},
        {E: 0.25, F: 0.75, S: None},
        {E: 0.25, F: 0.75, S: None},
        {E: None, F: None, S: 1.0},
    ]


def test_linear(module):
    module.loss.set_coeffs({E: 1.0, F: 1.0})
    callback = LinearLossCoefficientScheduler({E: 1.0, F: 9.0}, transition_epochs=4, start_epoch=1)
    seen = epochs(callback, module, 7)
    assert [coeffs[E] for coeffs in seen] == pytest.approx([0.5, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1])
    assert [coeffs[F] for coeffs in seen] == pytest.approx([0.5, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9])
    assert {coeffs[S] for coeffs in seen} == {None}


def test_linear_fades_what_is_not_named(module):
    seen = epochs(LinearLossCoefficientScheduler({E: 1.0, F: 1.0}, transition_epochs=2), module, 3)
    assert [coeffs[S] for coeffs in seen] == pytest.approx([1 / 3, 1 / 6, 0.0])
    assert [coeffs[F] for coeffs in seen] == pytest.approx([1 / 3, 5 / 12, 0.5])


def test_linear_goes_on_where_a_checkpoint_was_written(module):
    def callback():
        return LinearLossCoefficientScheduler({F: 1.0}, transition_epochs=4)

    first = callback()
    whole = epochs(first, module, 5)
    module.loss.set_coeffs(whole[2])
    resumed = callback()
    resumed.load_state_dict(first.state_dict())
    assert epochs(resumed, module, 5, first=3) == whole[3:]
    assert first.state_key != LinearLossCoefficientScheduler({F: 1.0}, 1, start_epoch=7).state_key


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
        (lambda: LossCoefficientScheduler({}), "empty schedule"),
        (lambda: LossCoefficientScheduler({-1: {F: 1.0}}), "epoch -1"),
        (lambda: LossCoefficientScheduler({"soon": {F: 1.0}}), "epoch 'soon'"),
        (lambda: LossCoefficientScheduler({0: {F: -1.0}}), "coefficient of 'forces_mse'"),
        (lambda: LossCoefficientScheduler({0: {F: None}}), "no coefficient above 0"),
        (lambda: LinearLossCoefficientScheduler({F: 1.0}, 0), "transition_epochs 0"),
        (lambda: LinearLossCoefficientScheduler({F: 0.0}, 3), "no coefficient above 0"),
    ],
)
def test_mistakes(build, part):
    with pytest.raises(ConfigError, match=part):
        build()


@pytest.mark.parametrize(
    "callback",
    [LossCoefficientScheduler({5: {"force_mse": 1.0}}), LinearLossCoefficientScheduler({"force_mse": 1.0}, 2)],
)
def test_unknown_names_are_found_before_the_first_step(callback, module):
    with pytest.raises(ConfigError, match="did you mean 'forces_mse'"):
        callback.on_fit_start(SimpleNamespace(current_epoch=0), module)


def test_a_module_without_loss(make_potential):
    with pytest.raises(ConfigError, match=r"needs training_module\.loss"):
        LossCoefficientScheduler({0: {F: 1.0}}).on_fit_start(None, NequIPLightningModule(make_potential()))

"""Weights of the loss as functions of epoch and step: values, units, resuming, names, mistakes."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from nequip_like.errors import ConfigError
from nequip_like.metrics import EnergyForceLoss, EnergyForceStressLoss, FieldLoss, MeanAbsoluteError, MetricsManager
from nequip_like.training.callbacks import LossWeightSchedule, SoftAdapt

E, F, S = "per_atom_energy_mse", "forces_mse", "stress_mse"


def absolute(**weights: float | None) -> MetricsManager:
    return EnergyForceLoss(weights={"total_energy": 1.0, "forces": 2.0} | weights)


def weight(entry: dict[str, Any], epoch: int = 0, step: int = 0, interval: Any = "epoch") -> float:
    """Weight of the forces, whose configured weight is 2."""
    return LossWeightSchedule({"forces": entry}, interval).coefficients_at(epoch, step, absolute())[F]


# --- values


@pytest.mark.parametrize(("epoch", "expected"), [(0, 1.0), (99, 1.0), (100, 25.0), (101, 25.0), (10_000, 25.0)])
def test_flip(epoch: int, expected: float) -> None:
    """mlip's piecewise_constant_schedule(1.0, {100: 25.0}), and back."""
    up = {"kind": "piecewise_constant", "value": 1.0, "boundaries": {100: 25.0}}
    down = {"kind": "piecewise_constant", "value": 25.0, "boundaries": {"100": 0.04}}
    assert weight(up, epoch) == expected
    assert weight(down, epoch) == pytest.approx(26.0 - expected, rel=1e-15)
    assert weight(up, step=epoch, interval="step") == expected
    assert weight(up | {"interval": "step"}, step=epoch) == expected
    assert weight(up | {"interval": "step"}, epoch=epoch) == 1.0


def test_factors_multiply() -> None:
    entry = {"kind": "piecewise_constant", "value": 3.0, "boundaries": {20: 0.5, 10: 4.0}}
    assert [weight(entry, epoch) for epoch in (9, 10, 19, 20, 21)] == [3.0, 12.0, 12.0, 6.0, 6.0]
    del entry["value"]
    assert [weight(entry, epoch) for epoch in (9, 10, 20)] == [2.0, 8.0, 4.0]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", [1.0, 1.0, 7.0, 13.0, 19.0, 25.0, 25.0]),
        (
            "cosine",
            [1.0, 1.0, 1 + 12 * (1 - math.sqrt(0.5)), 13.0, 1 + 12 * (1 + math.sqrt(0.5)), 25.0, 25.0],
        ),
    ],
)
@pytest.mark.parametrize("unit", ["epochs", "steps"])
def test_ramps(kind: str, expected: list[float], unit: str) -> None:
    entry = {"kind": kind, "from": 1, "to": 25, "start": {unit: 100}, "end": {unit: 180}}
    counter = unit.removesuffix("s").replace("epochs", "epoch")
    seen = [weight(entry, **{counter: now}) for now in (0, 100, 120, 140, 160, 180, 1000)]
    assert seen == pytest.approx(expected, rel=1e-12)
    assert seen[0] == 1.0
    assert seen[-1] == 25.0
    assert [weight({"kind": kind, "to": 4.0, "end": 10}, epoch) for epoch in (0, 5, 10)] == pytest.approx([2, 3, 4])


def test_constant() -> None:
    assert weight({"kind": "constant", "value": 7}) == 7.0


def test_scaled_coefficients() -> None:
    loss = EnergyForceStressLoss({"total_energy": 1, "forces": 1, "stress": 2})
    schedule = LossWeightSchedule(
        {"forces": {"kind": "linear", "from": 1, "to": 5, "end": 4}, S: {"kind": "constant", "value": 0}}
    )
    assert schedule.coefficients_at(0, 0, loss) == {E: 0.5, F: 0.5, S: 0.0}
    assert schedule.coefficients_at(2, 0, loss) == {E: 0.25, F: 0.75, S: 0.0}
    assert loss.coeffs == {E: 0.25, F: 0.25, S: 0.5}  # asking changes nothing


def test_nobody_knows_what_softadapt_will_do() -> None:
    assert SoftAdapt().coefficients_at(0, 0, EnergyForceStressLoss()) is None


# --- in a run


def run(callback: LossWeightSchedule, loss: MetricsManager, first: int, last: int, per_epoch: int = 3) -> list[Any]:
    """Coefficients of each step from step ``first`` on; as Lightning does, within an epoch no epoch begins."""
    module, seen = SimpleNamespace(loss=loss), []
    for step in range(first, last):
        trainer: Any = SimpleNamespace(current_epoch=step // per_epoch, global_step=step)
        if step % per_epoch == 0:
            callback.on_train_epoch_start(trainer, module)  # type: ignore[arg-type]
        callback.on_train_batch_start(trainer, module, None, 0)  # type: ignore[arg-type]
        seen.append(loss.coeffs)
    return seen


@pytest.mark.parametrize("interval", ["epoch", "step"])
@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("scale", [True, False])
def test_a_run_has_what_was_foretold(interval: Any, kind: str, scale: bool) -> None:
    def loss() -> MetricsManager:
        weights = {"total_energy": 1.0, "forces": 2.7}
        return EnergyForceLoss(weights) if scale else EnergyForceLoss(weights=weights)

    def callback() -> LossWeightSchedule:
        return LossWeightSchedule(
            {"forces": {"kind": kind, "to": 0.1, "end": 3 if interval == "epoch" else 8}}, interval
        )

    whole = loss()
    seen = run(callback(), whole, 0, 12)
    assert seen == [callback().coefficients_at(step // 3, step, loss()) for step in range(12)]
    for first in (1, 3, 7, 9):
        resumed, until = loss(), loss()
        run(callback(), until, 0, first)
        resumed.load_state_dict(until.state_dict())
        assert run(callback(), resumed, first, 12) == seen[first:]


# --- mistakes


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "no kind"),
        ({"kind": "cosin"}, "did you mean 'cosine'"),
        ({"kind": "linear", "to": 1}, "no 'end'"),
        ({"kind": "linear", "end": 10}, "no 'to'"),
        ({"kind": "linear", "to": 1, "end": 10, "value": 2}, "unknown key of the linear schedule of 'forces': 'value'"),
        ({"kind": "linear", "to": 1, "end": 10, "start": 10}, "starts at 10 and ends at 10"),
        ({"kind": "linear", "to": 1, "end": {"epochs": 9}, "start": {"steps": 1}}, "different units"),
        ({"kind": "linear", "to": 1, "end": {"epoch": 9}}, "write {epochs: 100}"),
        ({"kind": "linear", "to": 1, "end": 1.5}, "'end' in the schedule of 'forces' is 1.5"),
        ({"kind": "cosine", "to": -1, "end": 9}, "'to' in the schedule of 'forces' is -1"),
        ({"kind": "cosine", "to": "x", "end": 9}, "'to' in the schedule of 'forces' is 'x'"),
        ({"kind": "cosine", "to": math.inf, "end": 9}, "finite number"),
        ({"kind": "constant"}, "no 'value'"),
        ({"kind": "piecewise_constant"}, "no boundaries"),
        ({"kind": "piecewise_constant", "boundaries": {-1: 2}}, "boundary -1"),
        ({"kind": "piecewise_constant", "boundaries": {1: -2}}, "'boundaries' in the schedule of 'forces' is -2"),
        ({"kind": "constant", "value": 1, "interval": "batch"}, "interval of 'forces'"),
    ],
)
def test_mistakes(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LossWeightSchedule({"forces": entry})


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        (["force"], "there is no term 'force'\n.*did you mean 'forces'"),
        (["stress"], "there is no term 'stress'"),
        (["forces", F], "'forces' and 'forces_mse' are the same"),
    ],
)
def test_names_are_checked_before_the_first_step(terms: list[str], message: str) -> None:
    schedule = LossWeightSchedule({name: {"kind": "constant", "value": 1} for name in terms})
    with pytest.raises(ConfigError, match=message):
        schedule.on_fit_start(SimpleNamespace(), SimpleNamespace(loss=absolute()))  # type: ignore[arg-type]


def test_terms_by_what_they_are_of() -> None:
    loss = FieldLoss({"total_energy": 1, "per_atom_energy": 2, "forces": 3}, function="huber")
    keys = ("total_energy", "per_atom_energy", "per_atom_energy_huber", "forces")
    names = [loss.term_name(key, "here") for key in keys]
    assert names == ["total_energy_huber", "per_atom_energy_huber", "per_atom_energy_huber", "forces_huber"]
    observed = {"field": "forces", "metric": MeanAbsoluteError, "name": "forces_mae"}
    assert EnergyForceLoss(extra_metrics=[observed]).term_name("forces", "here") == F
    both = EnergyForceLoss(extra_metrics=[observed | {"coeff": 1.0}])
    with pytest.raises(ConfigError, match=r"here: several terms are of 'forces'\n.*name one: forces_mse, forces_mae"):
        both.term_name("forces", "here")


def test_a_term_without_a_weight_needs_one() -> None:
    loss = EnergyForceLoss(weights={"total_energy": 1.0})
    with pytest.raises(ConfigError, match="'forces_mse' has no weight in the loss"):
        LossWeightSchedule({F: {"kind": "linear", "to": 1, "end": 5}}).check_loss(loss)
    schedule = LossWeightSchedule({F: {"kind": "linear", "from": 0, "to": 1, "end": 5}})
    schedule.check_loss(loss)
    assert schedule.coefficients_at(5, 0, loss) == {E: 1.0, F: 1.0}


def test_two_of_them() -> None:
    schedule = LossWeightSchedule({"forces": {"kind": "constant", "value": 1}})
    others: list[Any] = [schedule, SoftAdapt()]
    with pytest.raises(ConfigError, match="LossWeightSchedule and SoftAdapt all set the coefficients"):
        schedule.on_fit_start(SimpleNamespace(callbacks=others), SimpleNamespace(loss=absolute()))  # type: ignore[arg-type]


def test_all_weights_zero() -> None:
    schedule = LossWeightSchedule(
        {name: {"kind": "piecewise_constant", "value": 1, "boundaries": {3: 0}} for name in ("forces", "total_energy")}
    )
    with pytest.raises(ConfigError, match="all weights are 0 in epoch 3"):
        schedule.coefficients_at(3, 0, absolute())
    with pytest.raises(ConfigError, match="no terms"):
        LossWeightSchedule({})

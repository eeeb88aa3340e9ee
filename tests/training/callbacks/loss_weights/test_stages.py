"""Coefficients of the whole loss that change in stages, at once or along a line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nequip_like.errors import ConfigError
from nequip_like.metrics import EnergyForceLoss, EnergyForceStressLoss
from nequip_like.training.callbacks import LossWeightSchedule

E, F, S = "per_atom_energy_mse", "forces_mse", "stress_mse"


def stage(start: int, coeffs: dict[str, float | None], end: int | None = None) -> dict[str, Any]:
    return {"start": start, "coeffs": coeffs} | ({} if end is None else {"end": end})


def coefficients(stages: list[dict[str, Any]], epochs: list[int], loss: Any) -> list[dict[str, float]]:
    schedule = LossWeightSchedule(stages=stages)
    return [schedule.coefficients_at(epoch, 0, loss) for epoch in epochs]


def test_at_once() -> None:
    """What is not named is only observed."""
    third = pytest.approx(1 / 3)
    stages = [stage(2, {"forces": 3.0, E: 1.0}), stage(4, {"stress": 1.0, F: None})]
    assert coefficients(stages, [1, 2, 3, 4, 9], EnergyForceStressLoss()) == [
        {E: third, F: third, S: third}, {E: 0.25, F: 0.75}, {E: 0.25, F: 0.75}, {S: 1.0}, {S: 1.0},
    ]  # fmt: skip


def test_along_a_line() -> None:
    """From 0.5 and 0.5 to 0.1 and 0.9; what was only observed stays so."""
    loss = EnergyForceStressLoss({"total_energy": 2, "forces": 2, "stress": None})
    seen = coefficients([stage(1, {E: 1.0, F: 9.0}, end=5)], [0, 1, 2, 3, 4, 5, 6], loss)
    assert [coeffs[E] for coeffs in seen] == pytest.approx([0.5, 0.5, 0.4, 0.3, 0.2, 0.1, 0.1])
    assert [coeffs[F] for coeffs in seen] == pytest.approx([0.5, 0.5, 0.6, 0.7, 0.8, 0.9, 0.9])
    assert all(S not in coeffs for coeffs in seen)


def test_what_a_line_does_not_name_fades() -> None:
    seen = coefficients([stage(0, {"total_energy": 1, "forces": 1}, end=2)], [0, 1, 2], EnergyForceStressLoss())
    assert [coeffs[S] for coeffs in seen] == pytest.approx([1 / 3, 1 / 6, 0.0])
    assert [coeffs[F] for coeffs in seen] == pytest.approx([1 / 3, 5 / 12, 0.5])


def test_absolute_weights() -> None:
    loss = EnergyForceLoss(weights={"total_energy": 1.0, "forces": 2.0})
    stages = [stage(0, {F: 12.0, E: 1.0}, end=5), stage(7, {"forces": 30.0, E: 3.0})]
    assert coefficients(stages, [2, 5, 7], loss) == [{E: 1.0, F: 6.0}, {E: 1.0, F: 12.0}, {E: 3.0, F: 30.0}]


def test_each_begins_where_the_one_before_ended() -> None:
    """(1, 1, 1)/3, then (0, 1, 0) at epoch 2, then half way to (1, 0, 0), and there."""
    stages = [stage(1, {F: 1.0}, end=2), stage(2, {E: 1.0}, end=4)]
    seen = coefficients(stages, [1, 2, 3, 4], EnergyForceStressLoss())
    third = pytest.approx(1 / 3)
    assert seen == [
        {E: third, F: third, S: third}, {E: 0.0, F: 1.0, S: 0.0}, {E: 0.5, F: 0.5}, {E: 1.0, F: 0.0},
    ]  # fmt: skip


def test_a_run_that_is_resumed_needs_no_state() -> None:
    """Within an epoch nothing is set; from the next one on the coefficients are those of the uninterrupted run."""
    stages = [stage(1, {F: 1.0}, end=5)]
    seen = []
    for first in (0, 3):
        loss = EnergyForceStressLoss()
        schedule = LossWeightSchedule(stages=stages)
        assert schedule.state_dict() == {}
        for epoch in range(first, 6):
            trainer: Any = SimpleNamespace(current_epoch=epoch, global_step=10 * epoch)
            schedule.on_train_epoch_start(trainer, SimpleNamespace(loss=loss))  # type: ignore[arg-type]
            seen.append(loss.coeffs)
    assert seen[6:] == seen[3:6]


@pytest.mark.parametrize(
    ("stages", "message", "advice"),
    [
        ([{"coeffs": {F: 1}}], r"^stages\[0\] of LossWeightSchedule has no 'start'", "write {start: 100"),
        ([{"start": 1}], r"^stages\[0\] of LossWeightSchedule has no 'coeffs'", "write {start: 100"),
        (
            [stage({"epochs": 1}, {F: 1})],
            r"^'start' in stages\[0\] of LossWeightSchedule is \{'epochs': 1\}",
            "0 or more",
        ),
        ([stage(-1, {F: 1})], r"^'start' in stages\[0\] of LossWeightSchedule is -1", "0 or more"),
        ([stage(3, {F: 1}, end=3)], "starts in epoch 3 and ends in epoch 3", "let it end after its start"),
        ([stage(3, {F: -1})], "^coefficient of 'forces_mse' is -1", "give a finite number"),
        ([stage(3, {F: None})], r"stages\[0\] of LossWeightSchedule has no coefficient above 0", "at least one"),
        ([{"begin": 3, "coeffs": {F: 1}}], r"key of stages\[0\] of LossWeightSchedule: .*'begin'", "start"),
        ([stage(3, {F: 1}), stage(2, {F: 1})], r"stages\[1\] .* starts in epoch 2, before stages\[0\]", "let each"),
        ([stage(3, {F: 1}, end=9), stage(8, {F: 1})], "starts in epoch 8, before .* ends in epoch 9", "let each"),
    ],
)
def test_mistakes(stages: list[dict[str, Any]], message: str, advice: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        LossWeightSchedule(stages=stages)
    assert advice in error.value.advice


def test_terms_or_stages() -> None:
    with pytest.raises(ConfigError, match="has both terms and stages"):
        LossWeightSchedule({"forces": {"kind": "constant", "value": 1}}, stages=[stage(1, {F: 1.0})])


@pytest.mark.parametrize("end", [None, 7])
def test_unknown_names_are_refused_before_the_first_step(end: int | None) -> None:
    schedule = LossWeightSchedule(stages=[stage(5, {"force_mse": 1.0}, end=end)])
    with pytest.raises(ConfigError, match=r"stages of LossWeightSchedule: .*'force_mse'\n.*did you mean 'forces_mse'"):
        schedule.check_loss(EnergyForceStressLoss())

"""SoftAdapt: its formula by hand, cycles, missing labels, state."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nequip_like.errors import ConfigError
from nequip_like.metrics import EnergyForceLoss, EnergyForceStressLoss, MeanAbsoluteError, MetricsManager
from nequip_like.training.callbacks import SoftAdapt

E, F = "per_atom_energy_mse", "forces_mse"


def expected(coeffs: list[float], change: list[float], beta: float) -> list[float]:
    norm = math.sqrt(sum(x * x for x in change))
    parts = [c * math.exp(beta * x / norm) for c, x in zip(coeffs, change, strict=True)]
    return [sum(coeffs) * part / sum(parts) for part in parts]


def losses(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def after(callback: SoftAdapt, loss: MetricsManager, *seen: tuple[float, ...]) -> list[float | None]:
    for values in seen:
        callback.see(losses(*values), loss)
        callback.adapt(loss)
    return list(loss.coeffs.values())


def test_formula() -> None:
    loss = EnergyForceLoss({"total_energy": 1, "forces": 3})
    callback = SoftAdapt(beta=1.1)
    assert after(callback, loss, (5.0, 2.0)) == [0.25, 0.75]
    first = expected([0.25, 0.75], [-1.0, 0.5], 1.1)
    assert after(callback, loss, (4.0, 2.5)) == pytest.approx(first, rel=1e-12)
    assert first[1] > 0.75  # the forces got worse
    # The next change acts on what there is then.
    assert after(callback, loss, (4.0, 1.5)) == pytest.approx(expected(first, [0.0, -1.0], 1.1), rel=1e-12)
    assert after(callback, loss, (4.0, 1.5)) == pytest.approx(expected(first, [0.0, -1.0], 1.1), rel=1e-12)


def test_absolute_weights_keep_their_sum() -> None:
    loss = EnergyForceLoss(weights={"total_energy": 1, "forces": 1000})
    seen = after(SoftAdapt(beta=2.0), loss, (1.0, 1.0), (2.0, 0.5))
    assert seen == pytest.approx(expected([1.0, 1000.0], [1.0, -0.5], 2.0), rel=1e-12)
    assert sum(x or 0.0 for x in seen) == pytest.approx(1001.0)


def test_mean_over_a_cycle() -> None:
    """All changes of a cycle, of the coefficients before it."""
    loss = EnergyForceLoss()
    callback = SoftAdapt(beta=1.0, frequency=3)
    history = [(1.0, 1.0), (0.5, 1.0), (0.5, 0.2), (0.6, 0.1)]
    assert after(callback, loss, *history[:3]) == [0.5, 0.5]
    changes = [[b - a for a, b in zip(one, two, strict=True)] for one, two in itertools.pairwise(history)]
    each = [expected([0.5, 0.5], change, 1.0) for change in changes]
    assert after(callback, loss, history[3]) == pytest.approx([sum(x) / 3 for x in zip(*each, strict=True)], rel=1e-12)


def test_observed_terms_and_missing_labels() -> None:
    extra = {"field": "forces", "metric": MeanAbsoluteError, "name": "observed"}
    loss = EnergyForceStressLoss(extra_metrics=[extra])
    nan = math.nan
    seen = after(SoftAdapt(beta=1.0), loss, (1.0, 1.0, nan, 9.0), (2.0, 0.0, 5.0, 0.0))
    assert seen[3] is None
    start = [1 / 3] * 3
    assert seen[:3] == pytest.approx(expected(start, [1.0, -1.0, 0.0], 1.0), rel=1e-12)
    # What is missing now is compared with its last value later.
    loss = EnergyForceLoss()
    callback = SoftAdapt(beta=1.0)
    first = after(callback, loss, (1.0, 1.0), (nan, 0.5))
    assert first == pytest.approx(expected([0.5, 0.5], [0.0, -0.5], 1.0), rel=1e-12)
    second = after(callback, loss, (3.0, 0.5))
    assert second == pytest.approx(expected([x or 0.0 for x in first], [2.0, 0.0], 1.0), rel=1e-12)


def test_state() -> None:
    history = [(1.0, 1.0), (0.5, 1.0), (0.5, 0.2), (0.6, 0.1), (0.7, 0.3), (0.1, 0.4)]
    whole, loss = SoftAdapt(frequency=2), EnergyForceLoss()
    after(whole, loss, *history)
    for k in range(1, 6):
        part, first = SoftAdapt(frequency=2), EnergyForceLoss()
        after(part, first, *history[:k])
        rest, second = SoftAdapt(frequency=2), EnergyForceLoss()
        rest.load_state_dict(part.state_dict())
        second.load_state_dict(first.state_dict())
        after(rest, second, *history[k:])
        assert second.coeffs == loss.coeffs
        assert torch.equal(rest.state_dict()["previous"], whole.state_dict()["previous"])


def test_another_loss_begins_anew() -> None:
    callback = SoftAdapt()
    after(callback, EnergyForceLoss(), (1.0, 1.0))
    assert after(callback, EnergyForceStressLoss(), (1.0, 1.0, 1.0)) == pytest.approx([1 / 3] * 3)


def test_batches_are_seen_once_for_each_step() -> None:
    loss = EnergyForceLoss()
    callback = SoftAdapt(interval="batch")
    module: Any = SimpleNamespace(loss=loss)
    seen: list[list[float]] = []
    callback.see = lambda values, loss: seen.append(values.tolist())  # type: ignore[method-assign]
    target = {
        "pos": torch.zeros(1, 3),
        "num_atoms": torch.tensor([1]),
        "total_energy": torch.zeros(1, 1),
        "forces": torch.full((1, 3), math.nan),
    }
    for batch, global_step in enumerate([0, 1, 1, 2]):  # two batches for each step
        prediction = target | {"total_energy": torch.full((1, 1), float(batch)), "forces": torch.zeros(1, 3)}
        loss.step(prediction, target)
        callback.on_train_batch_end(SimpleNamespace(global_step=global_step), module, None, None, 0)  # type: ignore[arg-type]
    assert [values[0] for values in seen] == [1.0, 9.0]
    assert all(math.isnan(values[1]) for values in seen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"interval": "step"}, "interval of SoftAdapt"),
        ({"frequency": 0}, "frequency of SoftAdapt"),
        ({"eps": 0.0}, "eps of SoftAdapt"),
        ({"beta": "big"}, "beta of SoftAdapt"),
    ],
)
def test_mistakes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SoftAdapt(**arguments)


def test_one_term_is_too_few() -> None:
    with pytest.raises(ConfigError, match="two or more terms"):
        SoftAdapt().check_loss(EnergyForceLoss({"forces": 1}))

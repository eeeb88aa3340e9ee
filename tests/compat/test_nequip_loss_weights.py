"""NequIP's schedulers of the loss's coefficients become one LossWeightSchedule with the same coefficients."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from nequip_like.compat.nequip_config import as_own_config
from nequip_like.compat.nequip_loss_weights import merge_schedulers
from nequip_like.errors import ConfigError
from nequip_like.instantiate import instantiate
from nequip_like.metrics import EnergyForceStressLoss
from nequip_like.workflow.config.check import check_config
from tests.compat.flat_config import own
from tests.workflow.test_resume import Run, differences, history, last, often, run

__all__ = ["run"]  # a fixture

E, F, S = "per_atom_energy_mse", "forces_mse", "stress_mse"
CALLBACKS = "nequip_like.training.callbacks"


def jumps(schedule: dict[Any, Any]) -> dict[str, Any]:
    return {"_target_": "nequip.train.callbacks.LossCoefficientScheduler", "schedule": schedule}


def line(final_coeffs: dict[str, float], transition_epochs: int, **start: int) -> dict[str, Any]:
    arguments = {"final_coeffs": final_coeffs, "transition_epochs": transition_epochs, **start}
    return {"_target_": "nequip_like.train.loss_coefficients.LinearLossCoefficientScheduler", **arguments}


# Coefficients of E, F, S in epochs 0, 1, ... as the callbacks of these names had them in version 0.1.0.
RECORDED: dict[str, tuple[list[dict[str, Any]], dict[str, Any], list[tuple[float | None, ...]]]] = {
    "jumps": (
        [jumps({"1": {E: 1.0, "forces": 3.0}, 3: {"stress": 2.0}})],
        {},
        [
            (0.3333333333333333, 0.3333333333333333, 0.3333333333333333),
            *[(0.25, 0.75, None)] * 2,
            *[(None, None, 1.0)] * 2,
        ],
    ),
    "a line": (
        [line({"total_energy": 1.0, "forces": 9.0}, 3)],
        {"coeffs": {"total_energy": 3, "forces": 0.7, "stress": None}},
        [
            (0.8108108108108107, 0.18918918918918917, None),
            (0.5738738738738739, 0.42612612612612616, None),
            (0.33693693693693694, 0.6630630630630631, None),
            *[(0.09999999999999998, 0.9, None)] * 3,
        ],
    ),
    "a line that a term is not in": (
        [line({"forces": 7.0, E: 0.3}, 4, start_epoch=1)],
        {},
        [
            *[(0.3333333333333333, 0.3333333333333333, 0.3333333333333333)] * 2,
            (0.2602739726027397, 0.4897260273972603, 0.25),
            (0.18721461187214614, 0.6461187214611873, 0.16666666666666669),
            (0.1141552511415525, 0.8025114155251143, 0.08333333333333331),
            *[(0.0410958904109589, 0.9589041095890412, 0.0)] * 3,
        ],
    ),
    "absolute weights": (
        [line({"forces": 12.1, E: 1.0}, 3)],
        {"weights": {"total_energy": 1.0, "forces": 2.7, "stress": 0.1}},
        [
            (1.0, 2.7, 0.1),
            (1.0, 5.833333333333333, 0.06666666666666668),
            (1.0, 8.966666666666665, 0.03333333333333334),
            *[(1.0, 12.099999999999998, 0.0)] * 2,
        ],
    ),
    "several": (
        [
            line({"forces": 1.0, E: 0.3}, 3, start_epoch=2),
            jumps({1: {E: 0.1, S: 0.7}}),
            line({"stress": 1.3, E: 0.3}, 2, start_epoch=5),
        ],
        {},
        [
            (0.3333333333333333, 0.3333333333333333, 0.3333333333333333),
            *[(0.12500000000000003, None, 0.875)] * 2,
            (0.16025641025641027, 0.2564102564102564, 0.5833333333333334),
            (0.1955128205128205, 0.5128205128205128, 0.29166666666666674),
            (0.23076923076923078, 0.7692307692307693, 0.0),
            (0.20913461538461536, 0.38461538461538464, 0.40625),
            *[(0.18749999999999997, 0.0, 0.8125)] * 2,
        ],
    ),
}


@pytest.mark.parametrize("name", RECORDED)
def test_the_same_coefficients_to_the_bit(name: str) -> None:
    nodes, of_loss, expected = RECORDED[name]
    notes: list[str] = []
    merged = merge_schedulers({f"c{i}": node for i, node in enumerate(nodes)} | {"other": None}, notes)
    assert list(merged) == ["c0", "other"]
    assert len(notes) == 1
    schedule = instantiate("callbacks.c0", merged["c0"])
    loss = EnergyForceStressLoss(**of_loss)
    seen = []
    schedule.on_fit_start(SimpleNamespace(callbacks=[schedule]), SimpleNamespace(loss=loss))
    for epoch in range(len(expected)):
        schedule.on_train_epoch_start(SimpleNamespace(current_epoch=epoch, global_step=0), SimpleNamespace(loss=loss))
        seen.append(tuple(loss.coeffs[term] for term in (E, F, S)))
    assert seen == expected


def test_in_a_config_of_nequip() -> None:
    config, notes = own(("trainer.callbacks", [jumps({3: {"forces": 1.0}}), line({"forces": 2.0}, 4, start_epoch=5)]))
    assert config["callbacks"] == {
        "loss_coefficient_scheduler": {
            "_target_": f"{CALLBACKS}.LossWeightSchedule",
            "stages": [{"start": 3, "coeffs": {"forces": 1.0}}, {"start": 5, "end": 9, "coeffs": {"forces": 2.0}}],
        }
    }
    assert notes[0] == (
        "callbacks.loss_coefficient_scheduler: LossCoefficientScheduler and LinearLossCoefficientScheduler is read "
        "as a LossWeightSchedule, with the same coefficients"
    )


@pytest.mark.parametrize("home", ["train.callbacks", "training.callbacks.loss_weights.coefficients"])
def test_in_a_config_of_ours(home: str, compose: Any) -> None:
    """By any name that it had; values may refer to others."""
    config = compose("+last={forces:1.0}")
    OmegaConf.set_struct(config, False)
    target = f"nequip_like.{home}.LinearLossCoefficientScheduler"
    config.callbacks.mine = {"_target_": target, "final_coeffs": "${last}", "transition_epochs": 4}
    translation = as_own_config(config)
    del translation.config["last"]
    assert translation.config.callbacks.mine == {
        "_target_": f"{CALLBACKS}.LossWeightSchedule",
        "stages": [{"start": 0, "end": 4, "coeffs": {"forces": 1.0}}],
    }
    assert config.callbacks.mine["_target_"] == target  # the config itself is left alone
    assert len(translation.notes) == 1
    check_config(translation.config)
    assert as_own_config(translation.config).notes == []


@pytest.mark.parametrize(
    ("nodes", "message", "advice"),
    [
        ([jumps({})], r"callbacks\.c0 has no schedule", "give schedule: {100: {forces_mse: 1.0}}"),
        ([jumps({-1: {F: 1.0}})], r"callbacks\.c0\.schedule has the epoch -1", "epochs are whole numbers"),
        ([jumps({"soon": {F: 1.0}})], r"callbacks\.c0\.schedule has the epoch 'soon'", "epochs are whole numbers"),
        (
            [jumps({1: {F: 1.0}}) | {"schedul": 1}],
            r"callbacks\.c0\.schedul: Loss.* takes no",
            "did you mean 'schedule'",
        ),
        ([line({F: 1.0}, 0)], r"callbacks\.c0 has no transition_epochs", "give transition_epochs: 100"),
        ([line({F: 1.0}, 3, start_epoch=-1)], r"callbacks\.c0\.start_epoch has the epoch -1", "epochs are whole"),
        (
            [jumps({4: {F: 1.0}}), line({F: 2.0}, 4)],
            r"callbacks c0 and c1 both set the coefficients of the loss in epoch 4",
            "write one node",
        ),
    ],
)
def test_mistakes(nodes: list[dict[str, Any]], message: str, advice: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        merge_schedulers({f"c{i}": node for i, node in enumerate(nodes)}, [])
    assert advice in error.value.advice


@pytest.mark.filterwarnings("ignore:.*was written over later")
def test_a_run_of_an_earlier_version_is_resumed(run: Run, tmp_path: Any) -> None:
    """Its checkpoint holds the state of the callback of then, which nothing needs: no warning, the same run."""
    merged = merge_schedulers({"weights": line({"total_energy": 1.0, "forces": 9.0}, 3)}, [])
    whole = run("whole", callbacks=merged | often(tmp_path / "whole")).folder
    checkpoint = whole / "often" / "step-4.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    content["callbacks"]["LinearLossCoefficientScheduler_0"] = {"initial": {E: 0.5, F: 0.5}}
    torch.save(content, checkpoint)
    rest = run("rest", f"ckpt_path='{checkpoint}'", callbacks=merged | often(tmp_path / "rest")).folder
    assert differences(last(whole), last(rest)) == []
    assert history(whole) == history(rest)

"""Losses, weights and their schedules in configs: what the check lets pass and refuses, and runs that are resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from nequip_like.errors import ConfigError
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.printing import plan
from tests.workflow.test_resume import Run, differences, history, last, often, run

__all__ = ["run"]  # a fixture

CALLBACKS = "nequip_like.training.callbacks"
LOSS = "training_module.loss"
WEIGHTS = (f"{LOSS}.coeffs=null", f"{LOSS}.weights={{total_energy:1,forces:1000}}")


def with_callbacks(config: Any, **nodes: dict[str, Any]) -> Any:
    OmegaConf.set_struct(config, False)
    for name, node in nodes.items():
        config.callbacks[name] = {**node, "_target_": f"{CALLBACKS}.{node['_target_']}"}
    return config


def schedule(**entry: Any) -> dict[str, Any]:
    return {"_target_": "LossWeightSchedule", "terms": {"forces": entry}}


RAMP = {"kind": "cosine", "from": 1, "to": 25, "start": {"epochs": 0}, "end": {"epochs": 100}}


@pytest.mark.parametrize(
    "overrides",
    [
        [f"{LOSS}.function=smooth_l1"],
        [f"{LOSS}.function={{total_energy:huber,forces:stratified_huber}}", f"+{LOSS}.edges=last"],
        [f"{LOSS}.function=huber", f"+{LOSS}.delta=0.1", "targets=energy_force_stress", f"+{LOSS}.average=frames"],
        [*WEIGHTS],
        ["targets=fields", f"+{LOSS}.terms.virial=1.0", f"+{LOSS}.terms.atomic_energy=1", f"{LOSS}.terms.forces=null"],
        ["training_module.val_metrics.extended=true", "monitored_metric=val0_epoch/forces_p95"],
        ["training_module.val_metrics.extended=true", "+training_module.val_metrics.coeffs.forces_p95=1"],
    ],
    ids=lambda overrides: " ".join(overrides)[:60],
)
def test_sound_configs_pass(overrides: list[str], compose: Any) -> None:
    check_config(compose(*overrides))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([f"{LOSS}.function=hubber"], r"training_module\.loss: unknown loss function 'hubber'\n.*did you mean 'huber'"),
        ([f"{LOSS}.function=3"], r"training_module\.loss\.function is 3"),
        ([f"+{LOSS}.delta=-1", f"{LOSS}.function=huber"], r"training_module\.loss: delta is -1"),
        ([f"{LOSS}.weights={{forces:1}}"], r"training_module\.loss: a loss has both coeffs"),
        ([WEIGHTS[0], f"{LOSS}.weights={{force:1}}"], "unknown label in weights of a loss: 'force'"),
        (["targets=fields", f"+{LOSS}.terms.force=1"], "unknown term of a loss 'force'"),
        ([f"+{LOSS}.edges=first"], r"training_module\.loss\.edges is 'first'"),
        (["training_module.val_metrics.extended=maybe"], r"training_module\.val_metrics\.extended is 'maybe'"),
        (["+training_module.val_metrics.coeffs.forces_p95=1"], "unknown metric in coeffs: 'forces_p95'"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else " ".join(value)[:60],
)
def test_mistakes(overrides: list[str], message: str, compose: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(compose(*overrides))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([schedule(**RAMP) | {"terms": {"force": RAMP}}], r"callbacks\.c0: .*there is no term 'force'"),
        ([schedule(**RAMP) | {"interval": "batch"}], r"callbacks\.c0\.interval is 'batch'"),
        ([schedule(**RAMP) | {"term": {}}], r"callbacks\.c0\.term: LossWeightSchedule takes no 'term'"),
        ([schedule(kind="cosin")], r"callbacks\.c0: .*'cosin'"),
        ([schedule(**RAMP), {"_target_": "SoftAdapt"}], r"callbacks\.c1: .*all set the coefficients"),
        ([{"_target_": "SoftAdapt", "beta": "much"}], r"callbacks\.c0\.beta is 'much'"),
        ([{"_target_": "SoftAdapt", "frequency": 0}], r"callbacks\.c0\.frequency is 0"),
        (
            [{"_target_": "LossWeightSchedule", "stages": [{"start": 0, "coeffs": {"force": 1}}]}],
            r"callbacks\.c0: .*there is no term 'force'",
        ),
    ],
    ids=range(8),
)
def test_mistakes_of_callbacks(nodes: list[dict[str, Any]], message: str, compose: Any) -> None:
    config = with_callbacks(compose(), **{f"c{i}": node for i, node in enumerate(nodes)})
    with pytest.raises(ConfigError, match=message):
        check_config(config)


def test_plan_names_function_and_weights(compose: Any) -> None:
    config = with_callbacks(compose(*WEIGHTS, f"{LOSS}.function=smooth_l1"), c=schedule(**RAMP))
    assert plan(check_config(config))["loss"] == "1 per_atom_energy_smooth_l1, 1000 forces_smooth_l1"


# --- runs

_NODES: dict[str, dict[str, Any]] = {
    "flip": schedule(kind="piecewise_constant", value=1.0, boundaries={2: 25.0}),
    "linear": schedule(kind="linear", to=9.0, end=3),
    "cosine by steps": schedule(kind="cosine", to=0.2, start={"steps": 2}, end={"steps": 9}),
    "SoftAdapt": {"_target_": "SoftAdapt", "beta": 2.0},
    "SoftAdapt by batches": {"_target_": "SoftAdapt", "interval": "batch", "frequency": 2},
    "stages": {
        "_target_": "LossWeightSchedule",
        "stages": [{"start": 0, "end": 3, "coeffs": {"total_energy": 1.0, "forces": 9.0}}],
    },
}
WAYS: dict[str, tuple[str, ...]] = {
    "flip": (),
    "linear": WEIGHTS,
    "cosine by steps": (),
    "SoftAdapt": WEIGHTS,
    "SoftAdapt by batches": ("trainer.accumulate_grad_batches=2",),
    "stages": (),
}


@pytest.mark.filterwarnings("ignore:.*was written over later")
@pytest.mark.parametrize(
    ("way", "steps"),
    [
        ("SoftAdapt", (4,)),
        *(pytest.param(way, (3, 4), marks=pytest.mark.slow) for way in WAYS),
    ],
)
def test_resumed_is_uninterrupted(way: str, steps: tuple[int, ...], run: Run, tmp_path: Path) -> None:
    """From within an epoch and from its end: weights, optimizer, coefficients and what was logged, to the bit."""
    nodes = {"weights": _NODES[way], "monitor": {"_target_": "LossCoefficientMonitor", "interval": "batch"}}
    nodes = {name: {**node, "_target_": f"{CALLBACKS}.{node['_target_']}"} for name, node in nodes.items()}
    settings = ("training_module.val_metrics.extended=true", "trainer.log_every_n_steps=1", *WAYS[way])
    whole = run("whole", *settings, callbacks=nodes | often(tmp_path / "whole")).folder
    seen = [float(row["loss_coeff/forces_mse"]) for row in history(whole) if "loss_coeff/forces_mse" in row]
    assert len(set(seen)) > 1
    for step in steps:
        name, checkpoint = f"from {step}", whole / "often" / f"step-{step}.ckpt"
        rest = run(name, f"ckpt_path='{checkpoint}'", *settings, callbacks=nodes | often(tmp_path / name)).folder
        assert differences(last(whole), last(rest)) == [], step
        assert history(whole) == history(rest), step

"""``tutorials/wandb_sweep.yaml``: what an agent of wandb makes of it is a command that the run takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import nequip_like
from nequip_like.workflow.config.check import check_config
from tests.tutorials.pages import blocks

ROOT = Path(__file__).parents[2]
SWEEP = yaml.safe_load((ROOT / "tutorials" / "wandb_sweep.yaml").read_text())


def list_ends(parameter: dict[str, Any]) -> list[Any]:
    """The first and the last value that the server can choose."""
    return [parameter["values"][0], parameter["values"][-1]] if "values" in parameter else list(_read_range(parameter))


def _read_range(parameter: dict[str, Any]) -> tuple[float, float]:
    return float(parameter["min"]), float(parameter["max"])


@pytest.mark.parametrize("end", [0, 1])
def test_the_command_of_an_agent(end, tmp_path, monkeypatch):
    """By wandb's own code; the config passes the check, with the values where they belong."""
    utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils")
    chosen = {name: list_ends(parameter)[end] for name, parameter in SWEEP["parameters"].items()}
    arguments = utils.create_sweep_command_args({"args": {name: {"value": value} for name, value in chosen.items()}})
    words = [
        word
        for entry in utils.create_sweep_command(list(SWEEP["command"]))
        for word in (arguments["args_no_hyphens"] if entry == "${args_no_hyphens}" else [entry])
    ]
    assert words[:3] == [SWEEP["program"], "watched.yaml", "logger=wandb"]
    (tmp_path / "tutorials").symlink_to(ROOT / "tutorials")
    (block,) = [block for block in blocks(ROOT / "tutorials" / "dashboards.md") if block.config == "watched.yaml"]
    (tmp_path / "watched.yaml").write_text(block.text)
    monkeypatch.chdir(tmp_path)
    config = nequip_like.compose("watched.yaml", [*words[2:], "trainer.accelerator=cpu"])
    checked = check_config(config)
    assert checked.values["training_module"]["optimizer"]["lr"] == (0.001, 0.1)[end]
    assert checked.values["model"]["l_max"] == (1, 2)[end]
    assert checked.values["data"]["cutoff_radius"] == (4.0, 6.0)[end]
    assert ("soap", "adam")[end] in checked.values["training_module"]["optimizer"]["_target_"].lower()


def test_what_is_followed():
    """The metric of the run, which is to be small; an agent knows the keys that the file has."""
    config = nequip_like.compose("train", ["data.train=x.xyz", "cutoff_radius=4.0"])
    assert {"name": config.monitored_metric, "goal": "minimize"} == SWEEP["metric"]
    assert SWEEP["project"] == nequip_like.compose("train", ["cutoff_radius=4.0", "logger=wandb"]).logger.wandb.project

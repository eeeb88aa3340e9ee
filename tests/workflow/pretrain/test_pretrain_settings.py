"""What the section ``pretrain`` may say, and what it does not go together with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nequip_like.errors import ConfigError
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.pretrain.settings import Pretraining, read_pretraining
from nequip_like.workflow.printing import plan

TEACHER = "pretrain.teacher=emt"


def test_off_by_default(compose: Any) -> None:
    assert compose().pretrain.teacher is None
    assert read_pretraining(None) is None
    assert read_pretraining({"teacher": None, "frames": None}) is None


def test_a_section_is_understood() -> None:
    assert read_pretraining({"teacher": "emt", "frames": 30, "minutes": 2}) == Pretraining("emt", 30, 2.0)
    assert Pretraining("emt").rate_factor == 0.25


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("gfn2", "pretrain is 'gfn2'"),
        ({"teacher": "emt", "frame": 30}, "pretrain: unknown key 'frame'"),
        ({"teacher": "emt", "frames": 0}, "pretrain.frames is 0"),
        ({"teacher": "emt", "minutes": -1.0}, "pretrain.minutes is -1.0"),
        ({"teacher": "emt", "minutes": 1.0, "epochs": 2}, "pretrain.minutes and pretrain.epochs are both given"),
        ({"epochs": 2}, "pretrain.epochs is given, but pretrain.teacher is not"),
    ],
)
def test_what_a_section_cannot_say(section: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_pretraining(section)
    assert caught.value.message.startswith(message)
    assert caught.value.advice


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.val=null"], "pretrain.teacher is given, but there is no data.val"),
        (["trainer.devices=2"], "pretrain.teacher is given, and trainer asks for several processes"),
        (["budget={repeat:x.json}"], "pretrain.teacher is given, and budget repeats another run"),
        (["budget=2min", "pretrain.minutes=2"], "pretrain.minutes is 2, and the whole budget is 2min"),
        (["run=[test]"], "pretrain.teacher is given, but run has no 'train'"),
    ],
)
def test_what_it_does_not_go_together_with(overrides: list[str], message: str, compose: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        check_config(compose(TEACHER, *overrides))
    assert caught.value.message.startswith(message)


def test_not_beside_a_finetuning(tune: Any) -> None:
    with pytest.raises(ConfigError, match=r"pretrain.teacher and finetune.source are both given"):
        check_config(tune(TEACHER))


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("gfn3", "pretrain.teacher is 'gfn3'"),
        ("no/such.safetensors", f"pretrain.teacher: there is no file {Path.cwd()}/no/such.safetensors"),
        ("os.system", "pretrain.teacher._target_ is 'os.system', which is in no trusted package"),
        (
            "ase.calculators.morse.MorsePotential",
            "pretrain.teacher is 'ase.calculators.morse.MorsePotential', and calcu",
        ),
        ("{_target_: ase.calculators.morse.MorsePotential}", "pretrain.teacher._target_ is 'ase.calculators.morse.Mo"),
        ("nequip_like.optim.Optimizer", "pretrain.teacher is 'nequip_like.optim.Optimizer', which is no calculator"),
    ],
)
def test_teachers_that_are_refused(teacher: str, message: str, compose: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        check_config(compose(f"pretrain.teacher={teacher}"))
    assert caught.value.message.startswith(message)


def test_a_package_that_is_not_installed(compose: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nequip_like.workflow.pretrain.teachers.find_spec", lambda name: None)
    monkeypatch.delitem(__import__("sys").modules, "tblite", raising=False)
    with pytest.raises(ConfigError) as caught:
        check_config(compose("pretrain.teacher=gfn2"))
    assert caught.value.message == "pretrain.teacher is gfn2, which needs the package tblite; it is not installed"
    assert caught.value.advice == 'pip install "nequip-like[tblite]"'


def test_a_trusted_calculator_is_taken(compose: Any) -> None:
    teacher = "{_target_: ase.calculators.morse.MorsePotential}"
    checked = check_config(compose(f"pretrain.teacher={teacher}", "trusted_packages=[ase.calculators.morse]"))
    assert plan(checked)["pretraining"] == "up to 4000 structures labelled by ase.calculators.morse.MorsePotential"

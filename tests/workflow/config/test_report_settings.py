"""The section ``report``: which pictures a run leaves."""

from __future__ import annotations

from typing import Any

import pytest

from nequip_like.errors import ConfigError
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.config.sections import read_picture_formats
from nequip_like.workflow.train import train


def pictures(folder: Any) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.suffix in (".png", ".pdf", ".svg"))


def test_a_run_with_all_formats(compose: Any) -> None:
    folder = train(compose("run=[train,test]", "trainer.max_epochs=1", "report.format=[pdf,svg]")).folder
    assert pictures(folder) == ["parity.pdf", "parity.svg", "training.pdf", "training.svg"]


def test_formats() -> None:
    assert read_picture_formats(None) == ["png"]
    assert read_picture_formats({"format": "pdf"}) == ["pdf"]
    assert read_picture_formats({"format": ["svg", "png", "svg"]}) == ["svg", "png"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("report.format=[jpg]", r"report\.format is \['jpg'\]\n.*png, pdf or svg"),
        ("report.format=eps", r"report\.format is \['eps'\]\n.*png, pdf or svg"),
        ("+report.formats=[pdf]", r"report has the unknown key 'formats'\n.*did you mean 'format'\?"),
        ("report=pdf", r"report is 'pdf'\n.*report: \{format: \[png, pdf\]\}"),
    ],
)
def test_mistakes(override: str, message: str, compose: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(compose(override))

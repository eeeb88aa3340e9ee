"""The section ``report``: which pictures a run leaves."""

from __future__ import annotations

from typing import Any

import pytest

from nequip_like.errors import ConfigError
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.config.sections import ReportSettings, read_report
from nequip_like.workflow.train import train


def pictures(folder: Any) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.suffix in (".png", ".pdf", ".svg"))


def test_a_run_with_all_formats(compose: Any) -> None:
    folder = train(compose("run=[train,test]", "trainer.max_epochs=1", "report.format=[pdf,svg]")).folder
    assert pictures(folder) == ["parity.pdf", "parity.svg", "training.pdf", "training.svg"]


def test_settings() -> None:
    assert read_report(None) == ReportSettings(("png",), html=True)
    assert read_report({"format": "pdf"}) == ReportSettings(["pdf"], html=True)
    assert read_report({"format": ["svg", "png", "svg"], "html": False}) == ReportSettings(["svg", "png"], html=False)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("report.format=[jpg]", r"report\.format is \['jpg'\]\n.*png, pdf or svg"),
        ("report.format=eps", r"report\.format is \['eps'\]\n.*png, pdf or svg"),
        ("+report.formats=[pdf]", r"report has the unknown key 'formats'\n.*did you mean 'format'\?"),
        ("report.html=maybe", r"report\.html is 'maybe'\n.*true or false"),
        ("report=pdf", r"report is 'pdf'\n.*report: \{format: \[png, pdf\]\}"),
    ],
)
def test_mistakes(override: str, message: str, compose: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(compose(override))

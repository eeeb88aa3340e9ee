"""Short trainings: their error, what ends them, and where they print."""

from __future__ import annotations

import math
import signal
from pathlib import Path

import pytest

from nequip_like.errors import TrainingError
from nequip_like.workflow.train import TrainingResult
from nequip_like.workflow.trials import Trial, TrialInterrupt, best_of, run_trial


def give(folder: Path, **values: object) -> Trial:
    def train() -> TrainingResult:
        print("an epoch")
        return TrainingResult(folder, **values)  # type: ignore[arg-type]

    return run_trial("a", ["x=1"], 5.0, folder, train)


def test_its_error_and_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert give(tmp_path, best=0.5) == Trial("a", ("x=1",), 5.0, 0.5)
    assert give(tmp_path, best=0.5, larger_is_better=True).error == -0.5
    assert give(tmp_path).problem == "no finite validation error"
    assert capsys.readouterr().out == ""
    assert (tmp_path / "printed.log").read_text() == 3 * "an epoch\n"


def test_a_failure_is_a_bad_trial_and_a_signal_the_end(tmp_path: Path) -> None:
    def fail() -> TrainingResult:
        raise TrainingError("it diverged")

    failed = run_trial("b", (), 5.0, tmp_path, fail)
    assert (failed.error, failed.problem) == (math.inf, "it diverged")
    assert best_of([failed, give(tmp_path, best=0.5)]).error == 0.5
    assert best_of([failed]) is None
    with pytest.raises(TrialInterrupt) as caught:
        give(tmp_path, stopped_by=signal.SIGTERM)
    assert caught.value.number == signal.SIGTERM

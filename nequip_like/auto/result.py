"""What ``nequip-auto`` found, and what is left of it in the output folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nequip_like.auto.settings import Setting
from nequip_like.summaries import Summarized
from nequip_like.training.budget.record_file import BUDGET_FILE
from nequip_like.whole_files import written_whole
from nequip_like.workflow.run_folder.earlier_run import CONFIG_FILE
from nequip_like.workflow.train import TrainingResult
from nequip_like.workflow.trials import Trial

RECORD = "auto.json"


@dataclass(repr=False)
class AutoResult(Summarized):
    """What was found.

    Attributes:
        training: The training with its model file and errors.
        settings: Every choice, with its reason.
        trials: The trials, in order.
        outlook: Lines about more time and more data.
    """

    training: TrainingResult
    settings: list[Setting]
    trials: list[Trial] = field(default_factory=list)
    outlook: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """The training's, with what was chosen."""
        return {**self.training.summary(), **{setting.key: setting.value for setting in self.settings}}

    def list_next_steps(self) -> list[str]:
        """What can be done with the result, as it is typed."""
        folder, model = self.training.folder, self.training.model_file
        if model is None or self.training.stopped_by is not None:
            return []
        steps = f"'budget={{repeat:{folder / BUDGET_FILE}}}'"
        return [
            f"model: {model}",
            f"  to test it: nequip-test {model} FILE; for ASE: nequip_like.NequIPCalculator('{model}')",
            f"  to repeat its steps: nequip-train {folder / CONFIG_FILE} output_dir=NEW {steps}",
            "  to train longer: the same command with more --minutes",
        ]

    def write(self, typed: Sequence[str]) -> None:
        """Write every choice with its reason, the trials and the outlook into the output folder.

        Args:
            typed: The user's overrides.
        """
        content = {
            "settings": [asdict(setting) for setting in self.settings],
            "typed": list(typed),
            "trials": [asdict(trial) for trial in self.trials],
            "outlook": self.outlook,
        }
        with written_whole(self.training.folder / RECORD) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n")

"""What a run writes down of itself: its config, and ``run.json``, of which the report is made."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from rich.console import Console

from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.selection.indices import write_parts
from nequip_like.report.page.run_content import RECORD_FILE
from nequip_like.training.budget.clock import Clock
from nequip_like.training.budget.durations import format_seconds
from nequip_like.training.callbacks.run_times import find_run_times
from nequip_like.training.csv_logger import carry_over
from nequip_like.training.module import NequIPLightningModule
from nequip_like.whole_files import written_whole
from nequip_like.workflow import resume
from nequip_like.workflow.commands import describe_command
from nequip_like.workflow.run_folder import earlier_run
from nequip_like.workflow.run_folder.machine import describe_commit, describe_machine

HISTORY_FILE = "metrics.csv"
# Where frames say by which method they were labelled, and whose they are.
_DESCRIBED = (
    *("level_of_theory", "theory", "functional", "xc", "method", "basis", "basis_set", "code", "dft_code"),
    *("calculator", "source", "doi", "licence", "license"),
)
_MOST_VALUES = 5


class RunRecord:
    """``run.json``: what a run knows of itself beside its config, its history and its tests.

    It has a session for each command that the run was made by; one that goes on in the folder of a run adds its own.

    Args:
        folder: The output folder.
        clock: Seconds since the command began.
        goes_on: Whether the run in the folder goes on.
    """

    def __init__(self, folder: Path, clock: Clock, goes_on: bool) -> None:
        self.folder = folder
        self._clock = clock
        self._content: dict[str, Any] = {"sessions": []}
        path = folder / RECORD_FILE
        if goes_on and path.is_file():
            self._content |= json.loads(path.read_text(encoding="utf-8"))
        self._session: dict[str, Any] = {}

    @rank_zero_only
    def begin(
        self,
        trainer: lightning.Trainer,
        module: NequIPLightningModule,
        data: DataModule,
        info: Mapping[str, Any],
        plan: Mapping[str, str],
        tasks: Sequence[str],
    ) -> None:
        """Write down what is known before the first step.

        Args:
            trainer: The trainer.
            module: What is trained.
            data: The data.
            info: Versions, overrides, fingerprint of the training frames.
            plan: What is going to be run, as text.
            tasks: The tasks.

        Raises:
            OutputError: If the file cannot be written.
        """
        begun = time.gmtime(time.time() - self._clock())
        self._session = {
            "command": describe_command(info["overrides"]),
            "begun": time.strftime("%Y-%m-%d %H:%M:%S", begun),
            "tasks": list(tasks),
            "commit": describe_commit(),
            "versions": dict(info["versions"]),
            "machine": describe_machine(trainer.strategy.root_device, trainer.world_size),
        }
        self._content["sessions"].append(self._session)
        self._content |= {
            "plan": dict(plan),
            "model": {
                "parameters": sum(p.numel() for p in module.model.parameters() if p.requires_grad),
                "kernel": module.model.kernel_in_use,
                "species": list(module.model.type_names),
            },
            "data": _describe_data(data),
            "reference_energies": "" if data.reference is None else data.reference.describe(),
            "train_set": info.get("train_set", self._content.get("train_set", "")),
        }
        self._write()

    def keep_best(self, monitored: str, value: float | None, card: Mapping[str, Any], ends: Sequence[str]) -> None:
        """Remember the weights that were kept, and why training ended.

        Args:
            monitored: What is followed.
            value: Its value.
            card: Metrics, epoch, step and kind of the weights, as in the model file.
            ends: Why training ended.
        """
        names = ("epoch", "step", "weights")
        of_weights = {name: card["provenance"][name] for name in names}
        self._content["best"] = {"monitored": monitored, "value": value, **of_weights, "metrics": dict(card["metrics"])}
        self._content["ends"] = list(ends)

    @rank_zero_only
    def finish(self, trainer: lightning.Trainer) -> None:
        """Write down what came out, and how long it took.

        Args:
            trainer: The trainer.

        Raises:
            OutputError: If the file cannot be written.
        """
        if (times := find_run_times(trainer)) is not None and times.steps:
            names = ("steps", "frames", "epochs", "training_seconds", "validation_seconds")
            self._session |= {name: round(getattr(times, name), 6) for name in names}
        self._session["seconds"] = self._clock()
        self._write()

    def describe_best(self) -> str:
        """The weights that were kept, as one line; empty without training."""
        best = self._content.get("best")
        if not self.has_trained or best is None or best["value"] is None:
            return ""
        return f"{best['monitored']} {best['value']:.4g} at epoch {best['epoch']}, step {best['step']}"

    @property
    def has_trained(self) -> bool:
        """Whether this command trained."""
        return "train" in self._session.get("tasks", ())

    @property
    def best_step(self) -> int:
        """Optimizer steps of the weights that were kept; 0 without training."""
        return int((self._content.get("best") or {}).get("step") or 0)

    def describe_times(self) -> str:
        """How long the run took, as one line."""
        parts = [format_seconds(round(self._session["seconds"], 1))]
        if self._session.get("steps"):
            training, steps = self._session["training_seconds"], self._session["steps"]
            parts.append(f"{1e3 * training / steps:.3g} ms a step, {self._session['frames'] / training:.3g} frames/s")
        return "; ".join(parts)

    def _write(self) -> None:
        with written_whole(self.folder / RECORD_FILE) as partial:
            text = json.dumps(_replace_not_finite(self._content), indent=1, ensure_ascii=False, allow_nan=False)
            partial.write_text(text + "\n", encoding="utf-8")


def _replace_not_finite(value: Any) -> Any:
    """A value whose numbers JSON can hold: null for NaN and infinities."""
    if isinstance(value, Mapping):
        return {key: _replace_not_finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_not_finite(entry) for entry in value]
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value


def _describe_data(data: DataModule) -> list[dict[str, Any]]:
    """Facts and warnings of each set, and what its frames say of their labels."""
    datasets = {
        dataset.name: dataset for dataset in (data.train_set, *data.val_sets.values(), *data.test_sets.values())
    }
    return [
        {
            "name": inspection.name,
            "facts": [list(row) for row in inspection.rows()],
            "warnings": list(inspection.warnings),
            "described": describe_labels(datasets[inspection.name]) if inspection.name in datasets else {},
        }
        for inspection in data.inspections
    ]


def describe_labels(dataset: GraphDataset) -> dict[str, str]:
    """What frames say of the method that their labels come from, and of their licence, by the key in ``atoms.info``.

    Args:
        dataset: The data set.
    """
    counts: dict[str, dict[str, int]] = {}
    keys = frozenset(_DESCRIBED)
    for frame in dataset.annotations:
        for key in keys.intersection(frame.info):
            of_key = counts.setdefault(key, {})
            text = str(frame.info[key])
            of_key[text] = of_key.get(text, 0) + 1
    return {key: _list_values(counts[key], len(dataset)) for key in _DESCRIBED if key in counts}


def _list_values(counts: Mapping[str, int], frames: int) -> str:
    if len(counts) == 1 and frames in counts.values():
        return next(iter(counts))
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    words = [f"{value} ({count} of {frames} frames)" for value, count in ranked[:_MOST_VALUES]]
    return "\n".join([*words, *([f"and {len(ranked) - _MOST_VALUES} more"] if len(ranked) > _MOST_VALUES else [])])


@rank_zero_only
def begin_records(console: Console, folder: Path, resumption: resume.Resumption | None, trains: bool) -> None:
    """Go on with the metrics of the resumed run; move what another run has left in this folder out of the way.

    Args:
        console: Where to print.
        folder: The output folder.
        resumption: The checkpoint that the run goes on from.
        trains: Whether it trains.
    """
    earlier = None if resumption is None else resumption.folder
    if earlier != folder:
        earlier_run.tell_moved(console, folder, earlier_run.move_earlier(folder))
    goes_on = trains or earlier != folder  # tests of a checkpoint take nothing away of its own run's metrics
    if resumption is not None and earlier is not None and goes_on and (earlier / HISTORY_FILE).is_file():
        carry_over(earlier / HISTORY_FILE, folder / HISTORY_FILE, resumption.step)


@rank_zero_only
def save_config(folder: Path, info: Mapping[str, Any], data: DataModule) -> None:
    """Keep the resolved config beside the results, with versions and overrides above it, and which frames were chosen.

    Args:
        folder: The output folder.
        info: The config, versions and overrides.
        data: The data.

    Raises:
        OutputError: If it cannot be written.
    """
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    head = earlier_run.format_config_head(versions, " ".join(info["overrides"]) or "none")
    with written_whole(folder / earlier_run.CONFIG_FILE) as partial:
        partial.write_text(head + OmegaConf.to_yaml(OmegaConf.create(dict(info["config"]))))
    if parts := data.chosen_frames:
        write_parts(folder / earlier_run.INDICES_FILE, parts)

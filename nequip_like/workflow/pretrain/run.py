"""A pretraining in front of a run: label, train on the labels, compare with a fresh start, and let the run begin.

Each stage that is done stands in ``pretrain/report.json`` of the run's folder, so a run that goes on does none twice.
The seconds that were used stand there as well: all of it is part of the run's budget.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig
from rich.console import Console

from nequip_like.data.datamodule import DataModule
from nequip_like.errors import ConfigError, ModelError, NequipLikeError
from nequip_like.model.finetuning import find_tunable
from nequip_like.summaries import print_line
from nequip_like.training.budget.clock import Clock
from nequip_like.training.budget.durations import format_seconds
from nequip_like.training.budget.record_file import BUDGET_FILE
from nequip_like.whole_files import written_whole
from nequip_like.workflow import preflight, resume, setup
from nequip_like.workflow.config import sections
from nequip_like.workflow.config.budget import budget_of
from nequip_like.workflow.config.check import CheckedConfig, check_config
from nequip_like.workflow.pretrain import nested
from nequip_like.workflow.pretrain.geometries import convert_frames
from nequip_like.workflow.pretrain.labelling import Labeller, write_frames
from nequip_like.workflow.pretrain.settings import EPOCHS, FRAMES, Pretraining, read_pretraining
from nequip_like.workflow.pretrain.teachers import build_teacher, check_teacher, describe_teacher
from nequip_like.workflow.run_folder.earlier_run import move_earlier, tell_moved
from nequip_like.workflow.trials import PRINTED, Trial, run_trial, train_quietly

if TYPE_CHECKING:
    from nequip_like.workflow.train import TrainingResult

FOLDER = "pretrain"
REPORT = "report.json"
LABELS = "teacher.xyz"
# Of the budget that is left when the command has read its data.
_SHARE_OF_LABELS, _SHARE_OF_TRAINING, _SHARE_OF_CONTROL = 0.1, 0.35, 0.04
_LONGEST_LABELLING = 900.0  # seconds, without a budget
# Without a budget: so much of the run's steps, within these bounds.
_CONTROL_OF_STEPS, _FEWEST_STEPS, _MOST_STEPS = 0.1, 20, 500

Train = Callable[[DictConfig], "TrainingResult"]


@dataclass(frozen=True)
class Start:
    """How a run begins.

    Attributes:
        checked: Its config, checked, without the pretraining.
        clock: Seconds since it began, with those of earlier commands whose pretraining it goes on with.
        info: What its checkpoints and its model file keep of the pretraining: nothing, or ``{"pretrain": ...}``.
    """

    checked: CheckedConfig
    clock: Clock
    info: dict[str, Any] = field(default_factory=dict)


def prepare_start(config: DictConfig, checked: CheckedConfig, clock: Clock, train: Train) -> Start:
    """Pretrain if the config asks for it, and let the run begin with what came out if that helps.

    Args:
        config: The composed config; of a run that was pretrained it says afterwards what the run itself is: a
            fine-tuning, or a training from scratch.
        checked: The config, checked.
        clock: Seconds since the command began.
        train: Trains with a config.

    Returns:
        How the run begins.

    Raises:
        NequipLikeError: If the teacher or the pretraining cannot do what is asked.
        TrialInterrupt: If a signal ended it.
    """
    settings = read_pretraining(checked.values.get("pretrain"))
    if settings is None:
        return Start(checked, clock)
    folder = Path(str(config.output_dir)).absolute()
    resumption = resume.find_resumption(config, folder)
    if resumption is not None:
        info = resumption.checkpoint_entry.get("pretrain")
        if info is None:
            raise ConfigError(
                f"pretrain.teacher is given, but {resumption.path} is of a run without a pretraining",
                "leave it out: pretrain.teacher=null",
            )
        if "asked" in info:
            _refuse_other(asdict(settings), info["asked"], resumption.path)
        used_clock = clock
    else:
        stages = _Stages(config, settings, checked.trusted, folder, clock, train)
        stages.run()
        info, used_clock = stages.summarize(), stages.clock
    nested.leave_out(config)
    if info["kept"]:
        nested.begin_with(config, Path(info["source"]), settings.rate_factor)
    return Start(check_config(config), used_clock, {"pretrain": info})


class _Stages:
    """The stages of one pretraining, and their report."""

    def __init__(
        self,
        config: DictConfig,
        settings: Pretraining,
        trusted: tuple[str, ...],
        folder: Path,
        clock: Clock,
        train: Train,
    ) -> None:
        self._config, self._settings, self._trusted, self._train = config, settings, trusted, train
        self._console = Console()
        self._folder = folder / FOLDER
        self._goes_on = config.get("resume") == "auto"
        if not self._goes_on:
            tell_moved(self._console, folder, move_earlier(folder, (FOLDER,)))
        self._report: dict[str, Any] = self._read_report() if self._goes_on else {}
        before = float(self._report.get("used", 0.0))
        self.clock: Clock = lambda: before + clock()

    def run(self) -> None:
        """Do the stages that are not done."""
        if "control" in self._report:
            return
        data_config = self._config.copy()
        data = setup.build_data(data_config)
        self._check_same(resume.fingerprint(data.trained_on.frames))
        values = nested.read_data_values(data_config, data)
        self._check_run(data_config, data)
        budget = budget_of(self._config)
        if budget is not None and "left" not in self._report:
            self._report["left"] = budget.seconds - self.clock()  # type: ignore[operator] # no other run is repeated
        if "labels" not in self._report:
            self._label(data)
        if "training" not in self._report:
            self._pretrain(values, data)
        self._compare(data)

    def summarize(self) -> dict[str, Any]:
        """Collect what a model file keeps of it."""
        labels, control = self._report["labels"], self._report["control"]
        return {
            "teacher": describe_teacher(self._settings.teacher),
            "frames": labels["frames"],
            "control": dict(control),
            "kept": control["kept"],
            "source": str(self._source),
            "asked": asdict(self._settings),
        }

    @property
    def _model(self) -> Path:
        return self._folder / resume.MODEL_FILE

    @property
    def _source(self) -> Path:
        """The model under a name that no other model has.

        A later run in the same folder moves this one away, and puts its own model into the place.
        """
        return self._folder / str(self._report["training"]["model"])

    @property
    def _labels(self) -> Path:
        return self._folder / LABELS

    # --- stages

    def _label(self, data: DataModule) -> None:
        check_teacher(self._settings.teacher, self._trusted)
        teacher = build_teacher(self._settings.teacher, self._trusted, data.type_names)
        if nested.trains_stress(self._config, data) and not teacher.gives_stress:
            raise ConfigError(
                f"pretrain.teacher {teacher.name} has no stress, which the loss trains",
                "take another teacher, or targets=energy_force",
            )
        starts = convert_frames(data.train_set.frames)
        labeller = Labeller(
            teacher,
            starts,
            int(self._config.seed),
            self._settings.temperature,
            self._share(_SHARE_OF_LABELS) or _LONGEST_LABELLING,
        )
        self._say(f"pretraining: {teacher.name} labels structures around {len(starts)} training frames")
        done = labeller.collect(self._settings.frames or FRAMES)
        write_frames(self._labels, done.frames)
        self._say(f"pretraining: {done.describe()}; in {self._labels}")
        self._finish(
            "labels",
            {
                "frames": len(done.frames),
                "wanted": done.wanted,
                "temperature": done.temperature,
                "refused": dict(done.refused),
                "failure": done.failure,
                "seconds_of_label": done.seconds,
                "processes": done.processes,
            },
        )

    def _pretrain(self, values: Mapping[str, Any], data: DataModule) -> None:
        settings = self._settings
        seconds = None if settings.minutes is None else 60 * settings.minutes
        if seconds is None and settings.epochs is None:
            seconds = self._share(_SHARE_OF_TRAINING)
        epochs = settings.epochs or EPOCHS
        length: dict[str, Any] = (
            {"trainer.max_epochs": epochs} if seconds is None else {"budget": f"{max(1.0, seconds):.1f}s"}
        )
        how_long = f"{epochs} epochs" if seconds is None else format_seconds(seconds)
        frames = self._report["labels"]["frames"]
        self._say(f"pretraining: {how_long} on them; what it prints is in {self._folder / PRINTED}")
        config = nested.make_pretraining(self._config, settings, values, self._labels, frames, length, self._goes_on)
        began = self.clock()
        with _naming_pretraining():
            result = train_quietly(self._folder, lambda: self._train(config))
        pace = {"steps": self._count_steps(config, data), "seconds": self.clock() - began}
        if seconds is not None:  # one that was stopped and goes on has used more than this command's time
            plan = json.loads((self._folder / BUDGET_FILE).read_text())
            pace = {"steps": plan["steps"], "seconds": plan["used"]}
        errors = {name: value for name, value in result.best_metrics.items() if math.isfinite(value)}
        listing = ", ".join(f"{name.partition('/')[2]} {errors[name]:.4g}" for name in sorted(errors) if "rmse" in name)
        self._say(f"pretraining: done; on teacher's labels held out: {listing}")
        name = f"{self._model.stem}-{hashlib.sha256(self._model.read_bytes()).hexdigest()[:8]}{self._model.suffix}"
        shutil.copyfile(self._model, self._folder / name)
        self._finish("training", {"length": length, **pace, "metrics": errors, "model": name})

    def _compare(self, data: DataModule) -> None:
        """Train for equally many steps from both starts; the better one is the run's."""
        steps = self._count_control_steps(data)
        trials: dict[str, Trial] = {}
        for name, source in (("fresh", None), ("pretrained", self._source)):
            folder = self._folder / "control" / name
            config = nested.make_control(self._config, folder, steps, source, self._settings.rate_factor)
            trials[name] = run_trial(f"{name} weights", (), 0.0, folder, lambda config=config: self._train(config))  # type: ignore[misc]
        fresh, pretrained = trials["fresh"], trials["pretrained"]
        if pretrained.problem and fresh.problem:
            raise ConfigError(f"pretrain: neither start can be trained for {steps} steps: {fresh.problem}",
                              "give more budget, or leave it out: pretrain.teacher=null")  # fmt: skip
        kept = pretrained.error < fresh.error
        metric = str(self._config.get("monitored_metric"))
        what = "kept" if kept else "not kept, the run begins with fresh weights"
        self._say(
            f"pretraining: {what}: after {steps} steps from each, {metric} is {_format(pretrained)} from the "
            f"pretrained weights and {_format(fresh)} from fresh ones"
        )
        content = {"steps": steps, "metric": metric, "kept": kept}
        errors = {name: None if trial.problem else trial.error for name, trial in trials.items()}
        self._finish("control", content | errors)

    def _count_control_steps(self, data: DataModule) -> int:
        seconds = self._share(_SHARE_OF_CONTROL)
        if seconds is not None:
            training = self._report["training"]
            return max(_FEWEST_STEPS, int(seconds * training["steps"] / training["seconds"]))
        trainer = self._config.trainer
        per_epoch = math.ceil(len(data.train_set) / _count_batch_frames(data))
        epochs, whole = trainer.get("max_epochs") or -1, trainer.get("max_steps", -1)
        if whole < 1:
            whole = epochs * per_epoch if epochs > 0 else _MOST_STEPS / _CONTROL_OF_STEPS
        return int(min(max(_CONTROL_OF_STEPS * whole, _FEWEST_STEPS), _MOST_STEPS))

    def _count_steps(self, config: DictConfig, data: DataModule) -> int:
        """Count the steps of a pretraining of so many epochs; its frames are as large as the others."""
        frames = self._report["labels"]["frames"] - config.data.val
        return int(config.trainer.max_epochs * math.ceil(frames / _count_batch_frames(data)))

    # --- what they share

    def _share(self, share: float) -> float | None:
        left = self._report.get("left")
        return None if left is None else share * float(left)

    def _check_run(self, config: DictConfig, data: DataModule) -> None:
        """Refuse a run that would fail after its pretraining."""
        module = setup.build_module(config, data, {})
        if find_tunable(module.model) is None:
            raise ModelError(
                f"pretrain.teacher is given, but the model is of the family '{module.model.config['family']}', which "
                "cannot be fine-tuned",
                "leave it out: pretrain.teacher=null",
            )
        preflight.check_labels(sections.read_tasks(self._config), data, module)

    def _check_same(self, train_set: str) -> None:
        """Refuse to go on with the pretraining of other data or of another section."""
        asked = {**asdict(self._settings), "train_set": train_set}
        if "asked" in self._report:
            _refuse_other(asked, self._report["asked"], self._folder)
        self._report["asked"] = asked

    def _read_report(self) -> dict[str, Any]:
        path = self._folder / REPORT
        if not path.is_file():
            return {}
        try:
            report: dict[str, Any] = json.loads(path.read_text())
        except ValueError:
            raise ConfigError(f"{path} is damaged", f"delete {self._folder}, and begin anew") from None
        return report

    def _finish(self, stage: str, content: Mapping[str, Any]) -> None:
        """Note that a stage is done."""
        self._report[stage] = dict(content)
        self._report["used"] = round(self.clock(), 3)
        with written_whole(self._folder / REPORT) as partial:
            partial.write_text(json.dumps(self._report, indent=1) + "\n")

    def _say(self, line: str) -> None:
        print_line(self._console, line)


def _refuse_other(asked: Mapping[str, Any], before: Mapping[str, Any], place: Path) -> None:
    """Refuse to go on with a pretraining that was another one."""
    for key, value in asked.items():
        if before.get(key) != value:
            name = "the training data" if key == "train_set" else f"pretrain.{key}"
            raise ConfigError(
                f"{name} is not that of the pretraining in {place}, which this run would go on with",
                "set it back, or begin anew, without resume or in another folder: output_dir=FOLDER",
            )


def _format(trial: Trial) -> str:
    return f"nothing ({trial.problem})" if trial.problem else f"{trial.error:.4g}"


@contextmanager
def _naming_pretraining() -> Iterator[None]:
    """Say of an error that the training on the teacher's labels had it."""
    try:
        yield
    except NequipLikeError as error:
        part = f" (a pretraining has {_SHARE_OF_TRAINING:.0%} of it)" if "budget" in error.message else ""
        raise type(error)(f"while pretraining: {error.message}", error.advice + part) from error


def _count_batch_frames(data: DataModule) -> float:
    """Frames of a step, on average; a run with a pretraining has one process."""
    return data.batch_size.count_process_frames(data.train_set.table, global_batch_size=data.global_batch_size)

"""Data and a time become a potential: what ``nequip-auto`` does, as a function."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nequip_like.auto.data_files import check_memory, estimate_reading, find_data_files
from nequip_like.auto.models import CANDIDATES, USUAL, Candidate, choose_without_trial, list_worth_trying
from nequip_like.auto.outlook import PowerLaw, describe_outlook
from nequip_like.auto.pinned import OF_RATE, read_pinned
from nequip_like.auto.plan import SearchPlan, divide_time
from nequip_like.auto.result import AutoResult
from nequip_like.auto.settings import (
    Setting,
    choose_batch,
    choose_cutoff,
    choose_filters,
    choose_loss,
    choose_sets,
    choose_targets,
    leave_pinned,
)
from nequip_like.auto.step_time import StepTime, measure_step
from nequip_like.auto.survey import Survey
from nequip_like.composition.compose import compose
from nequip_like.composition.hydra_compose import extract_key
from nequip_like.composition.quoting import quote_text
from nequip_like.data.datamodule import DataModule
from nequip_like.data.prepared.files import FrameFile
from nequip_like.data.prepared.sets import find_prepared
from nequip_like.errors import ConfigError, DataError
from nequip_like.process_settings import available_memory
from nequip_like.summaries import print_line
from nequip_like.whole_files import path_of
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.run_folder.new_folders import make_new
from nequip_like.workflow.setup import announce_data, build_data
from nequip_like.workflow.train import TrainingResult, train
from nequip_like.workflow.trials import Trial, best_of, run_trial

LEAST_MINUTES = 0.5
RATES = ("0.015", "0.03", "0.06")
USUAL_RATE = "0.03"
_CUTOFF = "5.0"
_SHARE_OF_STEPS = 0.05  # of the time, for measuring steps
_LEAST_LEFT = 10.0  # seconds; in less nothing is learnt
_LONG_READING = 2.0  # seconds; data that take longer are prepared once, for all trainings
_SHARE_OF_MEMORY = 0.5  # that frames may take; the other half is for models, and what reading takes beside its result
# What makes frames be read from files each time, whatever data.cache_dir is.
_NOT_PREPARED = {"data.base_targets", "data.repair"}
# A trial that says something: most of its time is not spent on reading, and it gets some steps.
_LEAST_READINGS, _LEAST_TRIED_STEPS = 4, 300
TRIALS = "trials"
PREPARED = "prepared"  # folder of the frames on disk
_OF_TRIAL = ("run=[train]", "report.format=[]", "uncertainty=none")


def find_potential(
    data: Sequence[str | Path],
    minutes: float = 30.0,
    *,
    test: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    began: float | None = None,
    console: Console | None = None,
    trust_pickle: bool = False,
) -> AutoResult:
    """Train the best potential that data and time allow.

    Looks at the data, measures steps of models on this machine, tries learning rates and models in short trainings,
    trains for the rest of the time, and tests.

    Args:
        data: Files with labelled structures, patterns, or folders of such files: one data set.
        minutes: Time for everything.
        test: Files that are tested in the end; without them a part of ``data`` is put aside.
        overrides: Overrides of the config; what they set is not chosen.
        output: Output folder; a new one under ``outputs`` by default.
        began: When the time began, as :func:`time.monotonic` tells it; now by default.
        console: Where to print; the terminal by default.
        trust_pickle: Read files of pickles, too.

    Raises:
        ConfigError: If an override is wrong, or the time is too short.
        DataError: If the data cannot be used.
    """
    return _Search(data, minutes, test, overrides, output, began, console, trust_pickle).run()


class _Search:
    """One run of ``nequip-auto``: what it has chosen and measured so far."""

    def __init__(
        self,
        data: Sequence[str | Path],
        minutes: float,
        test: Sequence[str | Path],
        overrides: Sequence[str],
        output: str | Path | None,
        began: float | None,
        console: Console | None,
        trust_pickle: bool,
    ) -> None:
        if not LEAST_MINUTES <= minutes < math.inf:
            raise ConfigError(f"minutes is {minutes:g}", f"give {LEAST_MINUTES:g} or more: --minutes 30")
        self.minutes = minutes
        self.end = (time.monotonic() if began is None else began) + 60 * minutes
        self.console = console or Console()
        self.typed = list(overrides)
        self.pinned = read_pinned(overrides)
        found, found_tests = (find_data_files([str(source) for source in given]) for given in (data, test))
        self.files, self.test = found.files, found_tests.files
        self.trust_pickle = trust_pickle
        self.output = output
        for line in (*found.left_out, *found_tests.left_out):
            self._say(line)
        self.settings: list[Setting] = []
        self.trials: list[Trial] = []
        self.reading = 0.0  # seconds that it takes each training to read the data
        self.step = 0.0  # seconds of a step, of the usual model or the user's

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.monotonic()

    @cached_property
    def folder(self) -> Path:
        """The output folder; one that the user has not named is new, and made when something is written to it."""
        if self.output is not None:
            return path_of(self.output).absolute()
        return make_new(path_of(time.strftime("outputs/%Y-%m-%d/auto-%H-%M-%S")).absolute())

    def run(self) -> AutoResult:
        self._look_at_data()
        data = self._read()
        self._check_time("reading the data")
        # What is wrong with the overrides is not for a trial to find.
        check_config(self._compose([f"budget={self.left:.1f}s"]))
        times = self._measure(data)
        self._check_time("reading the data and measuring steps")
        plan = self._plan(times)
        self._try_rates(plan)
        self._try_models(plan, times)
        over_frames = self._try_half(plan, len(data.train_set))
        self._print_settings()
        seconds = self.left
        training = self._train([], seconds)
        outlook = describe_outlook(self._fit_time(training, seconds), over_frames)
        result = AutoResult(training, self.settings, self.trials, outlook)
        self._finish(result)
        return result

    # --- what is chosen without a trial

    def _look_at_data(self) -> None:
        prepared = find_prepared(self.files)
        cutoff = f"{FrameFile(prepared[0]).manifest['cutoff']:g}" if prepared else _CUTOFF
        usual = [] if "cutoff_radius" in self.pinned else [f"cutoff_radius={cutoff}"]
        whole = [*usual, "data.val=null", "data.test=null"]
        self._plan_reading(float(self._compose(whole).cutoff_radius))
        began = time.monotonic()
        survey = Survey.of(build_data(self._compose(whole)))
        self.reading = time.monotonic() - began
        self._say(survey.describe())
        of_set = Setting("cutoff_radius", cutoff, "that of the prepared set")
        self._choose([of_set if prepared else choose_cutoff(survey), choose_targets(survey)])
        self._choose([*choose_loss(survey), *choose_filters(survey)])
        self._choose([*choose_sets(survey, bool(self.test)), choose_batch(survey)])

    def _plan_reading(self, cutoff: float) -> None:
        """Refuse files that take too long to be read, and keep those on disk that do not fit into memory."""
        cost, free = estimate_reading(self.files, cutoff, self.trust_pickle), available_memory()
        if cost is None:
            return
        if cost.seconds > self.left:
            raise DataError(
                f"{cost.name}: to read {cost.size / 1e9:.3g} GB takes some {cost.seconds / 60:.3g} minutes here, and "
                f"{self.minutes:g} are given",
                f"give more time, --minutes {math.ceil(4 * cost.seconds / 60)}, or fewer frames; or read them once: "
                f"nequip-data prepare FILES --cutoff {cutoff:g} --output all.frames, then nequip-auto all.frames",
            )
        if free is None or cost.memory < _SHARE_OF_MEMORY * free:
            return
        if _NOT_PREPARED & self.pinned:
            check_memory(cost, free)
            return
        reason = f"{cost.memory / 1e9:.2g} GB of frames, where {free / 1e9:.2g} GB of memory are free: read from disk"
        self._choose([self._name_cache(reason), Setting("data.held_memory", "0", "as above")])

    def _name_cache(self, reason: str) -> Setting:
        return Setting("data.cache_dir", quote_text(str(self.folder / PREPARED)), reason)

    def _read(self) -> DataModule:
        """Read the data as all trainings have them; what takes long is prepared for them now."""
        is_long = self.reading > _LONG_READING and not _NOT_PREPARED & self.pinned and not find_prepared(self.files)
        if is_long and not any(setting.key == "data.cache_dir" for setting in self.settings):
            self._choose(
                [self._name_cache(f"reading takes {self.reading:.0f} s, which is done once for all trainings")]
            )
        began = time.monotonic()
        data = build_data(self._compose([]))
        self.reading = 0.0 if is_long else time.monotonic() - began
        return data

    def _check_time(self, what: str) -> None:
        """Refuse to train in no time.

        Args:
            what: What has been done so far.
        """
        if self.left < _LEAST_LEFT:
            used = 60 * self.minutes - self.left
            raise ConfigError(
                f"{what} took {used:.0f} s, which leaves no time of the {60 * self.minutes:.0f} s to train",
                f"give more: --minutes {math.ceil(3 * used / 60)}",
            )

    def _measure(self, data: DataModule) -> dict[str, StepTime]:
        """Measure steps of the models, the usual one first, as long as there is time; none if the user chose it."""
        limit, times = _SHARE_OF_STEPS * self.left, {}
        if "finetune.source" in self.pinned:
            return {}
        if self._fixes_model():
            config = self._compose([])
            announce_data(config, data)
            self.step = measure_step(config, data, limit).seconds
            self._say(f"a step of your model takes {1000 * self.step:.3g} ms")
            return {}
        for candidate in sorted(CANDIDATES, key=lambda candidate: candidate is not USUAL):
            began = time.monotonic()
            config = self._compose(candidate.overrides)
            announce_data(config, data)
            times[candidate.name] = measure_step(config, data, limit)
            self._say(f"a step of {candidate.name} takes {1000 * times[candidate.name].seconds:.3g} ms")
            limit -= time.monotonic() - began
            if limit < 0:
                break
        self.step = times[USUAL.name].seconds
        return times

    # --- trials

    def _plan(self, times: dict[str, StepTime]) -> SearchPlan:
        rates = 1 if OF_RATE & self.pinned else len(RATES)
        least = _LEAST_READINGS * self.reading + _LEAST_TRIED_STEPS * self.step
        plan = divide_time(self.left, rates, len(list_worth_trying(times, self.left)) if times else 1, least)
        if times:
            candidate, reason = choose_without_trial(times, self.left - plan.seconds)
            self._choose(candidate.choose(reason))
        return plan

    def _try_rates(self, plan: SearchPlan) -> None:
        """Try learning rates with the model that was chosen; the best one is set."""
        if plan.rates == 0:
            reason = "the usual one; nothing is tried in so short a time"
            self._choose([Setting("training_module.optimizer.lr", USUAL_RATE, reason)])
            return
        trials = [self._try(f"rate {rate}", [f"training_module.optimizer.lr={rate}"], plan.trial) for rate in RATES]
        best = best_of(trials)
        rate = RATES[trials.index(best)] if best else RATES[0]
        errors = ", ".join(f"{value}: {trial.error:.3g}" for value, trial in zip(RATES, trials, strict=True))
        self._choose([Setting("training_module.optimizer.lr", rate, f"validation errors of short trials: {errors}")])

    def _try_models(self, plan: SearchPlan, times: dict[str, StepTime]) -> None:
        """Compare models at the chosen rate; the best one is set."""
        if plan.models == 0:
            return
        candidates = list_worth_trying(times, self.left)
        trials = [self._try(candidate.name, candidate.overrides, plan.long_trial) for candidate in candidates]
        best = best_of(trials)
        if best is None:
            return
        chosen: Candidate = candidates[trials.index(best)]
        errors = ", ".join(f"{trial.label}: {trial.error:.3g}" for trial in trials)
        self.settings = [setting for setting in self.settings if not setting.key.startswith("model.")]
        self._choose(chosen.choose(f"validation errors of trials: {errors}"))

    def _try_half(self, plan: SearchPlan, frames: int) -> PowerLaw | None:
        """Train on half of the frames for as long as the best trial did, to see what twice as many would bring."""
        if not plan.half_data or "data.train_size" in self.pinned or frames < 2:
            return None
        of_this_length = [trial for trial in self._list_fitting() if trial.seconds == plan.long_trial]
        whole = best_of(of_this_length) or self._try("all frames", [], plan.long_trial)
        half = self._try("half of the frames", [f"+data.train_size={frames // 2}"], plan.long_trial)
        if whole.problem or half.problem:
            return None
        return PowerLaw.through([(frames // 2, half.error), (frames, whole.error)])

    def _list_fitting(self) -> list[Trial]:
        """List the trials that had the settings that were chosen, and did not fail."""
        chosen = {setting.override for setting in self.settings}
        return [trial for trial in self.trials if not trial.problem and set(trial.overrides) <= chosen]

    def _fit_time(self, training: TrainingResult, seconds: float) -> PowerLaw | None:
        """Fit the errors of the chosen settings in trials and training over their time."""
        points = [(trial.seconds, trial.error) for trial in self._list_fitting()]
        if training.best is not None and training.best > 0 and math.isfinite(training.best):
            points.append((seconds, training.best))
        return PowerLaw.through(points)

    # --- trainings

    def _try(self, label: str, changes: Sequence[str], seconds: float) -> Trial:
        folder = self.folder / TRIALS / f"{len(self.trials):02d}"
        arguments = [*changes, f"output_dir={folder}", *_OF_TRIAL]
        trial = run_trial(label, changes, seconds, folder, lambda: self._train(arguments, seconds, is_trial=True))
        self.trials.append(trial)
        self._say(trial.describe())
        return trial

    def _train(self, changes: Sequence[str], seconds: float, is_trial: bool = False) -> TrainingResult:
        """Train with what was chosen, and changes of it, for a time."""
        output = [] if is_trial else [f"output_dir={self.folder}"]
        config = self._compose([*changes, *output, f"budget={seconds:.1f}s"])
        if is_trial:
            config.pretrain = None  # once is enough, before the training itself
        return train(config, typed=self.typed)

    def _compose(self, changes: Sequence[str]) -> DictConfig:
        keys = {extract_key(change) for change in changes}
        chosen = [setting.override for setting in self.settings if setting.key not in keys]
        files, tests = (list(map(quote_text, paths)) for paths in (self.files, self.test))
        train = f"[{','.join(files)}]"
        if self.trust_pickle:
            train, tests = (
                f"{{file:{train},trust_pickle:true}}",
                [f"{{file:{file},trust_pickle:true}}" for file in tests],
            )
        sources = [f"data.train={train}", *([f"data.test=[{','.join(tests)}]"] if tests else [])]
        return compose("train", [*sources, *chosen, *changes, *self.typed])

    def _fixes_model(self) -> bool:
        """Whether the user has said what the model is; how its kernel runs, or the seed, says nothing of that."""
        of_model = {"model", "finetune.source", *(f"model.{key}" for key in USUAL.settings)}
        return bool(of_model & self.pinned)

    # --- words

    def _choose(self, settings: Sequence[Setting]) -> None:
        chosen = leave_pinned(settings, self.pinned)
        keys = {setting.key for setting in chosen}
        self.settings = [setting for setting in self.settings if setting.key not in keys] + chosen

    def _print_settings(self) -> None:
        table = Table(title="Chosen", title_justify="left", show_header=False)
        for setting in self.settings:
            table.add_row(*map(escape, (setting.key, setting.value, setting.reason)))
        for override in self.typed:
            key, _, value = override.partition("=")
            table.add_row(escape(key), escape(value), "as you say")
        self.console.print(table)

    def _say(self, line: str) -> None:
        print_line(self.console, line)

    def _finish(self, result: AutoResult) -> None:
        for line in (*result.outlook, *result.list_next_steps()):
            self._say(line)
        result.write(self.typed)

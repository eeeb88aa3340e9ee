"""Run the tasks of a config: train, validate and test a potential, and write the results."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from nequip_like.data.datamodule import DataModule
from nequip_like.errors import ConfigError, naming_arguments
from nequip_like.inference import model_file
from nequip_like.inference.evaluation import Evaluations
from nequip_like.model.checkpoint_format import CHECKPOINT_KEY, read_checkpoint
from nequip_like.model.potential import Potential
from nequip_like.summaries import Summarized, print_line
from nequip_like.training.budget.clock import Clock, clock_from_now
from nequip_like.training.budget.keeper import find_keeper
from nequip_like.training.graceful_stop import find_signal
from nequip_like.training.memory.batch_in_hand import explaining_memory
from nequip_like.training.module import NequIPLightningModule
from nequip_like.workflow import preflight, printing, resume, setup
from nequip_like.workflow.config import sections
from nequip_like.workflow.config.budget import follow_budget
from nequip_like.workflow.config.check import CheckedConfig, check_config
from nequip_like.workflow.config.machine_check import check_machine
from nequip_like.workflow.config.values import register_resolvers
from nequip_like.workflow.ends import list_ends
from nequip_like.workflow.evaluate import report_test_sets
from nequip_like.workflow.failures import first_failure_alone
from nequip_like.workflow.finetune import run as finetune
from nequip_like.workflow.finetune.report import print_start, print_worse_than_source, validate_source
from nequip_like.workflow.interrupts import interruptible
from nequip_like.workflow.loggers import log_config
from nequip_like.workflow.pretrain import run as pretrain
from nequip_like.workflow.pretrain.run import Start
from nequip_like.workflow.quiet import quiet_lightning
from nequip_like.workflow.run_folder import earlier_run
from nequip_like.workflow.run_folder.claims import claimed
from nequip_like.workflow.run_folder.closing import close_run
from nequip_like.workflow.run_folder.held_folder import HeldFolder
from nequip_like.workflow.run_folder.new_folders import name_folder, read_pattern
from nequip_like.workflow.run_folder.records import HISTORY_FILE, RunRecord, begin_records, save_config
from nequip_like.workflow.slurm.requeue import requeue_after
from nequip_like.workflow.slurm.tasks import check_processes
from nequip_like.workflow.trials import TrialInterrupt
from nequip_like.workflow.uncertainty.last_layer import add_uncertainty


@dataclass(repr=False)
class TrainingResult(Summarized):
    """The results of a run.

    Attributes:
        folder: The output folder.
        metrics: The last value of every logged metric of validation and test.
        best_checkpoint: The best checkpoint, if one was written.
        model_file: The exported model, if there was training.
        stopped_by: The signal that ended training early, if one did; later tasks were left out then.
        monitored: The metric that is followed.
        best: Its best value; without training the present one, None if there is none.
        larger_is_better: Whether large values of it are good.
        best_epoch: The epoch of the best value, from 0, if there was training.
        best_metrics: Validation errors at the best value, and test errors.
        before: Of a fine-tuning, the metrics of validation before its first step.
    """

    folder: Path
    metrics: dict[str, float] = field(default_factory=dict)
    best_checkpoint: Path | None = None
    model_file: Path | None = None
    stopped_by: signal.Signals | None = None
    monitored: str = ""
    best: float | None = None
    larger_is_better: bool = False
    best_epoch: int | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    before: dict[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Where the results are, and the errors that are looked at first."""
        errors = {name: value for name, value in self.metrics.items() if name.endswith(("forces_rmse", "weighted_sum"))}
        paths = {"folder": self.folder, "model_file": self.model_file, "best_checkpoint": self.best_checkpoint}
        stopped = {} if self.stopped_by is None else {"stopped_by": self.stopped_by.name}
        return paths | errors | stopped


def train(
    config: DictConfig,
    *,
    typed: Sequence[str] = (),
    checked: CheckedConfig | None = None,
    printed_data: set[str] | None = None,
    clock: Clock | None = None,
    callbacks: Sequence[lightning.Callback] = (),
) -> TrainingResult:
    """Run the tasks of a composed config.

    Tasks before ``train`` use the initial weights, tasks after it the best ones. With a checkpoint (``ckpt_path`` or
    ``resume``), training goes on from there, and tasks before it are done already; without ``train``, the tasks use the
    checkpoint's weights.

    What Lightning says of itself is left out (:func:`~nequip_like.workflow.quiet.quiet_lightning`).

    Args:
        config: The composed config, with the sections run, data, training_module, trainer.
        typed: What was typed behind the command; it is in the config already, and only kept with the results.
        checked: What :func:`~nequip_like.workflow.config.check.check_config` found, if this config was checked already.
        printed_data: What runs before, of the same command, have printed of their data, and what this one adds; the
            same is not printed twice.
        clock: Seconds since the command began, for a ``budget``; by default it begins with this call.
        callbacks: Callbacks beside those of the config, which follow them.

    Returns:
        Where the results are, and the metrics.

    Raises:
        NequipLikeError: If the config or the data cannot be used, or another run that goes on holds the output folder.
    """
    if not isinstance(config, DictConfig):
        raise ConfigError(
            f"train was given a {type(config).__name__}, which is no composed config",
            "compose it: train(compose('config.yaml', ['trainer.max_epochs=100']))",
        )
    try:
        clock = clock or clock_from_now()
        register_resolvers()
        config = config.copy()
        OmegaConf.set_struct(config, True)
        checked = checked or _check_config_and_machine(config)
        check_processes(checked.values["trainer"])
        folder = name_folder_of(config)
        with first_failure_alone(), quiet_lightning(), interruptible(), claimed(folder, "output_dir=FOLDER"):
            try:
                start = pretrain.prepare_start(config, checked, clock, train)
            except TrialInterrupt as stop:
                line = f"stopped by {stop.number.name} while pretraining; go on with resume=auto in the same folder"
                print_line(Console(), line)
                return TrainingResult(folder, stopped_by=stop.number)
            return _train(config, typed, start, printed_data, callbacks)
    finally:
        register_resolvers()  # forgets the statistics of this run


def _train(
    config: DictConfig,
    overrides: Sequence[str],
    start: Start,
    printed_data: set[str] | None,
    callbacks: Sequence[lightning.Callback],
) -> TrainingResult:
    run, checked = start.checked.tasks, start.checked
    folder = setup.make_output_folder(config)
    resumption = resume.find_resumption(config, folder)
    console = Console(quiet=_rank() != 0)
    _follow_budget(console, config)
    tuning = finetune.begin(config, resumption)
    if tuning is not None and resumption is None:
        earlier_run.check_source_stays(folder, tuning.settings.source)
    if "train" in run:
        resume.check_early(resumption, folder, checked.values, overrides)
    data, model = _read(config, tuning, console, printed_data)
    info = setup.collect_provenance(config, overrides) | ({"finetune": tuning.info} if tuning else {}) | start.info
    if "train" in run:
        info["train_set"] = resume.fingerprint(data.trained_on.frames)
    if resumption is not None and "train" in run:
        resume.check_same_run(resumption, info["config"], data.trained_on.frames, overrides)
        run = run[run.index("train") :]  # what comes before is done
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    module = setup.build_module(config, data, info, model)
    trainer = setup.build_trainer(config, start.clock, run)
    all_callbacks: list[lightning.Callback] = trainer.callbacks  # type: ignore[attr-defined] # set by Lightning's connector
    all_callbacks[:] = [HeldFolder(folder), *all_callbacks, *callbacks]
    preflight.check_run(run, data, module, trainer)
    begin_records(console, folder, resumption, "train" in run)
    record = RunRecord(folder, start.clock, goes_on=resumption is not None and resumption.folder == folder)
    if resumption is not None:
        frames = data.batch_size.count_step_frames(trainer.world_size, data.global_batch_size)
        line = resumption.describe(run, trainer.max_epochs, trainer.world_size, frames)
        print_line(console, line)
        if run[0] != "train":
            _load(resumption.content, module)
    print_start(console, tuning, module, data)
    trains = trainer if "train" in run and trainer.is_global_zero else None
    printing.print_training(console, data, module, str(config.get("monitored_metric")), folder, trains)
    save_config(folder, info, data)
    record.begin(trainer, module, data, info, printing.plan(checked), run)
    log_config(trainer, info["config"])

    result = TrainingResult(folder, monitored=str(config.get("monitored_metric") or ""))
    wanted = sections.read_report(info["config"].get("report"))
    evaluations: Evaluations | None = None
    for task in run:
        if task == "train":
            path = None if resumption is None else resumption.path
            resumption = None  # what it holds is not needed twice in memory
            result.before = validate_source(console, tuning, trainer, module, data, result.metrics)
            with explaining_memory(trainer, data), naming_arguments("training_module", sections.OWN_ARGUMENTS):
                trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=None if path is None else True)
            _end_training(console, trainer, module, data, info, result, record, wanted)
            if result.stopped_by is not None:
                # Launchers end all processes when one has ended with a status: not before the first has written all.
                trainer.strategy.barrier("end")
                return result
        else:
            evaluations = _evaluate(console, task, trainer, module, data, result, wanted.formats) or evaluations
    close_run(console, trainer, record, result.best_metrics, evaluations, wanted.html)
    _tell_end(console, trainer, run, result)
    return result


def _follow_budget(console: Console, config: DictConfig) -> None:
    """Let the config follow its budget, and say what that changes."""
    if notes := follow_budget(config):
        line = f"note: with budget={config.budget}, {'; '.join(notes)}"
        print_line(console, line)


def name_folder_of(config: DictConfig) -> Path:
    """Name the output folder, a new one if its name has the time in it, and write it into the config.

    Args:
        config: The config.
    """
    if OmegaConf.is_interpolation(config, "output_dir"):
        pattern = read_pattern(config, "output_dir")
        config.output_dir = str(name_folder(pattern, Path(str(config.output_dir))).absolute())
    return Path(str(config.output_dir)).absolute()


def _check_config_and_machine(config: DictConfig) -> CheckedConfig:
    checked = check_config(config)
    check_machine(checked)
    return checked


def _end_training(
    console: Console,
    trainer: lightning.Trainer,
    module: NequIPLightningModule,
    data: DataModule,
    info: Mapping[str, Any],
    result: TrainingResult,
    record: RunRecord,
    wanted: sections.ReportSettings,
) -> None:
    """Take the best weights, export them, and queue the job again if the signal of its time limit ended training."""
    result.stopped_by = find_signal(trainer)
    result.metrics.update(_convert_metrics(trainer.callback_metrics))
    result.best_checkpoint = _find_best_checkpoint(trainer)
    card = _load_best(trainer, module, info, result.best_checkpoint)
    _keep_best(result, trainer, card)
    record.keep_best(result.monitored, result.best, card, [why for why, _ in list_ends(trainer)])
    printing.print_best(console, trainer, module)
    printing.print_worse_than_baseline(console, trainer, card["metrics"])
    before = result.before.get(result.monitored)
    print_worse_than_source(console, result.monitored, before, result.best, result.larger_is_better)
    device = trainer.strategy.root_device
    try:
        add_uncertainty(console, module.evaluation_model, data, info["config"], result.stopped_by, device)
    finally:  # the weights are kept, whatever becomes of the uncertainty
        _finish_training(console, module, card, result, wanted.formats)
    if result.stopped_by is not None:
        close_run(console, trainer, record, result.best_metrics, None, wanted.html)
        resume.tell_how(console, result.folder, f"stopped by {result.stopped_by.name}")
        requeue_after(result.stopped_by, console)


def _evaluate(
    console: Console,
    task: str,
    trainer: lightning.Trainer,
    module: NequIPLightningModule,
    data: DataModule,
    result: TrainingResult,
    formats: Sequence[str],
) -> Evaluations | None:
    """Validate or test the weights that the module holds; gives what a test found, in the first process."""
    action = trainer.validate if task == "val" else trainer.test
    with explaining_memory(trainer, data):
        action(module, datamodule=data, verbose=False)
    result.metrics.update(_convert_metrics(trainer.callback_metrics))
    if task == "test" and trainer.is_global_zero:
        potential, device = module.evaluation_model, trainer.strategy.root_device  # Lightning leaves it on the CPU
        return report_test_sets(
            potential, data.test_sets, result.folder, data.val_batch_size, console, device, formats=formats
        )
    return None


def _tell_end(console: Console, trainer: lightning.Trainer, run: Sequence[str], result: TrainingResult) -> None:
    """Complete the best values, and say at last, where it is seen, why training ended early."""
    if "train" not in run:
        result.best, result.best_metrics = result.metrics.get(result.monitored), dict(result.metrics)
        return
    result.best_metrics |= {name: value for name, value in result.metrics.items() if name.startswith("test")}
    if (keeper := find_keeper(trainer)) is not None and trainer.is_global_zero:
        print_line(console, keeper.describe_end(trainer))
        keeper.finish()
    for why, change in list_ends(trainer):
        resume.tell_how(console, result.folder, why, change)


def _read(
    config: DictConfig, tuning: finetune.FineTuning | None, console: Console, printed_data: set[str] | None
) -> tuple[DataModule, Potential | None]:
    """Read the data and build the model of a fine-tuning; None for other models, which the config describes."""
    if note := sections.describe_left_out(config):
        print_line(console, f"note: {note}")
    data = setup.build_data(config, () if tuning is None else tuning.source.type_names)
    if printed_data is None:
        printing.print_data(console, data)
    else:
        printing.print_data_once(console, data, printed_data)
    return data, None if tuning is None else tuning.build(config, data)


def _rank() -> int:
    """Rank of this process, before there is a trainer: launchers tell it by the environment."""
    return int(getattr(rank_zero_only, "rank", 0))


def _find_best_checkpoint(trainer: lightning.Trainer) -> Path | None:
    """Find the best checkpoint of the first checkpoint callback that follows a metric."""
    callback = _find_follower(trainer)
    return None if callback is None else Path(callback.best_model_path)


def _find_follower(trainer: lightning.Trainer) -> ModelCheckpoint | None:
    following = (each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint) and each.monitor)
    return next((each for each in following if each.best_model_path), None)


def _keep_best(result: TrainingResult, trainer: lightning.Trainer, card: Mapping[str, Any]) -> None:
    """Keep the best value of what is followed, and the errors of the weights that had it."""
    result.best_epoch, result.best_metrics = card["provenance"]["epoch"], dict(card["metrics"])
    callback = _find_follower(trainer)
    if callback is not None and callback.best_model_score is not None:
        result.monitored = str(callback.monitor)
        result.best = float(callback.best_model_score)
        result.larger_is_better = callback.mode == "max"
    else:
        result.best = result.metrics.get(result.monitored)


def _load_best(
    trainer: lightning.Trainer, module: NequIPLightningModule, info: Mapping[str, Any], best: Path | None
) -> dict[str, Any]:
    """Load the best weights, if there are any but the last; returns the card of what the module then holds."""
    epoch, step, metrics = trainer.current_epoch, trainer.global_step, _convert_metrics(trainer.callback_metrics)
    if best is not None:
        saved = read_checkpoint(best)
        _load(saved, module)
        epoch, step, metrics = saved["epoch"], saved["global_step"], _convert_metrics(saved[CHECKPOINT_KEY]["metrics"])
    provenance = {name: value for name, value in info.items() if name != "base"}
    weights = str(module.averaging) if module.evaluated == "averaged" else "raw"  # as a model file's card names them
    provenance |= {"epoch": epoch, "step": step, "weights": weights}
    return {"metrics": metrics, "provenance": provenance} | ({"base": info["base"]} if "base" in info else {})


def _load(checkpoint: Mapping[str, Any], module: NequIPLightningModule) -> None:
    """Put the weights of a checkpoint into the module."""
    content = dict(checkpoint)
    module.on_load_checkpoint(content)
    module.load_state_dict(content["state_dict"])


@rank_zero_only
def _finish_training(
    console: Console,
    module: NequIPLightningModule,
    card: Mapping[str, Any],
    result: TrainingResult,
    formats: Sequence[str],
) -> None:
    """Say why training ended, export the weights that are evaluated, and draw the learning curves."""
    if module.over is not None:
        print_line(console, f"training ended: {module.over}")
    path = result.folder / resume.MODEL_FILE
    model_file.save(module.evaluation_model, path, card)
    result.model_file = path
    print_line(console, f"model: {path}")
    history = result.folder / HISTORY_FILE
    if formats and history.is_file():
        from nequip_like.report.curves import plot_curves  # matplotlib, which training itself does not need

        best = None if result.best_checkpoint is None else card["provenance"]["epoch"]
        picture = result.folder / "training.png"
        plot_curves(history, picture, formats=formats, best_epoch=best, before=result.before)


def _convert_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if name.startswith(("val", "test"))}

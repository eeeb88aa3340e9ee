"""The main job: train, validate and test a potential as a config says, and write what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from nequip_like.errors import ModelFileError
from nequip_like.inference import model_file
from nequip_like.inference.checkpoint import read_checkpoint
from nequip_like.model.checkpoint_format import CHECKPOINT_KEY
from nequip_like.report.curves import plot_curves
from nequip_like.train.module import NequIPLightningModule
from nequip_like.workflow import checks, setup, summary
from nequip_like.workflow.resolvers import register_resolvers
from nequip_like.workflow.test import report_test_sets

MODEL_FILE = "model.safetensors"
HISTORY_FILE = "metrics.csv"


@dataclass
class TrainingResult:
    """What a run left behind.

    Attributes:
        folder: The output folder.
        metrics: The last value of every logged metric of validation and test.
        best_checkpoint: The best checkpoint, if one was written.
        model_file: The exported model, if there was training.
    """

    folder: Path
    metrics: dict[str, float] = field(default_factory=dict)
    best_checkpoint: Path | None = None
    model_file: Path | None = None


def train(config: DictConfig, overrides: Sequence[str] = ()) -> TrainingResult:
    """Run the tasks of a composed config.

    Tasks before ``train`` use the initial weights (or those of ``ckpt_path``), tasks after it the best ones.

    Args:
        config: The composed config, with the sections run, data, training_module, trainer.
        overrides: What was changed on the command line; kept with the results.

    Returns:
        Where the results are, and the metrics.

    Raises:
        NequipLikeError: If the config or the data cannot be used.
    """
    register_resolvers()
    config = config.copy()
    OmegaConf.set_struct(config, True)
    setup.check_keys(config)
    run = setup.tasks(config)
    folder = setup.output_folder(config)
    console = Console(quiet=_rank() != 0)
    data = setup.build_data(config)
    summary.print_data(console, data)

    info = setup.provenance(config, overrides)
    _keep_earlier(folder / HISTORY_FILE)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    module = setup.build_module(config, data, info)
    trainer = setup.build_trainer(config)
    checks.check_run(run, data, module, trainer)
    checkpoint = config.get("ckpt_path")
    if checkpoint is not None:
        _load(Path(checkpoint), module)
    summary.print_training(console, data, module, str(config.get("monitored_metric")), folder)
    _save_config(folder, info)

    result = TrainingResult(folder)
    for task in run:
        if task == "train":
            trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
            checkpoint = None
            result.metrics.update(_numbers(trainer.callback_metrics))
            result.best_checkpoint = _best_checkpoint(trainer)
            _finish_training(console, module, _load_best(trainer, module, info, result.best_checkpoint), result)
        else:
            action = trainer.validate if task == "val" else trainer.test
            action(module, datamodule=data, verbose=False)
            result.metrics.update(_numbers(trainer.callback_metrics))
            if task == "test" and trainer.is_global_zero:
                report_test_sets(module.evaluation_model, data.test_sets, folder, data.val_batch_size, console)
    return result


def _rank() -> int:
    """Rank of this process, before there is a trainer: launchers tell it by the environment."""
    return int(getattr(rank_zero_only, "rank", 0))


def _best_checkpoint(trainer: lightning.Trainer) -> Path | None:
    """The best checkpoint of the first checkpoint callback that follows a metric."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
            return Path(callback.best_model_path)
    return None


def _load_best(
    trainer: lightning.Trainer, module: NequIPLightningModule, info: Mapping[str, Any], best: Path | None
) -> dict[str, Any]:
    """Put the best weights into the module, if there are any but the last; gives the card of what it then holds."""
    epoch, step, metrics = trainer.current_epoch, trainer.global_step, _numbers(trainer.callback_metrics)
    if best is not None:
        saved = _load(best, module)
        epoch, step, metrics = saved["epoch"], saved["global_step"], saved[CHECKPOINT_KEY]["metrics"]
    return {"metrics": metrics, "provenance": {**info, "epoch": epoch, "step": step}}


def _load(path: Path, module: NequIPLightningModule) -> dict[str, Any]:
    """Put the weights of a checkpoint into the module."""
    if not path.is_file():
        raise ModelFileError(f"there is no checkpoint {path}", "give ckpt_path: the path of a file ending in .ckpt")
    checkpoint = read_checkpoint(path)
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"])
    return checkpoint


@rank_zero_only
def _finish_training(
    console: Console, module: NequIPLightningModule, card: Mapping[str, Any], result: TrainingResult
) -> None:
    """Export the weights that are evaluated, and draw the learning curves."""
    path = result.folder / MODEL_FILE
    model_file.save(module.evaluation_model, path, card)
    result.model_file = path
    console.print(f"model: {path}", markup=False, highlight=False, soft_wrap=True)
    history = result.folder / HISTORY_FILE
    if history.is_file():
        plot_curves(history, result.folder / "training.png")


@rank_zero_only
def _keep_earlier(history: Path) -> None:
    """Put the metrics of an earlier run in this folder aside: Lightning's logger would delete them."""
    if history.is_file():
        taken = len(list(history.parent.glob(f"{history.stem}.[0-9]*{history.suffix}")))
        history.rename(history.with_name(f"{history.stem}.{taken + 1}{history.suffix}"))


@rank_zero_only
def _save_config(folder: Path, info: Mapping[str, Any]) -> None:
    """Keep the resolved config beside the results, with the versions and the overrides above it."""
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    head = f"# {versions}\n# overrides: {' '.join(info['overrides']) or 'none'}\n"
    (folder / "config.yaml").write_text(head + OmegaConf.to_yaml(OmegaConf.create(dict(info["config"]))))


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if name.startswith(("val", "test"))}

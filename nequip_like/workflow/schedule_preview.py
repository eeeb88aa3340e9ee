"""Learning rate and loss weights of a run before it begins: data are read as the run would, nothing is trained."""

from __future__ import annotations

from pathlib import Path

import lightning
from omegaconf import DictConfig, OmegaConf

from nequip_like.errors import ConfigError
from nequip_like.report.schedule_plot import SchedulePreview, plot_schedule
from nequip_like.training.run_length import run_length
from nequip_like.workflow import setup
from nequip_like.workflow.config.values import register_resolvers
from nequip_like.workflow.quiet import quiet_lightning
from nequip_like.workflow.schedule_curves import collect_rates, collect_weights

_POINTS = 3000  # more than an image has columns


def draw_schedule(config: DictConfig, png: str | Path) -> SchedulePreview:
    """Draw the learning rate and the loss weights of a run over its optimizer steps.

    Args:
        config: The composed config, checked.
        png: The image to write.

    Returns:
        What was drawn.

    Raises:
        ConfigError: If the run has no end, or its epochs no fixed number of steps.
        DataError: If the data cannot be used.
        OutputError: If the image cannot be written.
    """
    try:
        with quiet_lightning():
            drawing = preview(config)
    finally:
        register_resolvers()  # forgets the statistics of this run
    plot_schedule(drawing, png)
    return drawing


def preview(config: DictConfig) -> SchedulePreview:
    """Compute the learning rates and loss weights of a run, at its steps or at some thousand of them.

    Args:
        config: The composed config, checked.

    Raises:
        ConfigError: If the run has no end, or its epochs no fixed number of steps.
        DataError: If the data cannot be used.
    """
    register_resolvers()
    if config.get("budget") is not None:
        raise ConfigError(
            "a run with a budget of time has no number of steps to draw before its steps are measured",
            "leave the budget out, and give trainer.max_epochs: shares of the run are drawn as shares of that",
        )
    config = config.copy()
    OmegaConf.set_struct(config, False)
    config.logger, config.output_dir = None, "."  # nothing is written there
    data = setup.build_data(config)
    module = setup.build_module(config, data, {})
    trainer = setup.build_trainer(config)
    _tell_processes(trainer)
    data.trainer = trainer
    batches = _limit_batches(len(data.train_dataloader()), trainer.limit_train_batches)
    run = run_length(trainer, batches)
    if not run.total or run.steps_per_epoch is None:
        raise ConfigError(
            "the run has no end to draw to, no step, or epochs of different lengths",
            "give trainer.max_epochs, and trainer.accumulate_grad_batches without a callback that changes it",
        )
    steps = _sample_steps(run.total)
    rates, notes = collect_rates(module, run, batches, trainer.accumulate_grad_batches, steps)
    weights, weight_notes = collect_weights(module, trainer, run, steps)
    return SchedulePreview(steps, run.steps_per_epoch, rates, weights, [*notes, *weight_notes])


def _tell_processes(trainer: lightning.Trainer) -> None:
    """Let the trainer know how many processes there will be; it learns that when it starts them."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is not None:
        environment.set_world_size(trainer.num_devices * trainer.num_nodes)


def _limit_batches(batches: int, limit: float) -> int:
    """Batches of an epoch; a limit is a number of them, or a share."""
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _sample_steps(total: int) -> list[int]:
    if total <= _POINTS:
        return list(range(total))
    return sorted({round(i * (total - 1) / (_POINTS - 1)) for i in range(_POINTS)})

"""Pictures and errors by species on dashboards, every few epochs."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning
from lightning.pytorch.trainer.states import TrainerFn

from nequip_like.arguments import Count, checked
from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import GraphDataset
from nequip_like.inference.evaluation import Evaluation, evaluate
from nequip_like.report.boards.kinds import find_boards
from nequip_like.training.module import NequIPLightningModule

# Beginnings of what is drawn over epochs beside the errors of validations.
_BY_EPOCH = ("train_loss_epoch/", "train_metric_epoch/", "train_loss_share/", "loss_coeff/", "training_stats/epoch_")
SPECIES = "species_"


class Dashboard(lightning.Callback):
    """Shows parity plots, distributions of errors, and errors by species, of the validation sets.

    Each run that logs to wandb, TensorBoard or MLflow has one. What is shown is of the weights that are evaluated,
    after the first epoch and then after each n-th; the first process predicts a part of each validation set again.

    Args:
        every_n_epochs: Epochs between pictures; None: none.
        frames: At most so many frames of each validation set.
    """

    @checked
    def __init__(self, every_n_epochs: Count | None = 10, frames: Count = 500) -> None:
        self.every_n_epochs = every_n_epochs
        self.frames = frames

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say what is drawn over epochs."""
        if not trainer.is_global_zero:
            return
        names = pl_module.validation_names() if isinstance(pl_module, NequIPLightningModule) else []
        errors = [*dict.fromkeys(name.partition("_epoch/")[0] + "_epoch/" for name in names), SPECIES]
        for board in find_boards(trainer.loggers):
            board.declare_axes([*errors, *_BY_EPOCH], errors)

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the errors. Here the weights are still those that were validated."""
        fitting = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not fitting or self.every_n_epochs is None or not trainer.is_global_zero:
            return
        if trainer.current_epoch and (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined] # set by Lightning
        if (
            find_boards(trainer.loggers)
            and isinstance(data, DataModule)
            and isinstance(pl_module, NequIPLightningModule)
        ):
            self._show(trainer, pl_module, data)

    def _show(self, trainer: lightning.Trainer, module: NequIPLightningModule, data: DataModule) -> None:
        evaluations = {
            name: evaluate(
                module.evaluation_model, _take_first(dataset, self.frames), data.val_batch_size, module.device
            )
            for name, dataset in data.val_sets.items()
        }
        show_pictures(trainer, evaluations, "validation")
        values = {
            f"{SPECIES}{symbol}/{name}_forces_{short}": evaluation.metrics[key]
            for name, evaluation in evaluations.items()
            for symbol in data.type_names
            for short in ("mae", "rmse")
            if (key := f"forces_{short}_{symbol}") in evaluation.metrics
        }
        for logger in trainer.loggers:
            if find_boards([logger]):
                logger.log_metrics({**values, "epoch": float(trainer.current_epoch)}, step=trainer.global_step)


def show_pictures(trainer: lightning.Trainer, evaluations: dict[str, Evaluation], section: str) -> None:
    """Show the parity plot and the distribution of errors on each dashboard.

    Args:
        trainer: The trainer with its loggers.
        evaluations: By name of the data set.
        section: Where they stand.
    """
    # matplotlib, which training itself does not need
    from nequip_like.report.boards.error_plot import plot_errors
    from nequip_like.report.page.compared_set import compare_evaluation
    from nequip_like.report.parity import plot_parity

    with TemporaryDirectory() as folder:
        sets = [compare_evaluation(name, evaluation) for name, evaluation in evaluations.items()]
        pictures = {
            "parity": plot_parity(evaluations, Path(folder) / "parity.png")[0],
            "errors": plot_errors(sets, Path(folder) / "errors.png"),
        }
        for board in find_boards(trainer.loggers):
            for name, picture in pictures.items():
                if picture is not None:
                    board.log_picture(f"{section}/{name}", picture, trainer.current_epoch, trainer.global_step)


def _take_first(dataset: GraphDataset, frames: int) -> GraphDataset:
    """The first frames of a data set; the whole where it has no more."""
    if len(dataset) <= frames:
        return dataset
    return GraphDataset(
        [dataset.frames[i] for i in range(frames)],
        dataset.cutoff,
        dataset.type_names,
        origins=[dataset.origin(i) for i in range(frames)],
        name=dataset.name,
    )

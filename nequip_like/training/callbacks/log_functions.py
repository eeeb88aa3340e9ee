"""Logging by functions of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn

from nequip_like.arguments import Count, checked
from nequip_like.errors import ConfigError, first_line
from nequip_like.instantiate import instantiate
from nequip_like.metrics.terms import check_term_names
from nequip_like.training.callbacks.words import after_step, convert_to_numbers, learning_rate, micro_step, update_step
from nequip_like.training.checkpointing.io import write_waiting_checkpoints
from nequip_like.training.lightning_internals import ends_within_epoch

LogFunction = Callable[[str, dict[str, float], int, int], Any]
CATEGORIES = ("resume", "train_step", "train_epoch", "validation", "best_model", "test", "end")
ALL = "all"


class LogFunctions(lightning.Callback):
    """Calls functions of the user's own with what is logged: ``function(category, values, epoch, step)``.

    ``values`` are plain numbers by their logged names, ``epoch`` counts from 0, ``step`` counts updates of the weights.
    Categories:

    - ``resume``: training goes on from a checkpoint: ``micro_step`` and ``update_step`` of it. What was logged for
      later steps will come again;
    - ``train_step``: after each n-th optimizer step: loss and metrics of its batch, ``lr``, ``micro_step``;
    - ``train_epoch``: after each whole epoch: its loss and training metrics;
    - ``validation``: after each validation: the metrics of all sets;
    - ``best_model``: after a new best checkpoint was written: the value that it follows;
    - ``test``: after a test: the metrics of all sets;
    - ``end``: when training ends, not by an error: the last validation.

    Functions are called on the first process only. One that fails is warned of by its name, and training goes on.

    Args:
        functions: Category -> function, or its config: ``{_target_: my_package.log, _partial_: true}``, or a class
            whose objects can be called. ``all`` takes the categories that have none of their own.
        every_n_steps: Steps between calls of ``train_step``; None: ``trainer.log_every_n_steps``.

    Raises:
        ConfigError: If a category does not exist, or what is given cannot be called.
    """

    @checked
    def __init__(self, functions: Mapping[str, Any], every_n_steps: Count | None = None) -> None:
        check_term_names(functions, (*CATEGORIES, ALL), "category of functions:")
        by_category = {
            category: _build_function(category, function) for category, function in functions.items() if function
        }
        self.functions = {name: by_category.get(name, by_category.get(ALL)) for name in CATEGORIES}
        self.every_n_steps = every_n_steps
        self._best: torch.Tensor | None = None
        self._validation: tuple[dict[str, float], int, int] = ({}, 0, 0)
        self._finished_epoch: int | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell of a resumed run; the best of before is known already."""
        checkpoint = _find_followed_checkpoint(trainer)
        self._best = None if checkpoint is None else checkpoint.best_model_score
        if batches := micro_step(trainer):
            counts = {"micro_step": float(batches), "update_step": float(update_step(trainer))}
            self._call("resume", trainer, counts)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell of the epoch before: only now its values are there."""
        self._tell_of_epoch(trainer)

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Tell of a best checkpoint, which is written last of all."""
        self._look_for_best(trainer)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Tell of a step."""
        every_n = self.every_n_steps or trainer.log_every_n_steps or None  # type: ignore[attr-defined] # set elsewhere
        if self.functions["train_step"] is not None and after_step(trainer, every_n):
            values = _select_values(trainer, ("train_loss_step/", "train_metric_step/", "skipped_steps"))
            counters = {"lr": learning_rate(trainer), "micro_step": float(micro_step(trainer))}
            self._call("train_step", trainer, {**values, **counters})

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell of a validation."""
        if not trainer.sanity_checking:
            values = _select_values(trainer, ("val",))
            self._validation = (values, trainer.current_epoch, update_step(trainer))
            self._call("validation", trainer, values)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note a whole epoch; the module logs its values after this."""
        if not ends_within_epoch(trainer):
            self._finished_epoch = trainer.current_epoch

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell of the last epoch, and that training ended."""
        self._tell_of_epoch(trainer)
        self._look_for_best(trainer)
        values, epoch, _ = self._validation
        self._call("end", trainer, values, epoch)

    def on_test_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell of a test."""
        self._call("test", trainer, _select_values(trainer, ("test",)))

    def _tell_of_epoch(self, trainer: lightning.Trainer) -> None:
        epoch, self._finished_epoch = self._finished_epoch, None
        if epoch is not None:
            values = _select_values(trainer, ("train_loss_epoch/", "train_metric_epoch/", "rollbacks"))
            self._call("train_epoch", trainer, values, epoch)

    def _look_for_best(self, trainer: lightning.Trainer) -> None:
        checkpoint = _find_followed_checkpoint(trainer)
        if checkpoint is None or checkpoint.best_model_score is self._best:
            return  # the same tensor: nothing to wait for on a GPU
        last_best, self._best = self._best, checkpoint.best_model_score
        # A file that could not be written leaves a copy of the value of before.
        if self._best is not None and (last_best is None or float(last_best) != float(self._best)):
            if self.functions["best_model"] is not None:
                write_waiting_checkpoints(trainer)  # the function may read the file
            _, epoch, step = self._validation
            self._call("best_model", trainer, {str(checkpoint.monitor): float(self._best)}, epoch, step)

    def _call(
        self,
        category: str,
        trainer: lightning.Trainer,
        values: dict[str, float],
        epoch: int | None = None,
        step: int | None = None,
    ) -> None:
        function = self.functions[category]
        if function is None or not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch if epoch is None else epoch
        step = update_step(trainer) if step is None else step
        try:
            function(category, dict(values), epoch, step)
        except Exception as error:
            # Whatever it is, it is not worth a run that has trained for days; it is told, every time.
            rank_zero_warn(
                f"the logging function {_name(function)} failed at {category}, epoch {epoch}, step {step}: "
                f"{type(error).__name__}: {first_line(error)}; training goes on"
            )


def _build_function(category: str, function: Any) -> LogFunction:
    if isinstance(function, Mapping):
        function = instantiate(f"functions.{category}", function)
    if not callable(function):
        raise ConfigError(
            f"functions.{category} gives {type(function).__name__}, which cannot be called",
            "name a function, with _partial_: true beside its _target_",
        )
    called: LogFunction = function
    return called


def _name(function: Any) -> str:
    inner = getattr(function, "func", function)
    target = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{target.__module__}.{target.__qualname__}"


def _find_followed_checkpoint(trainer: lightning.Trainer) -> ModelCheckpoint | None:
    """The first checkpoint callback that follows a value."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor:
            return callback
    return None


def _select_values(trainer: lightning.Trainer, prefixes: tuple[str, ...]) -> dict[str, float]:
    return convert_to_numbers(
        {name: value for name, value in trainer.callback_metrics.items() if name.startswith(prefixes)}
    )

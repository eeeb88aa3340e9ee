"""Statistics of training itself: sizes of gradients, weights and updates, times, throughput, memory."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.distributed
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor, nn

from nequip_like.arguments import Count, checked
from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.distributed import is_distributed
from nequip_like.errors import ConfigError
from nequip_like.training.callbacks.words import after_step, learning_rate, update_step
from nequip_like.training.lightning_internals import ends_within_epoch
from nequip_like.training.module import NequIPLightningModule

PREFIX = "training_stats"
_STATM = Path("/proc/self/statm")
_MIB = 2.0**20


@dataclass
class StepWork:
    """What was done since some moment on this process.

    Attributes:
        waiting: Seconds between batches.
        computing: Seconds from the start of a batch to its end.
        batches: Number of batches; so of frames, atoms and edges.
    """

    waiting: float = 0.0
    computing: float = 0.0
    batches: int = 0
    frames: int = 0
    atoms: int = 0
    edges: int = 0

    def add(self, batch: Graph, waiting: float, computing: float) -> None:
        """Add a batch. Its sizes are known without waiting for the device."""
        self.waiting += waiting
        self.computing += computing
        self.batches += 1
        self.frames += len(batch[fields.NUM_ATOMS])
        self.atoms += len(batch[fields.POSITIONS])
        self.edges += batch[fields.EDGE_INDEX].shape[1]

    def compute_rates(self, device: torch.device) -> dict[str, float]:
        """Frames, atoms and edges of all processes by second of this one; all processes must call it."""
        counts = torch.tensor([self.frames, self.atoms, self.edges], dtype=torch.float64)
        if is_distributed():
            counts = counts.to(device)
            torch.distributed.all_reduce(counts)
        seconds = max(self.waiting + self.computing, 1e-9)  # a clock may stand still
        names = ("frames_per_second", "atoms_per_second", "edges_per_second")
        return {name: count / seconds for name, count in zip(names, counts.tolist(), strict=True)}


class TrainingStats(lightning.Callback):
    """Logs how training goes as ``training_stats/NAME``, at some steps and at the end of epochs.

    Of an optimizer step: ``gradient_norm`` (of all processes together, before clipping), ``clipped_gradient_norm``
    (what the optimizer got), ``weight_norm`` and ``update_norm`` (of the weights, and of what the step changed),
    ``update_ratio`` (their quotient), ``learning_rate``. Norms are over all trained weights of the model.

    Of all batches since the last such step: ``data_time`` and ``step_time`` (seconds of a batch: waiting for it, and
    computing with it), ``frames_per_second``, ``atoms_per_second``, ``edges_per_second`` (of all processes).
    Validations do not count; a checkpoint that is written after a batch counts as waiting.

    Of an epoch: ``epoch_time`` (seconds, without validations), ``epoch_data_time`` (the part of it that was waiting),
    and the three rates as ``epoch_frames_per_second`` and so on. Of a resumed epoch only the rest is known.

    With both: ``resident_memory`` (of the process, MiB; Linux) and ``cuda_peak_memory`` (MiB, on a GPU).

    Between the steps that are logged it reads clocks and sizes, and never waits for the device.

    Args:
        every_n_steps: Log after each n-th optimizer step; None: never.
        every_n_epochs: Log after each n-th epoch; None: never.
        by_weight: Also log each norm of each weight by itself, ``gradient_norm/WEIGHT`` and so on. These are hundreds
            of values; wandb, if the run logs to it, draws histograms of weights and gradients as well.

    Raises:
        ConfigError: If an argument is out of range.
    """

    @checked
    def __init__(
        self, every_n_steps: Count | None = 50, every_n_epochs: Count | None = 1, by_weight: bool = False
    ) -> None:
        self.every_n_steps = every_n_steps
        self.every_n_epochs = every_n_epochs
        self.by_weight = by_weight
        self._parameters: dict[str, nn.Parameter] = {}
        self._norms: dict[str, Tensor] = {}
        self._weights_before: dict[str, Tensor] = {}
        self._mark = self._waited = 0.0
        self._since_step, self._since_epoch = StepWork(), StepWork()

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look at the gradients of each step that is logged.

        Raises:
            ConfigError: If there is nothing to log to, or the module is none of ours.
        """
        if not isinstance(pl_module, NequIPLightningModule):
            raise ConfigError(f"TrainingStats cannot look at a {type(pl_module).__name__}", "take it out of callbacks")
        if not trainer.loggers:
            raise ConfigError("TrainingStats has no logger to write to", "take it out of callbacks, or give logger=csv")
        self._parameters = {name: p for name, p in pl_module.model.named_parameters() if p.requires_grad}
        if self._see_gradients not in pl_module.gradient_observers:  # a fit that failed leaves it there
            pl_module.gradient_observers.append(self._see_gradients)
        for logger in self._list_watching(trainer):
            logger.watch(pl_module.model, log="all", log_freq=self.every_n_steps or 1, log_graph=False)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop looking at gradients."""
        if isinstance(pl_module, NequIPLightningModule):
            pl_module.gradient_observers.remove(self._see_gradients)
            for logger in self._list_watching(trainer):
                logger.experiment.unwatch(pl_module.model)

    def _list_watching(self, trainer: lightning.Trainer) -> list[WandbLogger]:
        wanted = self.by_weight and self.every_n_steps is not None
        return [logger for logger in trainer.loggers if wanted and isinstance(logger, WandbLogger)]

    # --- times

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, also within an epoch that is gone on with."""
        self._since_step, self._since_epoch = StepWork(), StepWork()
        self._mark = time.perf_counter()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the epoch's clock."""
        self._since_epoch = StepWork()
        self._mark = time.perf_counter()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave out the time of the validation."""
        self._mark = time.perf_counter()

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """The batch is there."""
        start = time.perf_counter()
        self._waited, self._mark = start - self._mark, start

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Graph, *_: Any
    ) -> None:
        """The batch is done: count it, and log if it is time."""
        computing = time.perf_counter() - self._mark
        for work in (self._since_step, self._since_epoch):
            work.add(batch, self._waited, computing)
        if after_step(trainer, self.every_n_steps):
            recent, self._since_step = self._since_step, StepWork()
            values = {
                **self._measure_norms(),
                "learning_rate": learning_rate(trainer),
                "data_time": recent.waiting / recent.batches,
                "step_time": recent.computing / recent.batches,
                **recent.compute_rates(pl_module.device),
            }
            _log(trainer, pl_module, values, trainer.fit_loop.epoch_loop._batches_that_stepped)
        self._mark = time.perf_counter()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Log an epoch that is whole."""
        due = self.every_n_epochs is not None and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if not due or ends_within_epoch(trainer):
            return
        epoch_work = self._since_epoch
        values = {
            "epoch_time": epoch_work.waiting + epoch_work.computing,
            "epoch_data_time": epoch_work.waiting,
            **{f"epoch_{name}": rate for name, rate in epoch_work.compute_rates(pl_module.device).items()},
        }
        # Lightning logs an epoch's values at its last step.
        _log(trainer, pl_module, values, trainer.fit_loop.epoch_loop._batches_that_stepped - 1)

    # --- sizes

    def _see_gradients(self, trainer: lightning.Trainer) -> None:
        """Between the sum over processes and the clipping, of the step that comes next."""
        self._norms, self._weights_before = {}, {}
        if self.every_n_steps is None or (trainer.global_step + 1) % self.every_n_steps:
            return
        gradients = self._collect_gradients()
        if gradients:  # else the step is left out
            self._norms = self._compute_norms("gradient_norm", gradients)
            self._weights_before = {name: weight.detach().clone() for name, weight in self._parameters.items()}

    def _collect_gradients(self) -> dict[str, Tensor]:
        return {name: weight.grad for name, weight in self._parameters.items() if weight.grad is not None}

    def _compute_norms(self, kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Euclidean norms, float64, shape (): of all tensors together, and of each if that is wanted."""
        norms = [norm.double() for norm in torch._foreach_norm(list(tensors.values()))]
        by_name = dict(zip(tensors, norms, strict=True)) if self.by_weight else {}
        return {kind: torch.stack(norms).norm(), **{f"{kind}/{name}": norm for name, norm in by_name.items()}}

    def _measure_norms(self) -> dict[str, float]:
        """Norms of the step that was just taken: one wait for the device."""
        if not self._weights_before:
            return {}
        norms, weights_before = self._norms, self._weights_before
        self._norms, self._weights_before = {}, {}
        weights = {name: weight.detach() for name, weight in self._parameters.items()}
        if gradients := self._collect_gradients():  # clipped ones, until the next batch
            norms |= self._compute_norms("clipped_gradient_norm", gradients)
        norms |= self._compute_norms("weight_norm", weights)
        updates = {name: weight - weights_before[name] for name, weight in weights.items()}
        norms |= self._compute_norms("update_norm", updates)
        values = dict(zip(norms, torch.stack(list(norms.values())).tolist(), strict=True))
        if values["weight_norm"] > 0:
            values["update_ratio"] = values["update_norm"] / values["weight_norm"]
        return values


def _measure_memory(device: torch.device) -> dict[str, float]:
    values = {}
    if _STATM.is_file():
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
        values["resident_memory"] = pages * os.sysconf("SC_PAGE_SIZE") / _MIB
    if device.type == "cuda":
        values["cuda_peak_memory"] = torch.cuda.max_memory_allocated(device) / _MIB
    return values


def _log(trainer: lightning.Trainer, module: lightning.LightningModule, values: dict[str, float], step: int) -> None:
    """Write to all loggers at once; Lightning would repeat a value at later steps, until there is another."""
    values = {**values, **_measure_memory(module.device)}
    prefixed = {f"{PREFIX}/{name}": value for name, value in values.items()}
    for logger in trainer.loggers:
        logger.log_metrics({**prefixed, "epoch": trainer.current_epoch, "update_step": update_step(trainer)}, step=step)

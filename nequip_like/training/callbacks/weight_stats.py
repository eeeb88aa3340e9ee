"""Statistics of each weight by its name, and wandb's own watch: what NequIP's callbacks of these names do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor, nn

from nequip_like.arguments import Count, checked
from nequip_like.errors import ConfigError
from nequip_like.training.module import NequIPLightningModule

_PREFIX = "training_stats"

Statistic = Callable[[Tensor], Tensor]
_WEIGHTS: dict[str, Statistic] = {
    "min": torch.min,
    "max": torch.max,
    "mean": torch.mean,
    "std": torch.std,
    "absmin": lambda tensor: tensor.abs().min(),
    "absmax": lambda tensor: tensor.abs().max(),
}
_SIZES: dict[str, Statistic] = {
    "absmax": lambda tensor: tensor.abs().max(),
    "rms": lambda tensor: tensor.square().mean().sqrt(),
}
_ROOTS: dict[str, Statistic] = {
    "min": lambda tensor: tensor.min().sqrt(),
    "max": lambda tensor: tensor.max().sqrt(),
    "mean": lambda tensor: tensor.sqrt().mean(),
}


class TrainingStatsMonitor(lightning.Callback):
    """Logs statistics of each trained weight, its gradient and its state in the optimizer, as NequIP's does.

    Names: ``training_stats.weights.S/WEIGHT`` with S min, max, mean, std (NaN of a single number), absmin, absmax;
    ``training_stats.gradients.S/WEIGHT`` with absmax, rms: of all processes together, before clipping;
    ``training_stats.optimizer.exp_avg.S/WEIGHT`` with absmax, rms, and ``optimizer.sqrt_exp_avg_sq.S`` with min, max,
    mean, for optimizers that have these (Adam). All are from right before the step.

    These are thousands of values; ``TrainingStats`` sums up.

    Args:
        log_freq: Log at every n-th optimizer step, from the first.
        log_weights: Log the weights.
        log_gradients: Log the gradients.
        log_optimizer_states: Log the state of the optimizer.

    Raises:
        ConfigError: If an argument is out of range.
    """

    @checked
    def __init__(
        self,
        log_freq: Count = 100,
        log_weights: bool = True,
        log_gradients: bool = True,
        log_optimizer_states: bool = True,
    ) -> None:
        self.log_freq = log_freq
        self.log_weights = log_weights
        self.log_gradients = log_gradients
        self.log_optimizer_states = log_optimizer_states

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look at each step before it is taken."""
        observers = _check_module(pl_module, type(self).__name__).gradient_observers
        if self._observe not in observers:  # a fit that failed leaves it there
            observers.append(self._observe)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop looking at steps."""
        _check_module(pl_module, type(self).__name__).gradient_observers.remove(self._observe)

    def _observe(self, trainer: lightning.Trainer) -> None:
        if trainer.global_step % self.log_freq or not trainer.is_global_zero:
            return
        module = _check_module(trainer.lightning_module, type(self).__name__)
        weights = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
        statistics: dict[str, Tensor] = {}
        if self.log_weights:
            statistics |= _compute_statistics(
                "weights", _WEIGHTS, ((name, weight.detach()) for name, weight in weights)
            )
        if self.log_gradients:
            statistics |= _compute_statistics("gradients", _SIZES, ((name, weight.grad) for name, weight in weights))
        if self.log_optimizer_states:
            statistics |= self._compute_state_statistics(trainer, weights)
        if not statistics:
            return
        values = dict(
            zip(statistics, torch.stack([value.double() for value in statistics.values()]).tolist(), strict=True)
        )
        for logger in trainer.loggers:
            step = trainer.fit_loop.epoch_loop._batches_that_stepped
            logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=step)

    @staticmethod
    def _compute_state_statistics(
        trainer: lightning.Trainer, weights: list[tuple[str, nn.Parameter]]
    ) -> dict[str, Tensor]:
        states = trainer.optimizers[0].state
        states_by_name = [(name, states.get(weight, {})) for name, weight in weights]
        return {
            **_compute_statistics(
                "optimizer.exp_avg", _SIZES, ((name, state.get("exp_avg")) for name, state in states_by_name)
            ),
            **_compute_statistics(
                "optimizer.sqrt_exp_avg_sq", _ROOTS, ((name, state.get("exp_avg_sq")) for name, state in states_by_name)
            ),
        }


class WandbWatch(lightning.Callback):
    """Lets wandb draw histograms of weights and gradients: ``wandb.watch``, as NequIP's does.

    Args:
        log_freq: At every n-th batch.
        log: ``gradients``, ``parameters``, ``all``, or None for neither.
        log_graph: Also draw the model.

    Raises:
        ConfigError: If an argument is out of range.
    """

    @checked
    def __init__(
        self,
        log_freq: Count,
        log: Literal["gradients", "parameters", "all"] | None = "gradients",
        log_graph: bool = False,
    ) -> None:
        self.log_freq = log_freq
        self.log = log
        self.log_graph = log_graph

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin to watch.

        Raises:
            ConfigError: If the run does not log to wandb.
        """
        model = _check_module(pl_module, type(self).__name__).model
        loggers = _find_wandb_loggers(trainer)
        if not loggers:
            raise ConfigError("WandbWatch needs a wandb logger", "give logger=wandb, or take it out of callbacks")
        for logger in loggers:
            logger.watch(model, log=self.log, log_freq=self.log_freq, log_graph=self.log_graph)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop watching."""
        for logger in _find_wandb_loggers(trainer):
            logger.experiment.unwatch(_check_module(pl_module, type(self).__name__).model)


def _find_wandb_loggers(trainer: lightning.Trainer) -> list[WandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def _compute_statistics(
    kind: str, statistics: dict[str, Statistic], tensors: Iterable[tuple[str, Tensor | None]]
) -> dict[str, Tensor]:
    """Statistics of each tensor that there is."""
    return {
        f"{_PREFIX}.{kind}.{statistic}/{name}": _apply_statistic(function, tensor)
        for name, tensor in tensors
        if isinstance(tensor, Tensor) and tensor.numel()
        for statistic, function in statistics.items()
    }


def _apply_statistic(function: Statistic, tensor: Tensor) -> Tensor:
    if function is torch.std and tensor.numel() == 1:
        return tensor.new_tensor(torch.nan)  # torch warns, and gives the same
    return function(tensor)


def _check_module(module: Any, callback_name: str) -> NequIPLightningModule:
    if not isinstance(module, NequIPLightningModule):
        raise ConfigError(f"{callback_name} cannot look at a {type(module).__name__}", "take it out of callbacks")
    return module

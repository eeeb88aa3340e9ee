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
        observers = _own(pl_module, type(self).__name__).gradient_observers
        if self._observe not in observers:  # a fit that failed leaves it there
            observers.append(self._observe)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look away."""
        _own(pl_module, type(self).__name__).gradient_observers.remove(self._observe)

    def _observe(self, trainer: lightning.Trainer) -> None:
        if trainer.global_step % self.log_freq or not trainer.is_global_zero:
            return
        module = _own(trainer.lightning_module, type(self).__name__)
        named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
        found: dict[str, Tensor] = {}
        if self.log_weights:
            found |= _of("weights", _WEIGHTS, ((name, weight.detach()) for name, weight in named))
        if self.log_gradients:
            found |= _of("gradients", _SIZES, ((name, weight.grad) for name, weight in named))
        if self.log_optimizer_states:
            found |= self._states(trainer, named)
        if not found:
            return
        values = dict(zip(found, torch.stack([value.double() for value in found.values()]).tolist(), strict=True))
        for logger in trainer.loggers:
            step = trainer.fit_loop.epoch_loop._batches_that_stepped
            logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=step)

    @staticmethod
    def _states(trainer: lightning.Trainer, named: list[tuple[str, nn.Parameter]]) -> dict[str, Tensor]:
        states = trainer.optimizers[0].state
        own = [(name, states.get(weight, {})) for name, weight in named]
        return {
            **_of("optimizer.exp_avg", _SIZES, ((name, state.get("exp_avg")) for name, state in own)),
            **_of("optimizer.sqrt_exp_avg_sq", _ROOTS, ((name, state.get("exp_avg_sq")) for name, state in own)),
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
        self.wanted = log
        self.log_graph = log_graph

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin to watch.

        Raises:
            ConfigError: If the run does not log to wandb.
        """
        model = _own(pl_module, type(self).__name__).model
        loggers = _wandb(trainer)
        if not loggers:
            raise ConfigError("WandbWatch needs a wandb logger", "give logger=wandb, or take it out of callbacks")
        for logger in loggers:
            logger.watch(model, log=self.wanted, log_freq=self.log_freq, log_graph=self.log_graph)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """End it."""
        for logger in _wandb(trainer):
            logger.experiment.unwatch(_own(pl_module, type(self).__name__).model)


def _wandb(trainer: lightning.Trainer) -> list[WandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def _of(what: str, statistics: dict[str, Statistic], tensors: Iterable[tuple[str, Tensor | None]]) -> dict[str, Tensor]:
    """Statistics of each tensor that there is."""
    return {
        f"{_PREFIX}.{what}.{statistic}/{name}": _value(function, tensor)
        for name, tensor in tensors
        if isinstance(tensor, Tensor) and tensor.numel()
        for statistic, function in statistics.items()
    }


def _value(function: Statistic, tensor: Tensor) -> Tensor:
    if function is torch.std and tensor.numel() == 1:
        return tensor.new_tensor(torch.nan)  # torch warns, and gives the same
    return function(tensor)


def _own(module: Any, who: str) -> NequIPLightningModule:
    if not isinstance(module, NequIPLightningModule):
        raise ConfigError(f"{who} cannot look at a {type(module).__name__}", "take it out of callbacks")
    return module

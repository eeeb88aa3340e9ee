"""Curves of learning rate and loss weights over the steps of a run, computed without training."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import lightning
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from nequip_like.errors import naming_arguments
from nequip_like.metrics.manager import MetricsManager
from nequip_like.optim.schedules.learning_rate import LearningRate
from nequip_like.optim.schedules.lengths import RunLength
from nequip_like.training.callbacks.loss_weights.schedule import LossWeightSchedule
from nequip_like.training.module import NequIPLightningModule


@runtime_checkable
class KnownBeforehand(Protocol):
    """A callback that sets the coefficients of the loss, and can tell them beforehand."""

    def coefficients_at(self, epoch: int, step: int, loss: MetricsManager) -> dict[str, float] | None:
        """The coefficients, as they are logged; None if they depend on the training."""
        ...


# --- learning rates


def collect_rates(
    module: NequIPLightningModule, run: RunLength, batches: int, accumulates: int, steps: Sequence[int]
) -> tuple[dict[str, list[float]], list[str]]:
    """Learning rates of a run at some of its steps, and notes on what they leave out.

    Args:
        module: The training module.
        run: How long the run is.
        batches: Batches of an epoch.
        accumulates: Batches of a step.
        steps: The steps, in order.

    Returns:
        A curve for each group of weights, by its name.
    """
    with naming_arguments("training_module", ("optimizer", "lr_scheduler")):
        configuration = module.configure_optimizers()
    optimizer: Optimizer = configuration["optimizer"] if isinstance(configuration, Mapping) else configuration
    entry: Mapping[str, Any] = configuration.get("lr_scheduler", {}) if isinstance(configuration, Mapping) else {}
    scheduler = entry.get("scheduler")
    notes = []
    if isinstance(scheduler, ReduceLROnPlateau) or (isinstance(scheduler, LearningRate) and scheduler.monitor):
        monitor = scheduler.monitor if isinstance(scheduler, LearningRate) else entry["monitor"]
        notes.append(f"the learning rate is lowered as {monitor} tells, which is not shown")
    if isinstance(scheduler, LearningRate):
        scheduler.begin(run)
        values = [scheduler.rates_at(n) for n in steps]
    elif scheduler is None or isinstance(scheduler, ReduceLROnPlateau):
        values = [_read_rates(optimizer) for _ in steps]
    else:
        all_values = _simulate_rates(scheduler, optimizer, entry, batches, accumulates)
        sampled = set(steps)
        values = [rates for n, rates in zip(range(steps[-1] + 1), all_values, strict=False) if n in sampled]
    return _group_curves(optimizer, list(zip(*values, strict=True))), notes


def _read_rates(optimizer: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def _simulate_rates(
    scheduler: LRScheduler, optimizer: Optimizer, entry: Mapping[str, Any], batches: int, accumulates: int
) -> Iterator[list[float]]:
    """Learning rates of each step under a scheduler of torch, stepped when Lightning steps it."""
    frequency, by_steps = int(entry.get("frequency", 1)), entry.get("interval", "epoch") == "step"
    epoch = 0
    while True:
        for batch in [*range(accumulates, batches, accumulates), batches]:
            yield _read_rates(optimizer)
            number = batch if by_steps else epoch + 1
            if number % frequency == 0 and (by_steps or batch == batches):
                with warnings.catch_warnings():
                    # There is no training, so no step of the optimizer comes before.
                    warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler.step\(\)` before")
                    scheduler.step()
        epoch += 1


def _group_curves(optimizer: Optimizer, columns: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Curves by the names of their groups; groups with the same curve share it."""
    names: dict[tuple[float, ...], list[str]] = {}
    for i, (group, column) in enumerate(zip(optimizer.param_groups, columns, strict=True)):
        names.setdefault(tuple(column), []).append(str(group.get("name", f"group {i + 1}")))
    if len(names) == 1:
        return {"": list(next(iter(names)))}
    return {", ".join(group_names): list(column) for column, group_names in names.items()}


# --- loss weights


def collect_weights(
    module: NequIPLightningModule, trainer: lightning.Trainer, run: RunLength, steps: Sequence[int]
) -> tuple[dict[str, list[float]], list[str]]:
    """Loss weights of a run at some of its steps, and notes on what they leave out.

    Args:
        module: The training module.
        trainer: The trainer with its callbacks.
        run: How long the run is.
        steps: The steps, in order.

    Returns:
        A curve for each term of the loss, by its name; without those that are always 0.
    """
    loss = module.loss
    if loss is None or run.steps_per_epoch is None:
        return {}, []
    callbacks: list[lightning.Callback] = trainer.callbacks  # type: ignore[attr-defined] # set by Lightning's connector
    setters = [callback for callback in callbacks if isinstance(callback, KnownBeforehand)]
    for setter in setters:
        if isinstance(setter, LossWeightSchedule):
            setter.begin(run)
    names = " and ".join(type(setter).__name__ for setter in setters)
    if len(setters) > 1:
        return {}, [f"loss weights, which {names} change one after the other, are not shown"]
    curves: dict[str, list[float]] = {name: [] for name, coeff in loss.coeffs.items() if coeff is not None}
    unknown = False
    for i, step in enumerate(steps):
        coefficients: Mapping[str, float | None] = loss.coeffs
        for setter in setters:
            announced = setter.coefficients_at(step // run.steps_per_epoch, step, loss)
            unknown = unknown or announced is None
            coefficients = coefficients if announced is None else announced
        for name in curves.keys() | coefficients.keys():
            curve = curves.setdefault(name, [0.0] * i)
            curve.append(coefficients.get(name) or 0.0)
    drawn = {name: curve for name, curve in curves.items() if any(curve)}
    return drawn, [f"loss weights that {names} finds while it trains are not shown"] if unknown else []

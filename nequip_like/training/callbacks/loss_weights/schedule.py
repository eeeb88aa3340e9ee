"""A callback that changes the weights of the loss over epochs, steps or shares of the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import lightning

from nequip_like.arguments import NotNegative, Range, check
from nequip_like.errors import ConfigError
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.terms import check_term_names
from nequip_like.optim.schedules.lengths import RunLength
from nequip_like.training.callbacks.loss_weights.base import CoefficientCallback, find_loss, select_weighted
from nequip_like.training.callbacks.loss_weights.stages import compute_stages, read_stages, resolve_names
from nequip_like.training.run_length import run_length

Interval = Literal["epoch", "step", "share"]
_UNITS: dict[str, Interval] = {"epochs": "epoch", "steps": "step", "share": "share"}
_KEYS = {
    "constant": ("value",),
    "piecewise_constant": ("value", "boundaries"),
    "linear": ("from", "to", "start", "end"),
    "cosine": ("from", "to", "start", "end"),
}
_COMMON = ("kind", "interval")
_WEIGHT = Range(low=0, high_open=True)
_SHARE = Range(low=0, high=1)


@dataclass(frozen=True)
class WeightFunction:
    """The weight of one term.

    Attributes:
        interval: Whether it goes by epochs, optimizer steps, or the share of the run that is done.
        shape: From this number, and the configured weight, to the weight.
        uses_configured: Whether the configured weight matters.
    """

    interval: Interval
    shape: Callable[[float, float], float]
    uses_configured: bool

    def at(self, epoch: int, step: int, share: float, configured: float) -> float:
        """The weight in an epoch (from 0 on), after a number of optimizer steps, which are a share of the run."""
        return self.shape({"epoch": epoch, "step": step, "share": share}[self.interval], configured)


def read_weight_function(name: str, entry: Mapping[str, Any], interval: Interval) -> WeightFunction:
    """Read how a weight shall change.

    Args:
        name: Name of the term, for messages.
        entry: ``kind`` and the keys of that kind.
        interval: What plain numbers count; an ``interval`` of the entry has precedence.

    Raises:
        ConfigError: If a key is unknown or missing, or a value out of range.
    """
    kind = _read_kind(name, entry)
    check_term_names(entry, [*_COMMON, *_KEYS[kind]], f"key of the {kind} schedule of '{name}':")
    if "interval" in entry:
        check(f"interval of '{name}'", entry["interval"], Interval)
        interval = entry["interval"]
    if kind == "constant":
        value = _read_weight(name, entry, "value")
        return WeightFunction(interval, lambda elapsed, configured: value, False)
    if kind == "piecewise_constant":
        return _read_piecewise(name, entry, interval)
    return _read_ramp(name, entry, interval, rise_linearly if kind == "linear" else rise_as_cosine)


def rise_linearly(share: float) -> float:
    """From 0 to 1 along a line."""
    return share


def rise_as_cosine(share: float) -> float:
    """From 0 to 1 along half a period of a cosine: slow at both ends.

    Example:
        >>> [round(rise_as_cosine(share), 3) for share in (0.0, 0.25, 0.5, 1.0)]
        [0.0, 0.146, 0.5, 1.0]
    """
    return 0.5 * (1.0 - math.cos(math.pi * share))


def piecewise_constant(value: float, boundaries: Sequence[tuple[float, float]], elapsed: float) -> float:
    """A value that is multiplied by a factor at each boundary that was reached (mlip's, optax's rule).

    Example:
        Factors act one after the other: 25 at epoch 100, and half of that from epoch 200 on.

        >>> [piecewise_constant(1.0, [(100, 25.0), (200, 0.5)], epoch) for epoch in (99, 100, 200)]
        [1.0, 25.0, 12.5]
    """
    for boundary, factor in boundaries:
        if elapsed >= boundary:
            value *= factor
    return value


def ramp(first: float, last: float, start: float, end: float, curve: Callable[[float], float], elapsed: float) -> float:
    """``first`` until ``start``, ``last`` from ``end`` on, and a curve between.

    Example:
        >>> [ramp(1.0, 11.0, start=10, end=20, curve=rise_linearly, elapsed=epoch) for epoch in (10, 15, 20, 99)]
        [1.0, 6.0, 11.0, 11.0]
    """
    if elapsed <= start:
        return first
    if elapsed >= end:
        return last
    return first + curve((elapsed - start) / (end - start)) * (last - first)


def _read_kind(name: str, entry: Mapping[str, Any]) -> str:
    if not isinstance(entry, Mapping) or "kind" not in entry:
        raise ConfigError(f"the schedule of '{name}' has no kind", f"write kind: {', '.join(_KEYS)}")
    if entry["kind"] not in _KEYS:
        check_term_names({str(entry["kind"]): None}, list(_KEYS), f"kind in the schedule of '{name}':")
    return str(entry["kind"])


def _read_weight(name: str, entry: Mapping[str, Any], key: str) -> float:
    if key not in entry:
        raise ConfigError(f"the schedule of '{name}' has no '{key}'", f"give a number, such as {key}: 1.0")
    return _read_number(name, key, entry[key])


def _read_number(name: str, key: str, value: Any) -> float:
    check(f"'{key}' in the schedule of '{name}'", value, float)
    if not _WEIGHT.admits(value):
        raise ConfigError(f"'{key}' in the schedule of '{name}' is {value}", "give a finite number, 0 or more")
    return float(value)


def _read_piecewise(name: str, entry: Mapping[str, Any], interval: Interval) -> WeightFunction:
    base_value = _read_weight(name, entry, "value") if "value" in entry else None
    boundaries = entry.get("boundaries")
    if not isinstance(boundaries, Mapping) or not boundaries:
        raise ConfigError(f"the schedule of '{name}' has no boundaries", "write boundaries: {100: 25.0}")
    steps = sorted(
        (_read_boundary(name, key, interval), _read_number(name, "boundaries", value))
        for key, value in boundaries.items()
    )

    def shape(elapsed: float, configured: float) -> float:
        return piecewise_constant(configured if base_value is None else base_value, steps, elapsed)

    return WeightFunction(interval, shape, base_value is None)


def _read_boundary(name: str, key: float | str, interval: Interval) -> float:
    text = str(key)
    if interval == "share":
        try:
            share = float(text)
        except ValueError:
            share = -1.0
        if not _SHARE.admits(share):
            raise ConfigError(
                f"the schedule of '{name}' has the boundary {key!r}", "boundaries are shares of the run, from 0 to 1"
            )
        return share
    if not text.isdecimal():
        raise ConfigError(
            f"the schedule of '{name}' has the boundary {key!r}", "boundaries are whole numbers, 0 or more"
        )
    return int(text)


def _read_ramp(
    name: str, entry: Mapping[str, Any], interval: Interval, curve: Callable[[float], float]
) -> WeightFunction:
    first = _read_weight(name, entry, "from") if "from" in entry else None
    last = _read_weight(name, entry, "to")
    if "end" not in entry:
        raise ConfigError(f"the schedule of '{name}' has no 'end'", "for example end: {epochs: 100}")
    start, unit_of_start = _read_moment(name, "start", entry.get("start"), interval)
    end, unit_of_end = _read_moment(name, "end", entry["end"], interval)
    units = {unit for unit in (unit_of_start, unit_of_end) if unit is not None}
    if len(units) > 1:
        raise ConfigError(
            f"the schedule of '{name}' starts and ends in different units", "count both in epochs, or steps, or shares"
        )
    if start >= end:
        raise ConfigError(f"the schedule of '{name}' starts at {start} and ends at {end}", "let it end after its start")

    def shape(elapsed: float, configured: float) -> float:
        return ramp(configured if first is None else first, last, start, end, curve, elapsed)

    return WeightFunction(units.pop() if units else interval, shape, first is None)


def _read_moment(name: str, key: str, value: Any, interval: Interval) -> tuple[float, Interval | None]:
    """A number of epochs or steps, or a share: ``100``, ``{epochs: 100}``, ``{steps: 100}`` or ``{share: 0.5}``."""
    unit: Interval | None = None
    if value is None:
        return 0, None
    if isinstance(value, Mapping):
        if len(value) != 1 or next(iter(value)) not in _UNITS:
            raise ConfigError(
                f"'{key}' in the schedule of '{name}' is {dict(value)}",
                "write {epochs: 100}, {steps: 100} or {share: 0.5}",
            )
        ((word, value),) = value.items()
        unit = _UNITS[word]
    if (unit or interval) == "share":
        check(f"'{key}' in the schedule of '{name}'", value, Annotated[float, _SHARE])
        return float(value), unit
    check(f"'{key}' in the schedule of '{name}'", value, NotNegative)
    return int(value), unit


class LossWeightSchedule(CoefficientCallback):
    """Changes weights (or coefficients) of the loss as functions of epochs, optimizer steps, or the share that is done.

    Either each of ``terms`` has a ``kind``:

    - ``constant``: ``value``;
    - ``piecewise_constant``: ``value``, multiplied at each of ``boundaries: {100: 25.0}`` that was reached,
      cumulatively: 1 up to epoch 99, 25 from epoch 100 on;
    - ``linear``, ``cosine``: from ``from`` at ``start`` to ``to`` at ``end``.

    ``value`` and ``from`` are the configured weight if they are not given. Terms without a schedule keep theirs. With
    ``weights`` these are the weights that are used; with ``coeffs`` all are scaled to sum up to 1 afterwards.

    Or ``stages`` set the coefficients of all terms, those that are not named to null: from epoch ``start`` on, or along
    a line that begins at ``start`` and reaches them at ``end``.

    The weights depend on nothing but the epoch, the number of steps and the length of the run, so there is no state,
    and a resumed run has those that it would have had.

    Args:
        terms: Term (``forces_mse``, or ``forces``) -> its schedule.
        interval: What plain numbers count: ``epoch``, ``step``, or ``share`` of the run, from 0 to 1. ``start: {steps:
            1000}`` and ``end: {share: 0.5}`` say it themselves. Shares go with a budget of time, and with any run
            whose number of steps is known.
        stages: In place of ``terms``: ``[{start: 100, coeffs: {forces: 1.0}}, {start: 200, end: 250, coeffs: {...}}]``,
            in whole epochs, in their order.

    Raises:
        ConfigError: If a key is unknown or missing, or a value out of range.

    Example:
        The force's weight grows from its configured 1 to 100 within 10 epochs; that of the energy stays:

        >>> from nequip_like.metrics import EnergyForceLoss
        >>> loss = EnergyForceLoss(weights={"total_energy": 1.0, "forces": 1.0})
        >>> schedule = LossWeightSchedule({"forces": {"kind": "linear", "to": 100.0, "end": 10}})
        >>> [schedule.coefficients_at(epoch, 0, loss)["forces_mse"] for epoch in (0, 5, 10)]
        [1.0, 50.5, 100.0]
    """

    def __init__(
        self,
        terms: Mapping[str, Mapping[str, Any]] | None = None,
        interval: Interval = "epoch",
        stages: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        check("interval of LossWeightSchedule", interval, Interval)
        if not terms and not stages:
            raise ConfigError(
                "LossWeightSchedule has no terms", "write terms: {forces: {kind: linear, to: 25, end: 100}}"
            )
        if terms and stages:
            raise ConfigError("LossWeightSchedule has both terms and stages", "leave one of them out")
        self.functions = {name: read_weight_function(name, entry, interval) for name, entry in (terms or {}).items()}
        self.stages = read_stages(stages or ())
        intervals = {function.interval for function in self.functions.values()}
        self._by_steps = bool(intervals & {"step", "share"})
        self._by_shares = "share" in intervals
        self._run = RunLength()

    def check_loss(self, loss: MetricsManager) -> None:
        """Refuse terms that the loss does not have, or whose first weight nobody gave."""
        for stage in self.stages:
            resolve_names(stage.coeffs, loss)
        keys_by_term: dict[str, str] = {}
        for key, function in self.functions.items():
            name = loss.term_name(key, "terms of LossWeightSchedule")
            if name in keys_by_term:
                raise ConfigError(
                    f"terms of LossWeightSchedule: '{keys_by_term[name]}' and '{key}' are the same", "keep one"
                )
            keys_by_term[name] = key
            if function.uses_configured and loss.configured_coeffs[name] is None:
                raise ConfigError(
                    f"terms of LossWeightSchedule: '{key}' has no weight in the loss", "give from, or value"
                )

    def coefficients_at(self, epoch: int, step: int, loss: MetricsManager) -> dict[str, float]:
        """The coefficients in an epoch, after a number of optimizer steps."""
        return select_weighted(loss.scaled(self._compute_weights(epoch, step, loss)))

    def _compute_weights(self, epoch: int, step: int, loss: MetricsManager) -> dict[str, float | None]:
        weights = compute_stages(self.stages, epoch, loss)
        share = self._run.share_at(step) if self._by_shares else 0.0
        for key, function in self.functions.items():
            name = loss.term_name(key, "terms of LossWeightSchedule")
            weights[name] = function.at(epoch, step, share, weights[name] or 0.0)
        if not any(weights.values()):
            raise ConfigError(
                f"LossWeightSchedule: all weights are 0 in epoch {epoch}, step {step}", "keep one above 0"
            )
        return weights

    def begin(self, run: RunLength) -> None:
        """Learn how long the run is, which shares are shares of."""
        self._run = run

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Learn how long the run is, now that the loader is known."""
        self.begin(run_length(trainer, trainer.num_training_batches))

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Set the weights of this epoch."""
        self._set(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Set the weights of this step."""
        if self._by_steps:
            self._set(trainer, pl_module)

    def _set(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        loss = find_loss(module, type(self).__name__)
        weights = self._compute_weights(trainer.current_epoch, trainer.global_step, loss)
        if loss.scaled(weights) != loss.coeffs:
            loss.set_coeffs(weights)

"""Coefficients of the whole loss that change in stages: at once, or along a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nequip_like.arguments import NotNegative, check
from nequip_like.errors import ConfigError
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.terms import check_coefficient, check_term_names
from nequip_like.training.callbacks.loss_weights.base import Coefficients, select_weighted

_SETTING = "stages of LossWeightSchedule"
_KEYS = ("start", "end", "coeffs")


@dataclass(frozen=True)
class Stage:
    """The coefficients that a loss has from an epoch on.

    Attributes:
        start: The last epoch with the coefficients before, if they change along a line; else the first with the new.
        end: The first epoch with the new coefficients; ``start`` if they change at once.
        coeffs: Term or field -> coefficient.
    """

    start: int
    end: int
    coeffs: Coefficients

    def compute(self, before: Coefficients, epoch: int, loss: MetricsManager) -> dict[str, float | None]:
        """The coefficients in an epoch from ``start`` on.

        A line goes from coefficients that are scaled to scaled ones. Terms that are named in neither are only observed.

        Args:
            before: The coefficients at the start of the stage.
            epoch: The epoch.
            loss: The loss, which scales, unless it has ``weights``.
        """
        named = resolve_names(self.coeffs, loss)
        if self.start == self.end:
            return named
        first_values = {name: coeff or 0.0 for name, coeff in loss.scaled(before).items()}
        last_values = select_weighted(loss.scaled(named))
        share = min(epoch - self.start, self.end - self.start) / (self.end - self.start)
        return {
            name: first + share * (last_values.get(name, 0.0) - first)
            for name, first in first_values.items()
            if first or name in last_values
        }


def read_stages(entries: Sequence[Mapping[str, Any]]) -> list[Stage]:
    """Read ``stages``: ``[{start: 100, coeffs: {...}}, {start: 200, end: 250, coeffs: {...}}]``.

    Raises:
        ConfigError: If a key is unknown or missing, a value out of range, or a stage starts before the one before ends.
    """
    stages: list[Stage] = []
    for i, entry in enumerate(entries):
        stages.append(_read_stage(f"stages[{i}] of LossWeightSchedule", entry))
        if i and stages[i].start < stages[i - 1].end:
            raise ConfigError(
                f"stages[{i}] of LossWeightSchedule starts in epoch {stages[i].start}, before stages[{i - 1}] ends in "
                f"epoch {stages[i - 1].end}",
                "let each start where the one before ends, or later",
            )
    return stages


def compute_stages(stages: Sequence[Stage], epoch: int, loss: MetricsManager) -> dict[str, float | None]:
    """The coefficients in an epoch: the configured ones, changed by each stage that has begun.

    Args:
        stages: As :func:`read_stages` gives them.
        epoch: The epoch, from 0 on.
        loss: The loss as it was configured.

    Example:
        >>> from nequip_like.metrics import EnergyForceLoss
        >>> loss = EnergyForceLoss(weights={"total_energy": 1.0, "forces": 1.0})
        >>> stages = read_stages([{"start": 0, "end": 10, "coeffs": {"total_energy": 1.0, "forces": 21.0}}])
        >>> [compute_stages(stages, epoch, loss)["forces_mse"] for epoch in (0, 5, 10, 99)]
        [1.0, 11.0, 21.0, 21.0]
    """
    coeffs = loss.configured_coeffs
    for stage in stages:
        if epoch > stage.start or epoch == stage.start == stage.end:
            coeffs = stage.compute(coeffs, epoch, loss)
    return coeffs


def resolve_names(coeffs: Coefficients, loss: MetricsManager) -> dict[str, float | None]:
    """Coefficients by the names of terms; given by these, or by fields.

    Raises:
        ConfigError: For a name that the loss does not have.
    """
    return {loss.term_name(key, _SETTING): coeff for key, coeff in coeffs.items()}


def _read_stage(position: str, entry: Mapping[str, Any]) -> Stage:
    check(position, entry, Mapping[str, Any])
    check_term_names(entry, _KEYS, f"key of {position}:")
    if lacking := [key for key in ("start", "coeffs") if entry.get(key) is None]:
        raise ConfigError(f"{position} has no '{lacking[0]}'", "write {start: 100, coeffs: {forces: 1.0}}")
    start, end = entry["start"], entry.get("end")
    check(f"'start' in {position}", start, NotNegative)
    check(f"'end' in {position}", end, NotNegative | None)
    if end is not None and end <= start:
        raise ConfigError(f"{position} starts in epoch {start} and ends in epoch {end}", "let it end after its start")
    check(f"'coeffs' in {position}", entry["coeffs"], Mapping[str, Any])
    coeffs = {name: check_coefficient(name, coeff) for name, coeff in entry["coeffs"].items()}
    if not any(coeffs.values()):
        raise ConfigError(f"{position} has no coefficient above 0", "give at least one term a coefficient")
    return Stage(start, start if end is None else end, coeffs)

"""Metrics managers for the usual sets of labels: losses (mean squared errors) and metrics (RMSE, MAE, maximum)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nequip_like.data import fields
from nequip_like.errors import ConfigError
from nequip_like.train.metric_terms import check_names
from nequip_like.train.metrics import (
    MaximumAbsoluteError,
    MeanAbsoluteError,
    MeanSquaredError,
    RootMeanSquaredError,
)
from nequip_like.train.metrics_manager import MetricsManager
from nequip_like.train.modifiers import Modifier, PerAtomModifier

Coeffs = Mapping[str, float | None]
Entries = Sequence[Mapping[str, Any]]

METRICS = {"rmse": RootMeanSquaredError, "mae": MeanAbsoluteError, "maxabserr": MaximumAbsoluteError}


def _ignore_nan(ignore_nan: Mapping[str, bool] | bool, labels: Sequence[str]) -> dict[str, bool]:
    if isinstance(ignore_nan, Mapping):
        check_names(ignore_nan, labels, "label in ignore_nan:")
        return {label: bool(ignore_nan.get(label, True)) for label in labels}
    return dict.fromkeys(labels, bool(ignore_nan))


def _loss(
    labels: Sequence[str],
    coeffs: Coeffs | None,
    per_atom_energy: bool,
    per_type_forces_coeffs: Mapping[str, float] | None,
    extra_metrics: Entries | None,
    ignore_nan: Mapping[str, bool] | bool,
    type_names: Sequence[str] | None,
) -> MetricsManager:
    coeffs = dict.fromkeys(labels, 1.0) if coeffs is None else coeffs
    check_names(coeffs, labels, "label in coeffs of a loss:")
    skip = _ignore_nan(ignore_nan, labels)
    entries: list[dict[str, Any]] = []
    for label in labels:
        per_atom = per_atom_energy and label == fields.TOTAL_ENERGY
        entries.append(
            {
                "name": "per_atom_energy_mse" if per_atom else f"{label}_mse",
                "field": PerAtomModifier(label) if per_atom else label,
                "metric": MeanSquaredError,
                "coeff": coeffs.get(label),
                "ignore_nan": skip[label],
            }
        )
        if label == fields.FORCES and per_type_forces_coeffs is not None:
            entries[-1] |= {"per_type": True, "per_type_coeffs": per_type_forces_coeffs}
    manager = MetricsManager([*entries, *(extra_metrics or ())], type_names=type_names)
    if not manager.has_weighted_sum:
        raise ConfigError(
            "no coefficient of the loss is larger than 0", f"give at least one of {', '.join(labels)} a coefficient"
        )
    return manager


def metric_entries(labels: Sequence[str], ignore_nan: Mapping[str, bool] | None = None) -> list[dict[str, Any]]:
    """Entries of a :class:`MetricsManager`: RMSE, MAE and largest error of labels, and of the energy per atom.

    Args:
        labels: Labels of the table of fields.
        ignore_nan: For each label, whether targets that are NaN are left out; they are by default.
    """
    shown: list[tuple[str, str | Modifier, str]] = []
    for label in labels:
        shown.append((label, label, label))
        if label == fields.TOTAL_ENERGY:
            shown.append(("per_atom_energy", PerAtomModifier(label), label))
    return [
        {
            "name": f"{name}_{short}",
            "field": field,
            "metric": metric,
            "ignore_nan": True if ignore_nan is None else ignore_nan[label],
        }
        for name, field, label in shown
        for short, metric in METRICS.items()
    ]


def _metrics(
    labels: Sequence[str],
    coeffs: Coeffs | None,
    extra_metrics: Entries | None,
    ignore_nan: Mapping[str, bool] | bool,
    type_names: Sequence[str] | None,
) -> MetricsManager:
    entries = metric_entries(labels, _ignore_nan(ignore_nan, labels))
    coeffs = {f"{label}_rmse": 1.0 for label in labels} if coeffs is None else coeffs
    check_names(coeffs, [entry["name"] for entry in entries], "metric in coeffs:")
    for entry in entries:
        entry["coeff"] = coeffs.get(entry["name"])
    return MetricsManager([*entries, *(extra_metrics or ())], type_names=type_names)


def EnergyForceLoss(  # noqa: N802
    coeffs: Coeffs | None = None,
    per_atom_energy: bool = True,
    per_type_forces_coeffs: Mapping[str, float] | None = None,
    extra_metrics: Entries | None = None,
    ignore_nan: Mapping[str, bool] | bool = True,
    type_names: Sequence[str] | None = None,
) -> MetricsManager:
    """Weighted sum of the mean squared errors of energies and forces.

    Values: ``per_atom_energy_mse`` in (eV/atom)^2, or ``total_energy_mse`` in eV^2; ``forces_mse`` in (eV/Angstrom)^2.

    Args:
        coeffs: Coefficients of ``total_energy`` and ``forces``, scaled to sum up to 1; both 1 if not given. A label
            that is not named is only observed.
        per_atom_energy: Divide energies by the number of atoms.
        per_type_forces_coeffs: Type -> coefficient > 0, for all types. ``forces_mse`` becomes the mean over types,
            weighted by these, of the mean squared errors ``forces_mse_Type``. Not given: the mean over all components.
        extra_metrics: Further entries of a :class:`MetricsManager`.
        ignore_nan: Leave out labels that are NaN: for all labels, or by label.
        type_names: Names of the model's types of atoms.

    Raises:
        ConfigError: If a name is unknown or no coefficient is larger than 0.
    """
    labels = (fields.TOTAL_ENERGY, fields.FORCES)
    return _loss(labels, coeffs, per_atom_energy, per_type_forces_coeffs, extra_metrics, ignore_nan, type_names)


def EnergyForceStressLoss(  # noqa: N802
    coeffs: Coeffs | None = None,
    per_atom_energy: bool = True,
    per_type_forces_coeffs: Mapping[str, float] | None = None,
    extra_metrics: Entries | None = None,
    ignore_nan: Mapping[str, bool] | bool = True,
    type_names: Sequence[str] | None = None,
) -> MetricsManager:
    """Weighted sum of the mean squared errors of energies, forces and stress.

    Like :func:`EnergyForceLoss`, with ``stress_mse`` in (eV/Angstrom^3)^2 and its coefficient ``stress``.

    Raises:
        ConfigError: If a name is unknown or no coefficient is larger than 0.
    """
    labels = (fields.TOTAL_ENERGY, fields.FORCES, fields.STRESS)
    return _loss(labels, coeffs, per_atom_energy, per_type_forces_coeffs, extra_metrics, ignore_nan, type_names)


def EnergyOnlyLoss(  # noqa: N802
    coeffs: Coeffs | None = None,
    per_atom_energy: bool = True,
    extra_metrics: Entries | None = None,
    ignore_nan: Mapping[str, bool] | bool = True,
    type_names: Sequence[str] | None = None,
) -> MetricsManager:
    """Mean squared error of energies: ``per_atom_energy_mse`` or ``total_energy_mse``; see :func:`EnergyForceLoss`.

    Raises:
        ConfigError: If a name is unknown or no coefficient is larger than 0.
    """
    return _loss((fields.TOTAL_ENERGY,), coeffs, per_atom_energy, None, extra_metrics, ignore_nan, type_names)


def EnergyForceMetrics(  # noqa: N802
    coeffs: Coeffs | None = None,
    extra_metrics: Entries | None = None,
    ignore_nan: Mapping[str, bool] | bool = True,
    type_names: Sequence[str] | None = None,
) -> MetricsManager:
    """RMSE, MAE and maximum absolute error of energies and forces.

    Values: {``total_energy``, ``per_atom_energy``, ``forces``} x {``_rmse``, ``_mae``, ``_maxabserr``}.

    Args:
        coeffs: Name of a value -> coefficient in ``weighted_sum``. If not given, 1 for ``total_energy_rmse`` and
            ``forces_rmse``. Values that are not named are only observed.
        extra_metrics: Further entries of a :class:`MetricsManager`.
        ignore_nan: Leave out labels that are NaN: for all labels, or by label.
        type_names: Names of the model's types of atoms.

    Raises:
        ConfigError: If a name is unknown.
    """
    return _metrics((fields.TOTAL_ENERGY, fields.FORCES), coeffs, extra_metrics, ignore_nan, type_names)


def EnergyForceStressMetrics(  # noqa: N802
    coeffs: Coeffs | None = None,
    extra_metrics: Entries | None = None,
    ignore_nan: Mapping[str, bool] | bool = True,
    type_names: Sequence[str] | None = None,
) -> MetricsManager:
    """RMSE, MAE and maximum absolute error of energies, forces and stress; see :func:`EnergyForceMetrics`.

    By default ``stress_rmse`` has the coefficient 1, too.

    Raises:
        ConfigError: If a name is unknown.
    """
    labels = (fields.TOTAL_ENERGY, fields.FORCES, fields.STRESS)
    return _metrics(labels, coeffs, extra_metrics, ignore_nan, type_names)


def EnergyOnlyMetrics(  # noqa: N802
    coeffs: Coeffs | None = None,
    extra_metrics: Entries | None = None,
    ignore_nan: Mapping[str, bool] | bool = True,
    type_names: Sequence[str] | None = None,
) -> MetricsManager:
    """RMSE, MAE and maximum absolute error of energies; see :func:`EnergyForceMetrics`.

    By default only ``total_energy_rmse`` has a coefficient.

    Raises:
        ConfigError: If a name is unknown.
    """
    return _metrics((fields.TOTAL_ENERGY,), coeffs, extra_metrics, ignore_nan, type_names)

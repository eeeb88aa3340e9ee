"""Metrics for the usual sets of labels: RMSE, MAE, maximum, and more. Losses can be named from here as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nequip_like.data import fields
from nequip_like.metrics.distribution import AbsoluteErrorQuantile, CosineSimilarity, RelativeError
from nequip_like.metrics.elementwise import MaximumAbsoluteError, MeanAbsoluteError, RootMeanSquaredError
from nequip_like.metrics.losses import (
    EnergyForceLoss,
    EnergyForceStressLoss,
    EnergyOnlyLoss,
    FieldLoss,
    ForceOnlyLoss,
)
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.modifiers import Modifier, PerAtomModifier
from nequip_like.metrics.terms import PER_ATOM_ENERGY, Coeffs, Entries, IgnoreNan, check_term_names, resolve_ignore_nan

# With the losses, whose place configs and checkpoints name as this file.
__all__ = [
    "METRICS",
    "EnergyForceLoss",
    "EnergyForceMetrics",
    "EnergyForceStressLoss",
    "EnergyForceStressMetrics",
    "EnergyOnlyLoss",
    "EnergyOnlyMetrics",
    "FieldLoss",
    "ForceOnlyLoss",
    "ForceOnlyMetrics",
    "build_extended_entries",
    "build_metric_entries",
]

METRICS = {"rmse": RootMeanSquaredError, "mae": MeanAbsoluteError, "maxabserr": MaximumAbsoluteError}


def build_metric_entries(labels: Sequence[str], ignore_nan: Mapping[str, bool] | None = None) -> list[dict[str, Any]]:
    """Entries of a ``MetricsManager``: RMSE, MAE and largest error of labels, and of the energy per atom.

    Args:
        labels: Labels of the table of fields.
        ignore_nan: For each label, whether targets that are NaN are left out; they are by default.
    """
    quantities: list[tuple[str, str | Modifier, str]] = []
    for label in labels:
        quantities.append((label, label, label))
        if label == fields.TOTAL_ENERGY:
            quantities.append((PER_ATOM_ENERGY, PerAtomModifier(label), label))
    return [
        {
            "name": f"{name}_{short}",
            "field": field,
            "metric": metric,
            "ignore_nan": True if ignore_nan is None else ignore_nan[label],
        }
        for name, field, label in quantities
        for short, metric in METRICS.items()
    ]


def build_extended_entries(labels: Sequence[str], ignore_nan: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Further entries: relative error, direction and 95th percentile of forces, errors by species, stress per atom.

    Args:
        labels: Labels of the table of fields.
        ignore_nan: For each label, whether targets that are NaN are left out.
    """
    energy, forces, stress = fields.TOTAL_ENERGY, fields.FORCES, fields.STRESS
    rows: list[tuple[str, str, str | Modifier, Any]] = [
        (f"{PER_ATOM_ENERGY}_p95", energy, PerAtomModifier(energy), AbsoluteErrorQuantile),
        ("forces_p95", forces, forces, AbsoluteErrorQuantile),
        ("forces_relative", forces, forces, RelativeError),
        ("forces_cosine", forces, forces, CosineSimilarity),
        ("per_type_forces_rmse", forces, forces, RootMeanSquaredError),
        ("per_type_forces_mae", forces, forces, MeanAbsoluteError),
        ("stress_p95", stress, stress, AbsoluteErrorQuantile),
        ("per_atom_stress_rmse", stress, PerAtomModifier(stress), RootMeanSquaredError),
        ("per_atom_stress_mae", stress, PerAtomModifier(stress), MeanAbsoluteError),
    ]
    return [
        {
            "name": name,
            "field": modifier,
            "metric": metric,
            "ignore_nan": ignore_nan[label],
            "per_type": name.startswith("per_type_"),
        }
        for name, label, modifier, metric in rows
        if label in labels
    ]


def _build_metrics(
    labels: Sequence[str],
    coeffs: Coeffs | None,
    extra_metrics: Entries | None,
    ignore_nan: IgnoreNan,
    type_names: Sequence[str] | None,
    extended: bool,
) -> MetricsManager:
    skip = resolve_ignore_nan(ignore_nan, labels)
    entries = build_metric_entries(labels, skip)
    if extended:
        entries += build_extended_entries(labels, skip)
    coeffs = {f"{label}_rmse": 1.0 for label in labels} if coeffs is None else coeffs
    check_term_names(coeffs, [entry["name"] for entry in entries], "metric in coeffs:")
    for entry in entries:
        entry["coeff"] = coeffs.get(entry["name"])
    return MetricsManager([*entries, *(extra_metrics or ())], type_names=type_names)


def EnergyForceMetrics(  # noqa: N802
    coeffs: Coeffs | None = None,
    extra_metrics: Entries | None = None,
    ignore_nan: IgnoreNan = True,
    type_names: Sequence[str] | None = None,
    extended: bool = False,
) -> MetricsManager:
    """RMSE, MAE and maximum absolute error of energies and forces.

    Values: {``total_energy``, ``per_atom_energy``, ``forces``} x {``_rmse``, ``_mae``, ``_maxabserr``}.

    Args:
        coeffs: Name of a value -> coefficient in ``weighted_sum``. If not given, 1 for ``total_energy_rmse`` and
            ``forces_rmse``. Values that are not named are only observed.
        extra_metrics: Further entries of a :class:`~nequip_like.metrics.manager.MetricsManager`.
        ignore_nan: Leave out labels that are NaN: for all labels, or by label.
        type_names: Names of the model's types of atoms.
        extended: Also the 95th percentiles ``per_atom_energy_p95`` and ``forces_p95``, ``forces_relative``,
            ``forces_cosine``, and ``per_type_forces_rmse`` and ``per_type_forces_mae``, each with ``_Type``.

    Raises:
        ConfigError: If a name is unknown.
    """
    return _build_metrics((fields.TOTAL_ENERGY, fields.FORCES), coeffs, extra_metrics, ignore_nan, type_names, extended)


def EnergyForceStressMetrics(  # noqa: N802
    coeffs: Coeffs | None = None,
    extra_metrics: Entries | None = None,
    ignore_nan: IgnoreNan = True,
    type_names: Sequence[str] | None = None,
    extended: bool = False,
) -> MetricsManager:
    """RMSE, MAE and maximum absolute error of energies, forces and stress; see :func:`EnergyForceMetrics`.

    By default ``stress_rmse`` has the coefficient 1, too. ``extended`` adds ``stress_p95``, ``per_atom_stress_rmse``
    and ``per_atom_stress_mae``.

    Raises:
        ConfigError: If a name is unknown.
    """
    labels = (fields.TOTAL_ENERGY, fields.FORCES, fields.STRESS)
    return _build_metrics(labels, coeffs, extra_metrics, ignore_nan, type_names, extended)


def EnergyOnlyMetrics(  # noqa: N802
    coeffs: Coeffs | None = None,
    extra_metrics: Entries | None = None,
    ignore_nan: IgnoreNan = True,
    type_names: Sequence[str] | None = None,
    extended: bool = False,
) -> MetricsManager:
    """RMSE, MAE and maximum absolute error of energies; see :func:`EnergyForceMetrics`.

    By default only ``total_energy_rmse`` has a coefficient. ``extended`` adds ``per_atom_energy_p95``.

    Raises:
        ConfigError: If a name is unknown.
    """
    return _build_metrics((fields.TOTAL_ENERGY,), coeffs, extra_metrics, ignore_nan, type_names, extended)


def ForceOnlyMetrics(  # noqa: N802
    coeffs: Coeffs | None = None,
    extra_metrics: Entries | None = None,
    ignore_nan: IgnoreNan = True,
    type_names: Sequence[str] | None = None,
    extended: bool = False,
) -> MetricsManager:
    """RMSE, MAE and maximum absolute error of forces; see :func:`EnergyForceMetrics`.

    By default only ``forces_rmse`` has a coefficient.

    Raises:
        ConfigError: If a name is unknown.
    """
    return _build_metrics((fields.FORCES,), coeffs, extra_metrics, ignore_nan, type_names, extended)

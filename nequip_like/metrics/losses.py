"""Losses for the usual sets of labels: managers whose weighted sum of errors a training makes small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nequip_like.data import fields
from nequip_like.data.fields import FIELDS, LABELS
from nequip_like.errors import ConfigError
from nequip_like.metrics.elementwise import Edges
from nequip_like.metrics.loss_functions import LossFunctions, Words
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.modifiers import Average, Modifier, PerAtomModifier, as_modifier
from nequip_like.metrics.terms import (
    PER_ATOM_ENERGY,
    Coeffs,
    Entries,
    IgnoreNan,
    check_term_names,
    resolve_ignore_nan,
)

Delta = float | Mapping[str, float]
Strata = Mapping[float | str, float]

_PER_ATOM = "per_atom_"

# What a term compares: its name, the field, and how it is computed.
Compared = tuple[str, str, str | Modifier]


def _choose_coefficients(labels: Sequence[str], coeffs: Coeffs | None, weights: Coeffs | None) -> Coeffs:
    if coeffs is not None and weights is not None:
        raise ConfigError(
            "a loss has both coeffs (scaled to sum up to 1) and weights (taken as they are)",
            "give one of them; with weights, coeffs: null",
        )
    coefficients = dict.fromkeys(labels, 1.0) if coeffs is None else coeffs
    coefficients = coefficients if weights is None else weights
    check_term_names(coefficients, labels, f"label in {'coeffs' if weights is None else 'weights'} of a loss:")
    return coefficients


def _build_loss(
    compared: Mapping[str, Compared],
    coeffs: Coeffs,
    absolute: bool,
    functions: LossFunctions,
    ignore_nan: IgnoreNan,
    extra: Mapping[str, Mapping[str, Any]],
    extra_metrics: Entries | None,
    type_names: Sequence[str] | None,
) -> MetricsManager:
    """A loss: its keys with what each compares, and entries that a key has besides."""
    labels = list(compared)
    metrics = functions.build({label: field for label, (_, field, _) in compared.items()})
    skip = resolve_ignore_nan(ignore_nan, labels)
    entries = [
        {
            "name": f"{name}_{metrics[label]}",
            "field": modifier,
            "metric": metrics[label],
            "coeff": coeffs.get(label),
            "ignore_nan": skip[label],
            **extra.get(label, {}),
        }
        for label, (name, _, modifier) in compared.items()
    ]
    manager = MetricsManager([*entries, *(extra_metrics or ())], type_names=type_names, absolute=absolute)
    if not manager.has_weighted_sum:
        raise ConfigError(
            "no coefficient of the loss is larger than 0", f"give at least one of {', '.join(labels)} a coefficient"
        )
    return manager


def _set_averages(compared: Mapping[str, Compared], average: Average) -> dict[str, dict[str, Any]]:
    return {label: {"average": average} for label, (_, field, _) in compared.items() if FIELDS[field].owner == "node"}


def _build_usual_loss(
    labels: Sequence[str],
    coeffs: Coeffs | None,
    weights: Coeffs | None,
    per_atom_energy: bool,
    functions: LossFunctions,
    average: Average,
    per_type_forces_coeffs: Mapping[str, float] | None,
    extra_metrics: Entries | None,
    ignore_nan: IgnoreNan,
    type_names: Sequence[str] | None,
) -> MetricsManager:
    compared: dict[str, Compared] = {label: (label, label, label) for label in labels}
    if per_atom_energy:
        compared[fields.TOTAL_ENERGY] = (PER_ATOM_ENERGY, fields.TOTAL_ENERGY, PerAtomModifier(fields.TOTAL_ENERGY))
    extra = _set_averages(compared, average)
    if per_type_forces_coeffs is not None:
        extra[fields.FORCES] |= {"per_type": True, "per_type_coeffs": per_type_forces_coeffs}
    coefficients = _choose_coefficients(labels, coeffs, weights)
    return _build_loss(
        compared, coefficients, weights is not None, functions, ignore_nan, extra, extra_metrics, type_names
    )


def EnergyForceLoss(  # noqa: N802
    coeffs: Coeffs | None = None,
    per_atom_energy: bool = True,
    per_type_forces_coeffs: Mapping[str, float] | None = None,
    extra_metrics: Entries | None = None,
    ignore_nan: IgnoreNan = True,
    type_names: Sequence[str] | None = None,
    weights: Coeffs | None = None,
    function: Words = "mse",
    delta: Delta | None = None,
    strata: Strata | None = None,
    edges: Edges = "above",
    average: Average = "elements",
) -> MetricsManager:
    """Weighted sum of the errors of energies and forces, by default of the mean squared ones.

    Values: ``per_atom_energy_mse`` in (eV/atom)^2, or ``total_energy_mse`` in eV^2; ``forces_mse`` in (eV/Angstrom)^2.
    With another function they are named after it: ``forces_huber``.

    Args:
        coeffs: Coefficients of ``total_energy`` and ``forces``, scaled to sum up to 1; both 1 if not given. A label
            that is not named is only observed.
        per_atom_energy: Divide energies by the number of atoms.
        per_type_forces_coeffs: Type -> coefficient > 0, for all types. ``forces_mse`` becomes the mean over types,
            weighted by these, of the mean squared errors ``forces_mse_Type``. Not given: the mean over all components.
        extra_metrics: Further entries of a :class:`~nequip_like.metrics.manager.MetricsManager`.
        ignore_nan: Leave out labels that are NaN: for all labels, or by label.
        type_names: Names of the model's types of atoms.
        weights: In place of ``coeffs``: weights that are taken as they are, not scaled.
        function: ``mse`` (``l2``), ``mae`` (``l1``), ``smooth_l1``, ``huber``, ``stratified_huber`` or ``rmse``; for
            all labels, or by label.
        delta: Of ``huber``, for all labels or by label; 0.01 if not given.
        strata: Of ``stratified_huber``: lower bound of the norm of a force -> delta.
        edges: Of ``stratified_huber``: norms exactly at a bound belong ``above`` it, or to the ``last`` stratum.
        average: ``elements``: all force components count the same. ``frames``: all frames do, whatever their size.

    Raises:
        ConfigError: If a name is unknown, if no coefficient is larger than 0, or if both coeffs and weights are given.

    Example:
        >>> EnergyForceLoss({"total_energy": 1.0, "forces": 3.0}).coeffs
        {'per_atom_energy_mse': 0.25, 'forces_mse': 0.75}
        >>> EnergyForceLoss(weights={"total_energy": 1.0, "forces": 100.0}, function="huber").coeffs
        {'per_atom_energy_huber': 1.0, 'forces_huber': 100.0}
    """
    functions = LossFunctions(function, delta, strata, edges)
    labels = (fields.TOTAL_ENERGY, fields.FORCES)
    options = (average, per_type_forces_coeffs, extra_metrics, ignore_nan, type_names)
    return _build_usual_loss(labels, coeffs, weights, per_atom_energy, functions, *options)


def EnergyForceStressLoss(  # noqa: N802
    coeffs: Coeffs | None = None,
    per_atom_energy: bool = True,
    per_type_forces_coeffs: Mapping[str, float] | None = None,
    extra_metrics: Entries | None = None,
    ignore_nan: IgnoreNan = True,
    type_names: Sequence[str] | None = None,
    weights: Coeffs | None = None,
    function: Words = "mse",
    delta: Delta | None = None,
    strata: Strata | None = None,
    edges: Edges = "above",
    average: Average = "elements",
) -> MetricsManager:
    """Weighted sum of the errors of energies, forces and stress.

    Like :func:`EnergyForceLoss`, with ``stress_mse`` in (eV/Angstrom^3)^2 and its coefficient ``stress``.

    Raises:
        ConfigError: As :func:`EnergyForceLoss`.
    """
    functions = LossFunctions(function, delta, strata, edges)
    labels = (fields.TOTAL_ENERGY, fields.FORCES, fields.STRESS)
    options = (average, per_type_forces_coeffs, extra_metrics, ignore_nan, type_names)
    return _build_usual_loss(labels, coeffs, weights, per_atom_energy, functions, *options)


def EnergyOnlyLoss(  # noqa: N802
    coeffs: Coeffs | None = None,
    per_atom_energy: bool = True,
    extra_metrics: Entries | None = None,
    ignore_nan: IgnoreNan = True,
    type_names: Sequence[str] | None = None,
    weights: Coeffs | None = None,
    function: Words = "mse",
    delta: Delta | None = None,
) -> MetricsManager:
    """Error of energies: ``per_atom_energy_mse`` or ``total_energy_mse``; see :func:`EnergyForceLoss`.

    Raises:
        ConfigError: As :func:`EnergyForceLoss`.
    """
    functions = LossFunctions(function, delta)
    labels, options = (fields.TOTAL_ENERGY,), (extra_metrics, ignore_nan, type_names)
    return _build_usual_loss(labels, coeffs, weights, per_atom_energy, functions, "elements", None, *options)


def ForceOnlyLoss(  # noqa: N802
    coeffs: Coeffs | None = None,
    per_type_forces_coeffs: Mapping[str, float] | None = None,
    extra_metrics: Entries | None = None,
    ignore_nan: IgnoreNan = True,
    type_names: Sequence[str] | None = None,
    weights: Coeffs | None = None,
    function: Words = "mse",
    delta: Delta | None = None,
    strata: Strata | None = None,
    edges: Edges = "above",
    average: Average = "elements",
) -> MetricsManager:
    """Error of forces, ``forces_mse``, of data without energies; see :func:`EnergyForceLoss`.

    Raises:
        ConfigError: As :func:`EnergyForceLoss`.
    """
    functions = LossFunctions(function, delta, strata, edges)
    options = (average, per_type_forces_coeffs, extra_metrics, ignore_nan, type_names)
    return _build_usual_loss((fields.FORCES,), coeffs, weights, False, functions, *options)


def FieldLoss(  # noqa: N802
    terms: Coeffs,
    scaled: bool = False,
    extra_metrics: Entries | None = None,
    ignore_nan: IgnoreNan = True,
    type_names: Sequence[str] | None = None,
    function: Words = "mse",
    delta: Delta | None = None,
    strata: Strata | None = None,
    edges: Edges = "above",
    average: Average = "elements",
) -> MetricsManager:
    """Weighted sum of the errors of any fields that data have labels for and the model predicts.

    Args:
        terms: Field -> weight: ``{total_energy: 1, forces: 1000, virial: 1}``. ``per_atom_energy`` is the total energy
            divided by the number of atoms; so is ``per_atom_NAME`` of any other field of structures. null takes a term
            out, as it helps to do in a config that is put together.
        scaled: Scale the weights to sum up to 1, in place of taking them as they are.
        extra_metrics: Further entries of a :class:`~nequip_like.metrics.manager.MetricsManager`.
        ignore_nan: Leave out labels that are NaN: for all terms, or by term.
        type_names: Names of the model's types of atoms.
        function: As in :func:`EnergyForceLoss`, for all terms or by term.
        delta: Likewise.
        strata: Likewise.
        edges: Likewise.
        average: Likewise, of terms of atoms.

    Raises:
        ConfigError: If a term is no field that can have a label, or as in :func:`EnergyForceLoss`.
    """
    check_term_names(terms, _list_terms(), "term of a loss")
    terms = {name: weight for name, weight in terms.items() if weight is not None}
    if not terms:
        raise ConfigError("a loss has no terms", "for example terms: {total_energy: 1, forces: 1000}")
    compared = {name: _read_term(name) for name in terms}
    functions = LossFunctions(function, delta, strata, edges)
    extra = _set_averages(compared, average)
    return _build_loss(compared, terms, not scaled, functions, ignore_nan, extra, extra_metrics, type_names)


def _list_terms() -> list[str]:
    scalable = set(LABELS) - {fields.TOTAL_ENERGY, fields.VIRIAL}  # data have the stress in place of the virial
    of_graphs = [label for label in LABELS if FIELDS[label].owner == "graph" and label in scalable]
    return [*LABELS, PER_ATOM_ENERGY, *(f"{_PER_ATOM}{label}" for label in of_graphs)]


def _read_term(name: str) -> Compared:
    if name in LABELS:
        return name, name, as_modifier(name)
    field = fields.TOTAL_ENERGY if name == PER_ATOM_ENERGY else name.removeprefix(_PER_ATOM)
    return name, field, PerAtomModifier(field)

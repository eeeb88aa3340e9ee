"""Reading the entries of a metrics manager: one :class:`Term` for each, checked."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchmetrics import Metric

from nequip_like.arguments import check
from nequip_like.errors import ConfigError, did_you_mean
from nequip_like.metrics.elementwise import ErrorMetric
from nequip_like.metrics.masked import Quantity
from nequip_like.metrics.modifiers import Average, Modifier, as_modifier

WEIGHTED_SUM = "weighted_sum"
ENTRY_KEYS = ("metric", "field", "coeff", "name", "per_type", "per_type_coeffs", "ignore_nan", "average")
PER_ATOM_ENERGY = "per_atom_energy"  # name of what is compared where energies are divided by the number of atoms

Coeffs = Mapping[str, float | None]
Entries = Sequence[Mapping[str, Any]]
IgnoreNan = Mapping[str, bool] | bool


@dataclass(frozen=True, eq=False)
class Term:
    """One entry of a metrics manager.

    Attributes:
        name: Name of the logged value.
        metric: An own metric (used as a definition only) or a foreign one (which keeps its own states).
        modifier: What is compared; None if the metric gets whole graphs.
        coeff: Coefficient as configured; None for "observed only".
        type_names: Types of atoms that are told apart; empty without ``per_type``.
        type_coeffs: Weight of each of these types in the aggregate.
        ignore_nan: Leave out elements whose target is NaN.
        average: "elements": all count the same. "frames": each frame counts the same, whatever its number of atoms.
    """

    name: str
    metric: Metric
    modifier: Modifier | None
    coeff: float | None
    type_names: tuple[str, ...]
    type_coeffs: tuple[float, ...]
    ignore_nan: bool
    average: Average = "elements"

    @property
    def is_linear(self) -> bool:
        """Whether a batch's value is the sum of what its parts add, each divided by the batch's count."""
        return isinstance(self.metric, ErrorMetric) and self.metric.is_linear

    @property
    def log_names(self) -> tuple[str, ...]:
        """The term's name and those of its types."""
        return (self.name, *(f"{self.name}_{type_name}" for type_name in self.type_names))


def check_coefficient(name: str, coeff: object) -> float | None:
    """Check one coefficient.

    Raises:
        ConfigError: If it is neither None nor a finite number from 0 up.
    """
    if coeff is None:
        return None
    if isinstance(coeff, bool) or not isinstance(coeff, int | float) or not math.isfinite(coeff) or coeff < 0:
        raise ConfigError(
            f"coefficient of '{name}' is {coeff!r}", "give a finite number >= 0, or null to only observe the metric"
        )
    return float(coeff)


def check_term_names(names: Mapping[str, Any], options: Sequence[str], kind: str) -> None:
    """Refuse names that do not exist.

    Raises:
        ConfigError: If a key of ``names`` is not in ``options``.
    """
    for name in names:
        if name not in options:
            raise ConfigError(f"unknown {kind} '{name}'", did_you_mean(str(name), options))


def resolve_ignore_nan(ignore_nan: IgnoreNan, labels: Sequence[str]) -> dict[str, bool]:
    """For each label, whether targets that are NaN are left out; they are where nothing is said.

    Args:
        ignore_nan: For all labels, or by label.
        labels: The labels.

    Raises:
        ConfigError: If there is no such label.
    """
    if isinstance(ignore_nan, Mapping):
        check_term_names(ignore_nan, labels, "label in ignore_nan:")
        return {label: bool(ignore_nan.get(label, True)) for label in labels}
    return dict.fromkeys(labels, bool(ignore_nan))


def _build_metric(value: object, position: str) -> Metric:
    if isinstance(value, Metric):
        return copy.deepcopy(value)
    if isinstance(value, Mapping):
        raise ConfigError(
            f"metric of {position} is a mapping", "instantiate it first, as hydra.utils.instantiate does for _target_"
        )
    if not callable(value):
        raise ConfigError(f"metric of {position} is {value!r}", "give a torchmetrics.Metric, its class, or a factory")
    metric = value()
    if not isinstance(metric, Metric):
        raise ConfigError(f"metric of {position} makes a {type(metric).__name__}", "it must make a torchmetrics.Metric")
    return metric


def _read_type_coeffs(name: str, coeffs: Mapping[str, Any] | None, type_names: Sequence[str]) -> tuple[float, ...]:
    if coeffs is None:
        return (1.0,) * len(type_names)
    check_term_names(coeffs, type_names, f"type in per_type_coeffs of '{name}'")
    if missing := [type_name for type_name in type_names if type_name not in coeffs]:
        raise ConfigError(
            f"per_type_coeffs of '{name}' lacks {', '.join(missing)}", "give every type a coefficient larger than 0"
        )
    values = tuple(check_coefficient(f"{name}_{type_name}", coeffs[type_name]) or 0.0 for type_name in type_names)
    if min(values) <= 0:
        raise ConfigError(f"per_type_coeffs of '{name}' are {dict(coeffs)}", "each must be larger than 0")
    return values


def _check_entry(entry: Mapping[str, Any], position: str) -> None:
    check_term_names(entry, ENTRY_KEYS, f"key of {position}")
    for key in ("per_type", "ignore_nan"):
        check(f"{key} of {position}", entry.get(key), bool | None)


def _read_coefficient(name: str, value: object, metric: Metric) -> float | None:
    coeff = check_coefficient(name, value)
    if coeff and isinstance(metric, ErrorMetric) and metric.higher_is_better:
        raise ConfigError(
            f"coefficient of '{name}' is {coeff:g}, but of {type(metric).__name__} larger is better",
            "leave the coefficient out: weighted_sum is to become small",
        )
    return coeff


def _read_average(name: str, value: object, modifier: Modifier | None, is_summed: bool) -> Average:
    check(f"average of '{name}'", value, Average | None)
    if value != "frames":
        return "elements"
    if not is_summed or modifier is None or modifier.owner not in ("graph", "node"):
        raise ConfigError(
            f"average of '{name}' is frames, but its rows do not belong to atoms or frames, or its metric is not one "
            "of nequip_like.metrics.elementwise",
            "leave average out",
        )
    return "frames" if modifier.owner == "node" else "elements"  # values of frames have one row for each anyway


def read_term(entry: Mapping[str, Any], index: int, type_names: Sequence[str] | None) -> Term:
    """Check one entry and make a term of it.

    Args:
        entry: Keys as in :data:`ENTRY_KEYS`; ``metric`` is required.
        index: Position in the list, for messages.
        type_names: Names of the model's types of atoms.

    Raises:
        ConfigError: If the entry cannot mean what was written.
    """
    if not isinstance(entry, Mapping):
        raise ConfigError(f"metric {index} is {entry!r}", f"give a mapping with the keys {', '.join(ENTRY_KEYS)}")
    position = f"metric {index}" + (f" ('{entry['name']}')" if entry.get("name") else "")
    _check_entry(entry, position)
    if entry.get("metric") is None:
        raise ConfigError(
            f"{position} has no 'metric'", "for example: metric: nequip_like.metrics.elementwise.MeanSquaredError"
        )
    metric = _build_metric(entry["metric"], position)
    is_summed = isinstance(metric, ErrorMetric)
    modifier = None if entry.get("field") is None else as_modifier(entry["field"])
    if modifier is None and is_summed:
        raise ConfigError(f"{position}, {type(metric).__name__}, has no 'field'", "for example: field: forces")
    short = str(metric) if is_summed else type(metric).__name__
    name = entry.get("name") or (short if modifier is None else f"{modifier.name}_{short}")
    average = _read_average(name, entry.get("average"), modifier, is_summed)
    coeff = _read_coefficient(name, entry.get("coeff"), metric)
    per_type, type_coeffs = bool(entry.get("per_type")), entry.get("per_type_coeffs")
    if type_coeffs is not None and not per_type:
        raise ConfigError(f"'{name}' has per_type_coeffs but not per_type", "add per_type: true")
    if per_type:
        if not is_summed:
            raise ConfigError(
                f"per_type of '{name}': {type(metric).__name__} is not one of nequip_like.metrics.elementwise",
                "per_type sums errors by type, which other metrics cannot",
            )
        if modifier is None or modifier.owner != "node":
            raise ConfigError(f"per_type of '{name}': its field does not belong to atoms", "use it for forces")
        if not type_names:
            raise ConfigError(f"per_type of '{name}' needs the names of the types", "give type_names")
    ignore_nan = entry.get("ignore_nan")
    if ignore_nan is None:
        ignore_nan = metric.ignore_nan if isinstance(metric, ErrorMetric) else True
    types = tuple(type_names or ()) if per_type else ()
    return Term(
        name=name,
        metric=metric,
        modifier=modifier,
        coeff=coeff,
        type_names=types,
        type_coeffs=_read_type_coeffs(name, type_coeffs, types) if per_type else (),
        ignore_nan=bool(ignore_nan),
        average=average,
    )


def read_terms(entries: Sequence[Mapping[str, Any]], type_names: Sequence[str] | None) -> list[Term]:
    """Check all entries.

    Raises:
        ConfigError: If an entry is wrong, if two have the same name, or if one has the reserved name.
    """
    if isinstance(entries, str | Mapping) or not isinstance(entries, Sequence) or not entries:
        raise ConfigError("metrics of a MetricsManager must be a list of one or more mappings")
    if type_names is not None and len(set(type_names)) != len(type_names):
        raise ConfigError(f"type_names has a name twice: {', '.join(type_names)}")
    terms = [read_term(entry, index, type_names) for index, entry in enumerate(entries)]
    names: set[str] = set()
    for name in (name for term in terms for name in term.log_names):
        if name == WEIGHTED_SUM:
            raise ConfigError(f"the name '{WEIGHTED_SUM}' is reserved", "give the metric another name")
        if name in names:
            raise ConfigError(f"two metrics are named '{name}'", "give one of them another name")
        names.add(name)
    return terms


def share_quantities(terms: Sequence[Term]) -> list[Quantity | None]:
    """What each term compares: one object for all terms that compare the same, None for a metric of whole graphs."""
    quantities: list[Quantity] = []
    shared: list[Quantity | None] = []
    for term in terms:
        if term.modifier is None:
            shared.append(None)
            continue
        key = (term.modifier, term.ignore_nan, term.average)
        same = [q for q in quantities if (q.modifier, q.ignore_nan, q.average) == key]
        if not same:
            same = [Quantity(term.name, *key)]
            quantities += same
        shared.append(same[0])
    return shared

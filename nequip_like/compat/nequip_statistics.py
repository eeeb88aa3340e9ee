"""NequIP's ``data.stats_manager`` (checked against 0.19.1) as definitions for ``data.statistics``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nequip_like.compat.nequip_names import SHORT_FIELDS, class_of
from nequip_like.compat.nequip_values import check_keys, check_same_types, parse_list
from nequip_like.errors import ConfigError, closest_hint
from nequip_like.nn.radial import pair_cutoff_table

_COMMON = ("CommonDataStatisticsManager", "EnergyOnlyDataStatisticsManager")
_MANAGERS = (*_COMMON, "DataStatisticsManager")
_COMMON_KEYS = ("_target_", "dataloader_kwargs", "type_names")
_ENTRY_KEYS = ("field", "metric", "per_type", "ignore_nan", "name")
_METRICS = {
    "Mean": "mean",
    "MeanAbsolute": "mean_abs",
    "RootMeanSquare": "rms",
    "StandardDeviation": "std",
    "Max": "max",
    "Min": "min",
    "Count": "count",
}
_FIELD_NAMES = {"NumNeighbors": "num_neighbors", "EdgeLengths": "edge_lengths"}


def translate_statistics(
    manager: Any, type_names: Sequence[str], pair_cutoffs: Mapping[str, Any] | None, cutoff: float, notes: list[str]
) -> list[dict[str, Any]]:
    """Definitions of the statistics that are not there in any case.

    Args:
        manager: NequIP's section ``data.stats_manager``, or None.
        type_names: The model's types.
        pair_cutoffs: Cutoffs of pairs of types that NequIP's neighbour list has.
        cutoff: Cutoff of the neighbour lists, Angstrom.
        notes: What a user should know is added here.

    Raises:
        ConfigError: If the section cannot mean what was written.
    """
    if manager is None:
        return []
    name = class_of(manager)
    if name not in _MANAGERS:
        raise ConfigError(
            f"data.stats_manager is {manager!r}", f"{closest_hint(name, _MANAGERS)}there are {', '.join(_MANAGERS)}"
        )
    check_keys("data.stats_manager", manager, _COMMON_KEYS if name in _COMMON else (*_COMMON_KEYS, "metrics"))
    check_same_types("data.stats_manager", manager.get("type_names"), type_names)
    if manager.get("dataloader_kwargs"):
        notes.append("data.stats_manager.dataloader_kwargs has no effect: statistics are exact sums over all frames")
    pairs = _build_pair_cutoffs(pair_cutoffs, type_names, cutoff)
    if name in _COMMON:
        # Their statistics are always there; only neighbour lists cut by pairs of types change some.
        return [] if pairs is None else _define_neighbor_counts(pairs)
    return [
        _translate_entry(entry, pairs) for entry in parse_list("data.stats_manager.metrics", manager.get("metrics"))
    ]


def _build_pair_cutoffs(
    cutoffs: Mapping[str, Any] | None, type_names: Sequence[str], cutoff: float
) -> dict[str, dict[str, float]] | None:
    if not cutoffs:
        return None
    if not isinstance(cutoffs, Mapping):
        raise ConfigError(f"per_edge_type_cutoff is {cutoffs!r}", "write {H: 3.0, C: {H: 3.0}}")
    table = pair_cutoff_table(cutoffs, type_names, cutoff).tolist()
    return {centre: dict(zip(type_names, row, strict=True)) for centre, row in zip(type_names, table, strict=True)}


def _define_neighbor_counts(pairs: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    common = {"field": "num_neighbors", "metric": "mean", "pair_cutoffs": pairs}
    return [
        {"name": "num_neighbors_mean", **common},
        {"name": "per_type_num_neighbors_mean", **common, "per_type": True},
    ]


def _translate_entry(entry: Any, pairs: Mapping[str, Mapping[str, float]] | None) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise ConfigError(f"data.stats_manager.metrics has {entry!r}", f"give mappings of {', '.join(_ENTRY_KEYS)}")
    check_keys("data.stats_manager.metrics", entry, _ENTRY_KEYS)
    field, short = _translate_field(entry.get("field"))
    metric, default = _translate_metric(entry.get("metric"))
    definition = {"name": entry.get("name") or f"{short}_{default}", **field, "metric": metric}
    if entry.get("per_type"):
        definition["per_type"] = True
    if pairs is not None and field["field"] in _FIELD_NAMES.values():
        definition["pair_cutoffs"] = pairs
    return definition


def _translate_field(field: Any) -> tuple[dict[str, Any], str]:
    """Our arguments for a field or modifier, and NequIP's short name of it."""
    if isinstance(field, str):
        return {"field": field}, SHORT_FIELDS.get(field, field)
    name = class_of(field)
    if name in _FIELD_NAMES:
        return {"field": _FIELD_NAMES[name]}, _FIELD_NAMES[name]
    inner = str(field.get("field", "")) if isinstance(field, Mapping) else ""
    if name == "BaseModifier":
        return {"field": inner}, SHORT_FIELDS.get(inner, inner)
    if name == "PerAtomModifier":
        factor = field.get("factor")
        factors = {} if factor is None else {"factor": factor}
        return {"field": inner, "per_atom": True, **factors}, f"per_atom_{SHORT_FIELDS.get(inner, inner)}"
    raise ConfigError(
        f"data.stats_manager.metrics: the field is {field!r}",
        "give the name of a field, PerAtomModifier, NumNeighbors or EdgeLengths",
    )


def _translate_metric(metric: Any) -> tuple[str, str]:
    """Our name of a statistic, and NequIP's short name of it."""
    name = class_of(metric)
    if name not in _METRICS:
        raise ConfigError(
            f"data.stats_manager.metrics: the metric is {metric!r}",
            f"{closest_hint(name, _METRICS)}there are {', '.join(_METRICS)} of nequip_like.data",
        )
    statistic = _METRICS[name]
    if name in ("Max", "Min") and metric.get("abs"):
        statistic = f"abs{statistic}"
    short = statistic
    if name == "StandardDeviation":
        short = statistic = "var" if metric.get("squared") else "std"
        if metric.get("unbiased") is False:
            statistic = f"{statistic}_biased"
    return statistic, short

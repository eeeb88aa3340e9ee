"""Further statistics of a training set, as a config defines them: a field, a function of its values, a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from nequip_like.arguments import check_key
from nequip_like.data import fields as table
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.graph import edge_vectors
from nequip_like.data.statistics import neighbors_per_atom
from nequip_like.errors import ConfigError, DataError, closest_hint

NUM_NEIGHBORS = "num_neighbors"
EDGE_LENGTHS = "edge_lengths"
FIELDS = (*table.LABELS, NUM_NEIGHBORS, EDGE_LENGTHS)

METRICS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": torch.mean,
    "mean_abs": lambda values: values.abs().mean(),
    "rms": lambda values: values.square().mean().sqrt(),
    "std": lambda values: values.std(unbiased=True),
    "var": lambda values: values.var(unbiased=True),
    "std_biased": lambda values: values.std(unbiased=False),
    "var_biased": lambda values: values.var(unbiased=False),
    "max": torch.amax,
    "absmax": lambda values: values.abs().amax(),
    "min": torch.amin,
    "absmin": lambda values: values.abs().amin(),
    "count": lambda values: torch.tensor(float(values.numel())),
}


@dataclass(frozen=True)
class Statistic:
    """Definition of one statistic.

    Attributes:
        name: Name in ``${training_data_stats:NAME}``.
        field: A label, ``num_neighbors`` (of each atom) or ``edge_lengths`` (Angstrom).
        metric: A name in :data:`METRICS`; of all elements, missing labels left out.
        per_type: One value for each type of atom, or of each ordered pair of types for edges.
        per_atom: Divide a value of structures by their number of atoms.
        factor: Multiplies each value.
        pair_cutoffs: ``{centre: {neighbour: radius}}``, Angstrom: count edges up to these only.

    Raises:
        ConfigError: If it cannot be computed.
    """

    name: str
    field: str
    metric: str
    per_type: bool = False
    per_atom: bool = False
    factor: float = 1.0
    pair_cutoffs: Mapping[str, Mapping[str, float]] | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        for key, value, known in (("field", self.field, FIELDS), ("metric", self.metric, METRICS)):
            if value not in known:
                raise ConfigError(
                    f"data.statistics: the {key} of '{self.name}' is '{value}'",
                    f"{closest_hint(value, known)}known are {', '.join(known)}",
                )
        if self.per_type and self.owner == "graph":
            raise ConfigError(
                f"data.statistics: '{self.name}' is per_type, but {self.field} belongs to structures",
                "only values of atoms and edges have a type",
            )
        if self.per_atom and self.owner != "graph":
            raise ConfigError(
                f"data.statistics: '{self.name}' is per_atom, but {self.field} is no value of structures",
                "leave per_atom out",
            )

    @property
    def owner(self) -> str:
        """What a value belongs to: graph, node or edge."""
        if self.field in table.FIELDS:
            return table.field(self.field).owner
        return "edge" if self.field == EDGE_LENGTHS else "node"


def custom_statistics(dataset: GraphDataset, definitions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compute further statistics in float64.

    Args:
        dataset: The training set.
        definitions: Arguments of :class:`Statistic`, one mapping for each.

    Returns:
        ``{name: value}``. With ``per_type`` the value is a mapping from types (``H``) or pairs of types (``H_C``,
        centre first); a type without any value gets that over all types.

    Raises:
        ConfigError: If a definition cannot be understood.
        DataError: If no frame has the label.
    """
    result: dict[str, Any] = {}
    for definition in definitions:
        statistic = _read(definition)
        if statistic.name in result:
            raise ConfigError(f"data.statistics has '{statistic.name}' twice", "give one of them another name")
        result[statistic.name] = _compute(dataset, statistic)
    return result


def _read(definition: Mapping[str, Any]) -> Statistic:
    known = [entry.name for entry in fields(Statistic)]
    for key in definition:
        check_key("data.statistics", key, known)
    if missing := [key for key in ("name", "field", "metric") if key not in definition]:
        raise ConfigError(f"data.statistics: an entry has no {missing[0]}", "give name, field and metric")
    return Statistic(**definition)


def _compute(dataset: GraphDataset, statistic: Statistic) -> Any:
    if statistic.field in table.FIELDS and statistic.field not in dataset.labels:
        raise DataError(
            f"no frame of the training set has {statistic.field}, which the statistic '{statistic.name}' needs",
            "take it out of data.statistics, or declare the label's name in the file: data.key_mapping",
        )
    parts = [_values(frame, statistic, dataset.type_names) for frame in dataset.frames]
    values = torch.cat([part[0] for part in parts]).double() * statistic.factor
    groups = torch.cat([part[1] for part in parts])
    overall = _value(values, statistic)
    if not statistic.per_type:
        return overall
    names = dataset.type_names
    if statistic.owner == "edge":
        names = [f"{centre}_{neighbour}" for centre in names for neighbour in names]
    by_type = {name: values[groups == index] for index, name in enumerate(names)}
    return {name: _value(chosen, statistic, overall) for name, chosen in by_type.items()}


def _value(values: Tensor, statistic: Statistic, otherwise: float | None = None) -> float:
    known = values[~torch.isnan(values)]
    few = len(known) < (2 if statistic.metric in ("std", "var") else 1)
    if few and statistic.metric != "count":
        if otherwise is not None:
            return otherwise
        raise DataError(
            f"the training set has {len(known)} values of {statistic.field}: too few for '{statistic.name}'",
            "take it out of data.statistics",
        )
    return float(METRICS[statistic.metric](known))


def _values(frame: table.Graph, statistic: Statistic, type_names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Values of a frame, and the type (or pair of types) of each; both flat."""
    types = frame[table.ATOM_TYPES]
    if statistic.pair_cutoffs is not None:
        frame = _within(frame, statistic.pair_cutoffs, type_names)
    if statistic.field == NUM_NEIGHBORS:
        return neighbors_per_atom(frame), types
    if statistic.field == EDGE_LENGTHS:
        centre, neighbour = frame[table.EDGE_INDEX]
        return torch.linalg.vector_norm(edge_vectors(frame), dim=1), types[centre] * len(type_names) + types[neighbour]
    values = frame[statistic.field]
    if statistic.per_atom:
        values = values / frame[table.NUM_ATOMS].reshape((-1,) + (1,) * (values.dim() - 1))
    rows = types if statistic.owner == "node" else torch.zeros(len(values), dtype=torch.int64)
    flat = values.reshape(len(values), -1)
    return flat.flatten(), rows.repeat_interleave(flat.shape[1])


def _within(
    frame: table.Graph, cutoffs: Mapping[str, Mapping[str, float]], type_names: Sequence[str]
) -> dict[str, Tensor]:
    """The frame with the edges that are within the cutoff of their pair of types."""
    radii = torch.tensor(
        [[cutoffs.get(centre, {}).get(neighbour, torch.inf) for neighbour in type_names] for centre in type_names],
        dtype=torch.float64,
    )
    centre, neighbour = frame[table.EDGE_INDEX]
    lengths = torch.linalg.vector_norm(edge_vectors(frame), dim=1)
    kept = lengths <= radii[frame[table.ATOM_TYPES][centre], frame[table.ATOM_TYPES][neighbour]]
    result = {**frame, table.EDGE_INDEX: frame[table.EDGE_INDEX][:, kept]}
    if table.EDGE_CELL_SHIFT in frame:
        result[table.EDGE_CELL_SHIFT] = frame[table.EDGE_CELL_SHIFT][kept]
    return result

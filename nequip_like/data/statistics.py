"""Statistics of a training set, under the names that model configurations refer to.

Names are those of NequIP's ``CommonDataStatisticsManager``. Labels that are missing (NaN) are left out.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nequip_like.arguments import check_key
from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.graph import edge_vectors
from nequip_like.data.species import type_table
from nequip_like.data.tables.frame_table import LARGE_NUMBERS, FrameTable
from nequip_like.errors import ConfigError, DataError, closest_hint


@LARGE_NUMBERS
def training_statistics(dataset: GraphDataset) -> dict[str, Any]:
    """Compute the statistics of a data set in float64.

    Returns:
        Plain Python values:

        - ``type_names``
        - ``num_neighbors_mean``: edges per atom; 0.0 if no atom has a neighbour.
        - ``per_type_num_neighbors_mean``: ``{type: edges per atom of this type}``.
        - ``per_atom_energy_mean``, ``per_atom_energy_std``: over frames, of energy / number of atoms, eV.
        - ``total_energy_std``: over frames, eV.
        - ``forces_rms``: root mean square of force components, eV/Angstrom.
        - ``per_type_forces_rms``: ``{type: the same for atoms of this type}``.
        - ``volume_per_atom``: median over the frames that are periodic in three directions, else over
          slabs with the vacuum of their cells, Angstrom^3.

        A statistic is absent if its label is, standard deviations (unbiased) if there are fewer than two frames, the
        volume if no frame is periodic. A type without atoms (or without forces) gets the value over all types.

    Example:
        Forces are averaged over components: 3 eV/Angstrom along x, on one of two atoms, is the root of 9 / 6.

        >>> from ase import Atoms
        >>> from nequip_like.data.io.structures import graph_from_atoms
        >>> forces = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        >>> pair = graph_from_atoms(Atoms("HO", [[0, 0, 0], [0, 0, 0.97]]))
        >>> frame = {**pair, "total_energy": torch.tensor([[-8.0]]), "forces": forces}
        >>> statistics = training_statistics(GraphDataset([frame], 2.0, ["H", "O"]))
        >>> statistics["per_atom_energy_mean"], statistics["num_neighbors_mean"], round(statistics["forces_rms"], 4)
        (-4.0, 1.0, 1.2247)
        >>> {name: round(value, 4) for name, value in statistics["per_type_forces_rms"].items()}
        {'H': 1.7321, 'O': 0.0}
    """
    table = dataset.table
    overall, by_type = _average_per_type(table, table.neighbors, table.count, dataset.type_names)
    result: dict[str, Any] = {
        "type_names": list(dataset.type_names),
        "num_neighbors_mean": overall,
        "per_type_num_neighbors_mean": by_type,
    }
    if fields.TOTAL_ENERGY in dataset.labels:
        has_value = table.find_labelled(fields.TOTAL_ENERGY)
        energies = table.energy[has_value]
        per_atom = energies / table.atoms[has_value]
        result["per_atom_energy_mean"] = float(per_atom.mean())
        if len(per_atom) > 1:
            result["per_atom_energy_std"] = float(per_atom.std(ddof=1))
            result["total_energy_std"] = float(energies.std(ddof=1))
    if fields.FORCES in dataset.labels:
        overall, by_type = _average_per_type(table, table.force_squares, table.force_counts, dataset.type_names)
        result["forces_rms"] = math.sqrt(overall)
        result["per_type_forces_rms"] = {name: math.sqrt(value) for name, value in by_type.items()}
    # Where there are slabs only, it is their cells that their stress refers to.
    is_crystal = table.periodic == 3
    if not is_crystal.any():
        is_crystal = (table.periodic > 0) & (table.volume > 0)
    if is_crystal.any():
        # A median is the volume that materials have, whatever a few slabs and molecules in wide cells do.
        result["volume_per_atom"] = float(np.median(table.volume[is_crystal] / table.atoms[is_crystal]))
    return result


_ZERO = {
    "per_type_num_neighbors_mean": (
        "no {species} atom of the training set has a neighbour within the cutoff radius",
        "raise cutoff_radius, or write ${{training_data_stats:num_neighbors_mean}} in the place of {name}",
    ),
    "per_type_forces_rms": (
        "all forces on {species} atoms of the training set are zero, so they are no scale for their energies",
        "write ${{training_data_stats:energy_scale}} in the place of {name}, or one number for each species",
    ),
}


def check_not_zero(name: str, value: Any) -> None:
    """Refuse a statistic of a species that is zero where a model divides by it, or multiplies all with it.

    Args:
        name: Name of the statistic, as in ``${training_data_stats:NAME}``.
        value: Its value, or those of each type.

    Raises:
        DataError: In terms of the data; the model would name its own argument.

    Example:
        >>> check_not_zero("per_type_forces_rms", {"H": 0.4, "He": 0.0})
        Traceback (most recent call last):
        ...
        nequip_like.errors.DataError: all forces on He atoms of the training set are zero, so they are no scale ...
    """
    for statistic, (message, advice) in _ZERO.items():
        if name.startswith(statistic):
            values = value if isinstance(value, dict) else {name.removeprefix(f"{statistic}_"): value}
            if zero := [species for species, number in values.items() if number == 0]:
                raise DataError(message.format(species=", ".join(zero)), advice.format(name=name))


def neighbors_per_atom(frame: dict[str, torch.Tensor]) -> torch.Tensor:
    """Number of neighbours of each atom, shape (atoms,); 0 for an isolated atom."""
    return torch.bincount(frame[fields.EDGE_INDEX][0], minlength=len(frame[fields.POSITIONS]))


def _average_per_type(
    table: FrameTable, values: np.ndarray, weights: np.ndarray, type_names: list[str]
) -> tuple[float, dict[str, float]]:
    """Sum of values over sum of weights, of all groups and for each type; a type without weight has that of all."""
    types = type_table(type_names).numpy()[table.number]
    sums, counts = (np.bincount(types, part, minlength=len(type_names)) for part in (values, weights))
    overall = float(sums.sum() / counts.sum())
    means = np.where(counts > 0, sums / np.maximum(counts, 1.0), overall)
    return overall, dict(zip(type_names, means.tolist(), strict=True))


NUM_NEIGHBORS = "num_neighbors"
EDGE_LENGTHS = "edge_lengths"
FIELDS = (*fields.LABELS, NUM_NEIGHBORS, EDGE_LENGTHS)

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
        for key, value, options in (("field", self.field, FIELDS), ("metric", self.metric, METRICS)):
            if value not in options:
                raise ConfigError(
                    f"statistics: the {key} of '{self.name}' is '{value}'",
                    f"{closest_hint(value, options)}known are {', '.join(options)}",
                )
        if self.per_type and self.owner == "graph":
            raise ConfigError(
                f"statistics: '{self.name}' is per_type, but {self.field} belongs to structures",
                "only values of atoms and edges have a type",
            )
        if self.per_atom and self.owner != "graph":
            raise ConfigError(
                f"statistics: '{self.name}' is per_atom, but {self.field} is no value of structures",
                "leave per_atom out",
            )

    @property
    def owner(self) -> str:
        """What a value belongs to: graph, node or edge."""
        if self.field in fields.FIELDS:
            return fields.field(self.field).owner
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

    Example:
        >>> from ase import Atoms
        >>> from nequip_like.data.io.structures import graph_from_atoms
        >>> dataset = GraphDataset([graph_from_atoms(Atoms("HO", [[0, 0, 0], [0, 0, 0.97]]))], 2.0, ["H", "O"])
        >>> custom_statistics(dataset, [{"name": "shortest_bond", "field": "edge_lengths", "metric": "min"}])
        {'shortest_bond': 0.97}
    """
    result: dict[str, Any] = {}
    for definition in definitions:
        statistic = _read(definition)
        if statistic.name in result:
            raise ConfigError(f"statistics has '{statistic.name}' twice", "give one of them another name")
        result[statistic.name] = _compute(dataset, statistic)
    return result


def _read(definition: Mapping[str, Any]) -> Statistic:
    keys = [entry.name for entry in dataclasses.fields(Statistic)]
    for key in definition:
        check_key("statistics", key, keys)
    if missing := [key for key in ("name", "field", "metric") if key not in definition]:
        raise ConfigError(f"statistics: an entry has no {missing[0]}", "give name, field and metric")
    return Statistic(**definition)


def _compute(dataset: GraphDataset, statistic: Statistic) -> Any:
    if statistic.field in fields.FIELDS and statistic.field not in dataset.labels:
        raise DataError(
            f"no frame of the training set has {statistic.field}, which the statistic '{statistic.name}' needs",
            "take it out of statistics, or declare the label's name in the file: key_mapping",
        )
    parts = [_collect_values(frame, statistic, dataset.type_names) for frame in dataset.frames]
    values = torch.cat([part[0] for part in parts]).double() * statistic.factor
    groups = torch.cat([part[1] for part in parts])
    overall = _reduce_values(values, statistic)
    if not statistic.per_type:
        return overall
    names = dataset.type_names
    if statistic.owner == "edge":
        names = [f"{centre}_{neighbour}" for centre in names for neighbour in names]
    by_type = {name: values[groups == index] for index, name in enumerate(names)}
    return {name: _reduce_values(type_values, statistic, overall) for name, type_values in by_type.items()}


def _reduce_values(values: Tensor, statistic: Statistic, otherwise: float | None = None) -> float:
    labelled = values[~torch.isnan(values)]
    few = len(labelled) < (2 if statistic.metric in ("std", "var") else 1)
    if few and statistic.metric != "count":
        if otherwise is not None:
            return otherwise
        raise DataError(
            f"the training set has {len(labelled)} values of {statistic.field}: too few for '{statistic.name}'",
            "take it out of statistics",
        )
    return float(METRICS[statistic.metric](labelled))


def _collect_values(frame: fields.Graph, statistic: Statistic, type_names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Values of a frame, and the type (or pair of types) of each; both flat."""
    types = frame[fields.ATOM_TYPES]
    if statistic.pair_cutoffs is not None:
        frame = _select_edges(frame, statistic.pair_cutoffs, type_names)
    if statistic.field == NUM_NEIGHBORS:
        return neighbors_per_atom(frame), types
    if statistic.field == EDGE_LENGTHS:
        centre, neighbour = frame[fields.EDGE_INDEX]
        return torch.linalg.vector_norm(edge_vectors(frame), dim=1), types[centre] * len(type_names) + types[neighbour]
    values = frame[statistic.field]
    if statistic.per_atom:
        values = values / frame[fields.NUM_ATOMS].reshape((-1,) + (1,) * (values.dim() - 1))
    rows = types if statistic.owner == "node" else torch.zeros(len(values), dtype=torch.int64)
    flat = values.reshape(len(values), -1)
    return flat.flatten(), rows.repeat_interleave(flat.shape[1])


def _select_edges(
    frame: fields.Graph, cutoffs: Mapping[str, Mapping[str, float]], type_names: Sequence[str]
) -> dict[str, Tensor]:
    """The frame with the edges that are within the cutoff of their pair of types."""
    radii = torch.tensor(
        [[cutoffs.get(centre, {}).get(neighbour, torch.inf) for neighbour in type_names] for centre in type_names],
        dtype=torch.float64,
    )
    centre, neighbour = frame[fields.EDGE_INDEX]
    lengths = torch.linalg.vector_norm(edge_vectors(frame), dim=1)
    mask = lengths <= radii[frame[fields.ATOM_TYPES][centre], frame[fields.ATOM_TYPES][neighbour]]
    result = {**frame, fields.EDGE_INDEX: frame[fields.EDGE_INDEX][:, mask]}
    if fields.EDGE_CELL_SHIFT in frame:
        result[fields.EDGE_CELL_SHIFT] = frame[fields.EDGE_CELL_SHIFT][mask]
    return result

"""Statistics of a training set, under the names that model configurations refer to.

Names are those of NequIP's ``CommonDataStatisticsManager``. Labels that are missing (NaN) are left out.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.errors import DataError


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

        A statistic is absent if its label is, standard deviations (unbiased) if there are fewer than two frames. A
        type without atoms (or without forces) gets the value over all types.
    """
    frames = dataset.frames
    types = torch.cat([frame[fields.ATOM_TYPES] for frame in frames])
    neighbors = torch.cat([neighbors_per_atom(frame) for frame in frames]).to(torch.float64)
    result: dict[str, Any] = {
        "type_names": list(dataset.type_names),
        "num_neighbors_mean": float(neighbors.mean()),
        "per_type_num_neighbors_mean": _per_type_mean(neighbors, types, dataset.type_names),
    }
    if fields.TOTAL_ENERGY in dataset.labels:
        energies = torch.cat([frame[fields.TOTAL_ENERGY].flatten() for frame in frames])
        atoms = torch.cat([frame[fields.NUM_ATOMS] for frame in frames])
        known = ~torch.isnan(energies)
        per_atom = (energies / atoms)[known]
        result["per_atom_energy_mean"] = float(per_atom.mean())
        if len(per_atom) > 1:
            result["per_atom_energy_std"] = float(per_atom.std())
            result["total_energy_std"] = float(energies[known].std())
    if fields.FORCES in dataset.labels:
        forces = torch.cat([frame[fields.FORCES] for frame in frames])
        known = ~torch.isnan(forces)
        squares = torch.where(known, forces, 0.0).square().sum(dim=1)
        counts = known.sum(dim=1)
        total = float(squares.sum() / counts.sum())
        by_type = _per_type_mean(squares, types, dataset.type_names, counts)
        result["forces_rms"] = math.sqrt(total)
        result["per_type_forces_rms"] = {name: math.sqrt(value) for name, value in by_type.items()}
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
    """
    for statistic, (message, advice) in _ZERO.items():
        if name.startswith(statistic):
            values = value if isinstance(value, dict) else {name.removeprefix(f"{statistic}_"): value}
            if zero := [species for species, number in values.items() if number == 0]:
                raise DataError(message.format(species=", ".join(zero)), advice.format(name=name))


def neighbors_per_atom(frame: dict[str, torch.Tensor]) -> torch.Tensor:
    """Number of neighbours of each atom, shape (atoms,); 0 for an isolated atom."""
    return torch.bincount(frame[fields.EDGE_INDEX][0], minlength=len(frame[fields.POSITIONS]))


def _per_type_mean(
    values: torch.Tensor, types: torch.Tensor, type_names: list[str], weights: torch.Tensor | None = None
) -> dict[str, float]:
    """Sum of values over sum of weights for each type; over all types where a type has no weight."""
    weights = torch.ones_like(values) if weights is None else weights.to(values.dtype)
    sums = torch.bincount(types, values, minlength=len(type_names))
    counts = torch.bincount(types, weights, minlength=len(type_names))
    overall = values.sum() / weights.sum()
    means = torch.where(counts > 0, sums / counts.clamp(min=1.0), overall)
    return dict(zip(type_names, means.tolist(), strict=True))

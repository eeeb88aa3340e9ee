"""A model with the weights of another one: with further species, other switches, other shifts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from nequip_like.model.families import build
from nequip_like.model.nequip import NequIPEnergy
from nequip_like.model.potential import Potential

#: A new species that begins as the mean over the species that there are.
MEAN = None


def rebuilt(
    source: Potential,
    changes: Mapping[str, Any],
    starts: Mapping[str, str | None] | None = None,
    shifts: Mapping[str, float] | None = None,
) -> Potential:
    """Build a model anew, with the weights of ``source``.

    The numbers of the species that there are stay the same, bit for bit, and so does their order; new ones come behind
    them.

    Args:
        source: The model; it is not changed.
        changes: Arguments of its builder that differ, such as ``kernel``; none that changes the shape of weights.
        starts: For each new species the species that it begins as, or :data:`MEAN`: its embedding, energy scale and
            average number of neighbours. The cutoffs of its pairs are those of the other species; with the mean, r_max.
        shifts: Energy shift of each new species, eV.

    Returns:
        The new model, on the CPU. All its parameters require gradients.
    """
    arguments = {**source.config["arguments"], **changes}
    if starts:
        arguments |= _extend_arguments(source, starts, shifts or {})
    model = build({**source.config, "arguments": arguments})
    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in source.state_dict().items():
            # What is there for each species, or pair of them, keeps its place at the beginning.
            state[name][tuple(slice(0, length) for length in tensor.shape)] = tensor
        energy_model = cast(NequIPEnergy, model.energy_model)
        embedding = cast(NequIPEnergy, source.energy_model).type_embedding
        for row, start in enumerate((starts or {}).values(), start=len(source.type_names)):
            energy_model.type_embedding[row] = _start(embedding, source.type_names, start)
    return model


def _start(rows: Tensor, type_names: list[str], start: str | None) -> Tensor:
    return rows.mean(dim=0) if start is MEAN else rows[type_names.index(start)]


def _extend_arguments(
    source: Potential, starts: Mapping[str, str | None], shifts: Mapping[str, float]
) -> dict[str, Any]:
    """Arguments that hold something for each species, with the new ones."""
    type_names, arguments = source.type_names, source.config["arguments"]
    scale_shift = cast(NequIPEnergy, source.energy_model).scale_shift
    extended: dict[str, Any] = {
        "type_names": [*type_names, *starts],
        "per_type_energy_scales": _extend_values(scale_shift.scales, type_names, starts),
        "per_type_energy_shifts": dict(zip(type_names, scale_shift.shifts.tolist(), strict=True)) | dict(shifts),
    }
    if isinstance(arguments["avg_num_neighbors"], Mapping):
        neighbors = torch.tensor([arguments["avg_num_neighbors"][name] for name in type_names], dtype=torch.float64)
        extended["avg_num_neighbors"] = _extend_values(neighbors, type_names, starts)
    if arguments.get("per_edge_type_cutoff"):
        extended["per_edge_type_cutoff"] = _extend_cutoffs(arguments["per_edge_type_cutoff"], starts)
    pair = arguments.get("pair_potential")
    if isinstance(pair, Mapping) and pair.get("chemical_species"):
        extended["pair_potential"] = {**pair, "chemical_species": [*pair["chemical_species"], *starts]}
    return extended


def _extend_values(values: Tensor, type_names: list[str], starts: Mapping[str, str | None]) -> dict[str, float]:
    values = values.detach()
    by_type = dict(zip(type_names, values.tolist(), strict=True))
    return by_type | {name: float(_start(values, type_names, start)) for name, start in starts.items()}


def _extend_cutoffs(cutoffs: Mapping[str, Any], starts: Mapping[str, str | None]) -> dict[str, Any]:
    """Each new species has the cutoffs of the one that it begins as, as centre and as neighbour."""
    result: dict[str, Any] = {}
    for centre, entry in cutoffs.items():
        if isinstance(entry, Mapping):
            entry = {**entry, **{species: entry[start] for species, start in starts.items() if start in entry}}
        result[centre] = entry
    return result | {species: result[start] for species, start in starts.items() if start in result}


def change_shifts(model: Potential, changes: Mapping[str, float]) -> None:
    """Add to the energy shifts of some species.

    Args:
        model: The model; changed in place, with what builds it.
        changes: Energy to add for each atom of a species, eV.

    Example:
        >>> from nequip_like.model import NequIPGNNModel
        >>> tiny = {"num_layers": 2, "num_features": 4, "avg_num_neighbors": 2, "kernel": "reference"}
        >>> shifts = {"H": -13.0, "O": -430.0}
        >>> model = NequIPGNNModel(type_names=["H", "O"], r_max=3.0, per_type_energy_shifts=shifts, **tiny)
        >>> change_shifts(model, {"O": 2.0})
        >>> model.config["arguments"]["per_type_energy_shifts"]
        {'H': -13.0, 'O': -428.0}
    """
    shifts = cast(NequIPEnergy, model.energy_model).scale_shift.shifts
    with torch.no_grad():
        for name, change in changes.items():
            shifts[model.type_names.index(name)] += change
    values = dict(zip(model.type_names, shifts.tolist(), strict=True))
    model.config = {**model.config, "arguments": {**model.config["arguments"], "per_type_energy_shifts": values}}

"""A model with the weights of another one: with further species, other switches, other shifts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch

from nequip_like.model.families import build
from nequip_like.model.finetuning.family import Starts
from nequip_like.model.finetuning.tunable import FINE_TUNED
from nequip_like.model.potential import Potential
from nequip_like.nn.scale_shift import PerTypeScaleShift, per_type_values


def rebuilt(
    source: Potential,
    changes: Mapping[str, Any],
    starts: Starts | None = None,
    shifts: Mapping[str, float] | None = None,
) -> Potential:
    """Build a model anew, with the weights of ``source``.

    The numbers of the species that there are stay the same, bit for bit, and so does their order; new ones come behind
    them.

    Args:
        source: The model, of a family in :data:`~nequip_like.model.finetuning.tunable.FINE_TUNED`; it is not changed.
        changes: Arguments of its builder that differ, such as ``kernel``; none that changes the shape of weights.
        starts: For each new species the species that it begins as, or the mean of all (``MEAN``): its embedding,
            energy scale and average number of neighbours. The cutoffs of its pairs are those of the other species; with
            the mean, r_max.
        shifts: Energy shift of each new species, eV.

    Returns:
        The new model, on the CPU. All its parameters require gradients.
    """
    family = FINE_TUNED[source.config["family"]]
    arguments = {**source.config["arguments"], **changes}
    if starts:
        arguments |= family.extend_arguments(source, starts, shifts or {})
    model = build({**source.config, "arguments": arguments})
    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in source.state_dict().items():
            # What is there for each species, or pair of them, keeps its place at the beginning.
            state[name][tuple(slice(0, length) for length in tensor.shape)] = tensor
        if starts:
            family.start_species(model, source, starts)
    return model


def change_shifts(model: Potential, changes: Mapping[str, float]) -> None:
    """Add to the energy shifts of some species.

    Args:
        model: The model; changed in place, with what builds it: its ``per_type_energy_shifts`` give these shifts again,
            to the last bit.
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
    arguments, names = model.config["arguments"], model.type_names
    shifts = cast(PerTypeScaleShift, model.energy_model.scale_shift).shifts
    offsets = FINE_TUNED[model.config["family"]].find_shift_offsets(model)
    with torch.no_grad():
        argument = per_type_values("per_type_energy_shifts", arguments.get("per_type_energy_shifts"), names, 0.0)
        # Of shifts that were trained the argument tells nothing; others keep theirs, which a difference would round.
        values = torch.where(argument + offsets == shifts, argument, shifts - offsets)
        values += torch.tensor([changes.get(name, 0.0) for name in names], dtype=torch.float64)
        shifts.copy_(values + offsets)
    by_type = dict(zip(names, values.tolist(), strict=True))
    model.config = {**model.config, "arguments": {**arguments, "per_type_energy_shifts": by_type}}

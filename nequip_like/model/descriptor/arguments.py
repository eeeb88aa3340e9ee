"""Arguments of the descriptor family: the descriptor that they describe, and the statistics among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nequip_like.errors import ConfigError
from nequip_like.nn.atomic_networks import read_hidden_layers
from nequip_like.nn.chebyshev.descriptor import ChebyshevDescriptor

RADIAL_ORDER, ANGULAR_ORDER = 20, 6  # where none is given


def check_before_data(arguments: Mapping[str, Any], type_names: Sequence[str] | None) -> None:
    """Refuse networks and cutoffs that cannot be, before any data are read.

    Args:
        arguments: Those of a model that are known yet; of one without ``networks`` and ``r_max`` nothing is checked.
        type_names: The species; None if the data will tell them.

    Raises:
        ConfigError: Naming the argument.
    """
    if not {"networks", "r_max"} <= set(arguments):
        return
    networks = arguments["networks"]
    species = type_names or (list(networks) if isinstance(networks, Mapping) else ["H"])
    read_hidden_layers(networks, species)
    build_descriptor({**arguments, "type_names": species})


def build_descriptor(arguments: Mapping[str, Any]) -> ChebyshevDescriptor:
    """The descriptor of a model.

    Args:
        arguments: Those of the builder; all but species and cutoff may be absent.

    Raises:
        ConfigError: If a cutoff is larger than ``r_max``, up to which there are neighbours.
    """
    r_max = float(arguments["r_max"])
    radial_cutoff, angular_cutoff = (arguments.get(name) or r_max for name in ("radial_cutoff", "angular_cutoff"))
    min_cutoff = arguments.get("min_cutoff", 0.0)
    cutoffs = {"radial_cutoff": radial_cutoff, "angular_cutoff": angular_cutoff, "min_cutoff": min_cutoff}
    for name, value in cutoffs.items():
        if value > r_max:
            raise ConfigError(f"{name} is {value}, beyond r_max, which is {r_max}", "give r_max or less")
    return ChebyshevDescriptor(
        species=len(arguments["type_names"]),
        radial_order=arguments.get("radial_order", RADIAL_ORDER),
        radial_cutoff=radial_cutoff,
        angular_order=arguments.get("angular_order", ANGULAR_ORDER),
        angular_cutoff=angular_cutoff,
        min_cutoff=min_cutoff,
        compiled=arguments.get("kernel", "auto") == "auto",
    )


def read_feature_stats(stats: Mapping[str, Any] | None, type_names: Sequence[str], size: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the features of each species, shape (types, size), float64.

    Args:
        stats: ``{"mean": [...], "std": [...]}`` for all species, or one such mapping for each; further entries are
            not read. None: zeros and ones.
        type_names: The model's species.
        size: Number of features.

    Raises:
        ConfigError: If an entry or a species is missing, or a list has another length.

    Example:
        >>> read_feature_stats({"mean": [1.0, 2.0], "std": [0.5, 0.5]}, ["H", "O"], 2)[0].tolist()
        [[1.0, 2.0], [1.0, 2.0]]
    """
    if stats is None:
        return torch.zeros(len(type_names), size).double(), torch.ones(len(type_names), size).double()
    common = {"mean", "std"} & set(stats)
    by_species = dict.fromkeys(type_names, stats) if common else stats
    if set(by_species) != set(type_names):
        differing = sorted(map(str, set(by_species) ^ set(type_names)))
        raise ConfigError(
            f"feature_stats and the model's species differ in {', '.join(differing)}",
            f"give mean and std, or these for each of {', '.join(type_names)}",
        )
    rows: dict[str, list[Tensor]] = {"mean": [], "std": []}
    for species in type_names:
        entry = by_species[species]
        for name, values in rows.items():
            numbers = entry.get(name) if isinstance(entry, Mapping) else None
            if numbers is None or len(numbers) != size:
                content = "nothing" if numbers is None else f"{len(numbers)} numbers"
                raise ConfigError(
                    f"feature_stats has {content} as the {name} of {species}",
                    f"give one number for each of the {size} features",
                )
            values.append(torch.tensor(list(numbers), dtype=torch.float64))
    means, spreads = torch.stack(rows["mean"]), torch.stack(rows["std"])
    if not (means.isfinite().all() and spreads.isfinite().all() and (spreads >= 0).all()):
        raise ConfigError("feature_stats has a value that is not finite, or a std below 0", "compute them again")
    return means, spreads

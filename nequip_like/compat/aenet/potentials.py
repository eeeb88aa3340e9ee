"""Potentials from aenet's networks, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from nequip_like.compat.aenet.nn_ascii import AenetNetwork, read_nn_ascii, write_nn_ascii
from nequip_like.errors import ModelError, ModelFileError
from nequip_like.model.committee import CommitteePotential
from nequip_like.model.descriptor.arguments import read_feature_stats
from nequip_like.model.descriptor.builder import FAMILY, DescriptorANNModel
from nequip_like.model.descriptor.energy import SMALLEST_SPREAD, DescriptorEnergy
from nequip_like.model.potential import Potential
from nequip_like.nn.scale_shift import per_type_values
from nequip_like.whole_files import output_errors, path_of

SUFFIX = ".nn.ascii"


def read_aenet_potential(files: str | Path | Sequence[str | Path]) -> Potential:
    """Read a potential from the networks of its species.

    The species that the files list around an atom decide, in their order, the spins of the descriptor; they have to be
    the same in all files. The Fortran code looks at all neighbours, and so does this potential; networks that were
    trained by aenet-python have never seen any that were closer than 0.55 Angstrom.

    Args:
        files: One ``.nn.ascii`` file for each species, or the folder that holds them.

    Returns:
        A potential in float64, in evaluation mode. ``nequip_like.save`` makes a model file of it for all commands; its
        ``per_type_energy_shifts`` are the energies of isolated atoms, which cohesive energies leave out.

    Raises:
        ModelFileError: If a file cannot be read, a species has none or two, or the files do not fit together.
    """
    networks: dict[str, AenetNetwork] = {}
    for path in _list_files(files):
        network = read_nn_ascii(path)
        if network.species in networks:
            raise ModelFileError(f"{path} is a second network for {network.species}", "give one for each species")
        networks[network.species] = network
    first = next(iter(networks.values()))
    for network in networks.values():
        mine, theirs = ((each.environment, each.radial, each.angular) for each in (network, first))
        if mine != theirs:
            raise ModelFileError(
                f"the networks for {first.species} and {network.species} have other descriptors: {theirs} and {mine}",
                "give networks that were trained together",
            )
    names = first.environment
    if set(names) != set(networks):
        raise ModelFileError(
            f"there are networks for {', '.join(networks)}, but the species are {', '.join(names)}",
            "give one file for each species",
        )
    potential = DescriptorANNModel(
        type_names=names,
        r_max=max(first.radial[0], first.angular[0]),
        radial_cutoff=first.radial[0],
        radial_order=first.radial[1],
        angular_cutoff=first.angular[0],
        angular_order=first.angular[1],
        model_dtype="float64",
        networks={name: _list_layers(networks[name]) for name in names},
        feature_stats={name: _describe_features(networks[name]) for name in names},
        E_shift={name: networks[name].energy_shift for name in names},
        E_scaling={name: networks[name].energy_scaling for name in names},
        per_type_energy_shifts={name: _atomic_energy(networks[name]) for name in names},
    )
    energy_model = cast(DescriptorEnergy, potential.energy_model)
    with torch.no_grad():
        for name, atomic_network in zip(names, energy_model.networks.each, strict=True):
            for parameters, values in (
                (atomic_network.weights, networks[name].weights),
                (atomic_network.biases, networks[name].biases),
            ):
                for parameter, array in zip(parameters, values, strict=True):
                    parameter.copy_(torch.from_numpy(array))
    return potential.requires_grad_(False).eval()


def write_aenet_potential(
    potential: Potential,
    folder: str | Path,
    prefix: str = "",
    *,
    min_distance: float = 0.55,
    training_set: str = "unknown",
    structures: int = 0,
) -> dict[str, Path]:
    """Write the network of each species as aenet's ``PREFIX.Ti.nn.ascii``.

    A potential with exact energies of isolated atoms is written with energy shifts that have the same effect.

    Args:
        potential: A potential of the family ``descriptor_ann``.
        folder: Where to write; made if it is not there. Files of the same names are replaced.
        prefix: What their names begin with.
        min_distance: Smallest distance that aenet is to expect, Angstrom, where the potential itself has none.
        training_set: Name of the training set, for the record.
        structures: Number of its structures, for the record.

    Returns:
        The file of each species.

    Raises:
        ModelError: If the potential is of another family.
        OutputError: If a file cannot be written.
    """
    if potential.config.get("family") != FAMILY:
        raise ModelError(
            f"a potential of the family '{potential.config.get('family')}' cannot be written for aenet",
            f"only those of the family {FAMILY} can",
        )
    target = path_of(folder)
    with output_errors(target):
        target.mkdir(parents=True, exist_ok=True)
    files = {}
    for number, name in enumerate(potential.type_names):
        network = _describe_network(potential, number, min_distance, training_set, structures)
        files[name] = target / f"{prefix + '.' if prefix else ''}{name}{SUFFIX}"
        write_nn_ascii(network, files[name])
    return files


def write_aenet_committee(
    committee: CommitteePotential, folder: str | Path, prefix: str = "", **arguments: Any
) -> list[dict[str, Path]]:
    """Write the members of a committee for aenet, each in a folder of its own: ``member_000/PREFIX.Ti.nn.ascii``.

    Args:
        committee: A committee of potentials of the family ``descriptor_ann``: what ``nl.load`` gives of its folder.
        folder: Where to write.
        prefix: As for :func:`write_aenet_potential`.
        **arguments: As there.

    Returns:
        For each member the file of each species.

    Raises:
        ModelError: If they are of another family.
        OutputError: If a file cannot be written.
    """
    return [
        write_aenet_potential(member, path_of(folder) / f"member_{i:03d}", prefix, **arguments)
        for i, member in enumerate(committee.members)
    ]


def _list_files(files: str | Path | Sequence[str | Path]) -> list[Path]:
    if not isinstance(files, str | Path):
        paths = [path_of(file) for file in files]
    elif path_of(files).is_dir():
        paths = sorted(path_of(files).glob(f"*{SUFFIX}"))
    else:
        paths = [path_of(files)]
    if not paths:
        raise ModelFileError(f"{files} has no *{SUFFIX}", "give the file of each species, or their folder")
    return paths


def _list_layers(network: AenetNetwork) -> list[list[object]]:
    return [[len(bias), name] for bias, name in zip(network.biases[:-1], network.activations, strict=True)]


def _describe_features(network: AenetNetwork) -> dict[str, object]:
    # As aenet computes it; what rounding leaves below zero does not vary.
    variance = np.maximum(network.mean_square - network.mean**2, 0.0)
    return {
        "count": float(network.evaluations),
        "mean": network.mean.tolist(),
        "std": np.sqrt(variance).tolist(),
        "min": network.lowest.tolist(),
        "max": network.highest.tolist(),
    }


def _atomic_energy(network: AenetNetwork) -> float:
    if network.species not in network.atomic_energies:
        raise ModelFileError(
            f"the network for {network.species} has no energy of its isolated atom, only of "
            f"{', '.join(network.atomic_energies)}",
            "give a network that was trained with this species",
        )
    return network.atomic_energies[network.species]


def _describe_network(
    potential: Potential, number: int, min_distance: float, training_set: str, structures: int
) -> AenetNetwork:
    """What the file of one species holds."""
    arguments, names = potential.config["arguments"], potential.type_names
    energy_model = cast(DescriptorEnergy, potential.energy_model)
    descriptor, network = energy_model.descriptor, energy_model.networks.each[number]
    name = names[number]
    statistics = read_feature_stats(arguments["feature_stats"], names, descriptor.size)
    means, spreads = (part[number].numpy() for part in statistics)
    stats = arguments["feature_stats"] or {}
    species_stats = stats.get(name, stats)
    shifts = per_type_values("per_type_energy_shifts", arguments["per_type_energy_shifts"], names, 0.0)
    scaling = float(per_type_values("E_scaling", arguments["E_scaling"], names, 1.0)[number])
    shift = float(per_type_values("E_shift", arguments["E_shift"], names, 0.0)[number])
    half_range = 1.0 / scaling
    energy_range = (shift - half_range, shift + half_range, shift)
    if energy_model.isolated_atoms == "exact":
        types = torch.full((1,), number)
        outputs = energy_model.networks(energy_model.normalize(torch.zeros(1, descriptor.size).double(), types), types)
        shift = -float(outputs.detach().double()) / scaling
    weights, biases = (
        [parameter.detach().cpu().double().clone().numpy() for parameter in parameters]
        for parameters in (network.weights, network.biases)
    )
    mean, mean_square = _fit_statistics(means, spreads, weights, biases)
    return AenetNetwork(
        species=name,
        environment=list(names),
        activations=list(network.activations),
        weights=weights,
        biases=biases,
        min_distance=descriptor.min_cutoff or min_distance,
        radial=(descriptor.radial_cutoff, descriptor.radial_order),
        angular=(descriptor.angular_cutoff, descriptor.angular_order),
        evaluations=int(_get_number(species_stats, "count")),
        lowest=np.array(species_stats.get("min", means - spreads)),
        highest=np.array(species_stats.get("max", means + spreads)),
        mean=mean,
        mean_square=mean_square,
        energy_scaling=scaling,
        energy_shift=shift,
        atomic_energies=dict(zip(names, shifts.tolist(), strict=True)),
        training_set=training_set,
        atoms=int(sum(_get_number(stats.get(species), "count") for species in names)),
        structures=structures,
        energy_range=energy_range,
        description=f"Chebyshev descriptor of {name}, written by nequip_like",
    )


def _fit_statistics(
    means: np.ndarray, spreads: np.ndarray, weights: list[np.ndarray], biases: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and mean square of each feature as files have them; the first layer is changed where these lose digits.

    aenet takes the spread from the difference of mean square and squared mean, of which rounding leaves little where a
    feature hardly varies. The weights get the ratio of that spread and the true one, so energies stay what they are.
    """
    mean, mean_square = means.copy(), spreads**2 + means**2
    varies = spreads > SMALLEST_SPREAD
    file_spreads = np.sqrt(np.maximum(mean_square - mean**2, 0.0))
    lost = varies & (file_spreads <= SMALLEST_SPREAD)
    true = np.where(varies, spreads, 1.0)
    biases[0] -= ((means / true)[lost]) @ weights[0][lost]
    mean[lost], mean_square[lost], file_spreads[lost] = 0.0, 1.0, 1.0
    weights[0] *= np.where(varies, file_spreads / true, 1.0)[:, None]
    return mean, mean_square


def _get_number(stats: object, key: str) -> float:
    return float(stats.get(key, 0.0)) if isinstance(stats, Mapping) else 0.0

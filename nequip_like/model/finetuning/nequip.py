"""The NequIP family as fine-tuning knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from e3nn.o3 import Irreps
from torch import Tensor

from nequip_like.model.finetuning.family import Starts, TunableFamily, choose_start
from nequip_like.model.nequip import NequIPEnergy
from nequip_like.model.potential import Potential

_HEAD = ("readout", "scale_shift")


class TunableNequIP(TunableFamily):
    """NequIP: its head is the readout, and a new species is one more row of the embedding."""

    builders = ("FullNequIPGNNModel", "NequIPGNNModel", "PresetNequIPGNNModel")
    switches = ("bessel_trainable", "per_type_energy_scales_trainable", "per_type_energy_shifts_trainable")
    per_type = ("avg_num_neighbors", "per_type_energy_scales", "per_type_energy_shifts")

    def list_head(self, potential: Potential) -> list[str]:
        """The readout, and scales and shifts where these are trained."""
        names = [name for name, _ in potential.named_parameters()]
        return [name for name in names if any(f".{part}." in name for part in _HEAD)]

    def describe_arguments(self, potential: Potential) -> dict[str, Any]:
        """The arguments, also in the words of the shorter builders."""
        arguments = potential.config["arguments"]
        described = {**arguments, "r_max": potential.cutoff}
        degree = arguments["irreps_edge_sh"]
        described["l_max"] = degree if isinstance(degree, int) else Irreps(degree).lmax
        hidden = [Irreps(irreps) for irreps in arguments["feature_irreps_hidden"]]
        described["num_layers"] = len(hidden)
        if len(hidden) > 1 and all(irreps == hidden[0] for irreps in hidden[:-1]):
            channels = {entry.ir.l: entry.mul for entry in hidden[0]}
            described["num_features"] = [channels[number] for number in sorted(channels)]
            if described["l_max"] > 0:
                described["parity"] = any(entry.ir.p != (-1) ** entry.ir.l for entry in hidden[0])
        return described

    def normalize_argument(self, key: str, value: Any, type_names: Sequence[str]) -> Any:
        """One number may stand for all species, layers or degrees."""
        value = super().normalize_argument(key, value, type_names)
        equal = isinstance(value, list) and value and all(entry == value[0] for entry in value)
        return value[0] if equal else value

    def extend_arguments(self, source: Potential, starts: Starts, shifts: Mapping[str, float]) -> dict[str, Any]:
        """Species, scales, shifts, numbers of neighbours and cutoffs of pairs."""
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

    def start_species(self, model: Potential, source: Potential, starts: Starts) -> None:
        """Rows of the embedding."""
        energy_model = cast(NequIPEnergy, model.energy_model)
        embedding = cast(NequIPEnergy, source.energy_model).type_embedding
        for row, start in enumerate(starts.values(), start=len(source.type_names)):
            energy_model.type_embedding[row] = choose_start(embedding, source.type_names, start)


def _extend_values(values: Tensor, type_names: list[str], starts: Starts) -> dict[str, float]:
    values = values.detach()
    by_type = dict(zip(type_names, values.tolist(), strict=True))
    return by_type | {name: float(choose_start(values, type_names, start)) for name, start in starts.items()}


def _extend_cutoffs(cutoffs: Mapping[str, Any], starts: Starts) -> dict[str, Any]:
    """Each new species has the cutoffs of the one that it begins as, as centre and as neighbour."""
    result: dict[str, Any] = {}
    for centre, entry in cutoffs.items():
        if isinstance(entry, Mapping):
            entry = {**entry, **{species: entry[start] for species, start in starts.items() if start in entry}}
        result[centre] = entry
    return result | {species: result[start] for species, start in starts.items() if start in result}

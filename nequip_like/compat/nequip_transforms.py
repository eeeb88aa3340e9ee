"""NequIP's ``data.transforms`` (checked against 0.19.1): what each of them means for our readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nequip_like.compat.nequip_names import class_name
from nequip_like.compat.nequip_values import check_keys, check_same_types, parse_length, parse_list, parse_mapping
from nequip_like.errors import ConfigError, closest_hint

_SAME_HERE = {
    "VirialToStressTransform": "a virial becomes a stress when it is read",
    "AddNaNStressTransform": "a stress that a frame lacks is NaN in any case",
    "NonPeriodicCellTransform": "structures need no cell",
    "SortedNeighborListTransform": "neighbour lists are always sorted",
    "DatasetIndexTransform": "nothing here reads the index of a data set",
}
KNOWN = (
    "ChemicalSpeciesToAtomTypeMapper",
    "NeighborListTransform",
    "NeighborListPruneTransform",
    "StressSignFlipTransform",
    *_SAME_HERE,
)
_NEIGHBOR_KEYS = ("_target_", "r_max", "per_edge_type_cutoff", "type_names", "backend", "backend_kwargs")
_MAPPER_KEYS = ("_target_", "model_type_names", "chemical_species_to_atom_type_map", "chemical_symbols")


@dataclass(frozen=True)
class Effects:
    """What is left of the transforms.

    Attributes:
        cutoff: Cutoff of the neighbour lists, Angstrom; None if no transform makes one.
        pair_cutoffs: Smaller cutoffs of pairs of types, as NequIP writes them.
        stress_sign: ``compression`` if a positive stress in the file means compression.
    """

    cutoff: float | None = None
    pair_cutoffs: Mapping[str, Any] | None = None
    stress_sign: str | None = None


def collect_effects(transforms: Any, type_names: Sequence[str], notes: list[str]) -> Effects:
    """Go through the transforms.

    Args:
        transforms: The list of the config.
        type_names: The model's types.
        notes: What a user should know is added here.

    Raises:
        ConfigError: If a transform is unknown, or contradicts the model.
    """
    effects = Effects()
    transforms = parse_list("data.transforms", transforms)
    for transform in transforms:
        target = transform.get("_target_") if isinstance(transform, Mapping) else None
        name = class_name(target)
        if name == "ChemicalSpeciesToAtomTypeMapper":
            _check_mapper(transform, type_names)
        elif name in ("NeighborListTransform", "NeighborListPruneTransform"):
            effects = _apply_neighbor_list(effects, transform, type_names, notes)
        elif name == "StressSignFlipTransform":
            _check_flip(transforms)
            effects = replace(effects, stress_sign="compression")
        elif name in _SAME_HERE:
            text = f"{name} is not needed: {_SAME_HERE[name]}"
            if text not in notes:
                notes.append(text)
        else:
            raise ConfigError(
                f"data.transforms: there is no {target or transform} here",
                f"{closest_hint(name, KNOWN)}known are {', '.join(KNOWN)}",
            )
    return effects


def _check_flip(transforms: Sequence[Any]) -> None:
    """A flipped stress out of a virial is a virial of the other sign, which has no name here."""
    names = [class_name(transform.get("_target_")) for transform in transforms if isinstance(transform, Mapping)]
    if "VirialToStressTransform" in names or names.count("StressSignFlipTransform") > 1:
        raise ConfigError(
            f"data.transforms has {', '.join(name for name in names if 'Stress' in name)}",
            "flip a stress once; a virial of the other sign has to be changed in the file, to -volume * stress",
        )


def _check_mapper(transform: Mapping[str, Any], type_names: Sequence[str]) -> None:
    check_keys("ChemicalSpeciesToAtomTypeMapper", transform, _MAPPER_KEYS, "argument")
    for key in ("model_type_names", "chemical_symbols"):
        check_same_types("ChemicalSpeciesToAtomTypeMapper", transform.get(key), type_names)
    key = "chemical_species_to_atom_type_map"
    mapping = parse_mapping(key, transform.get(key))
    changed = {str(species): kind for species, kind in mapping.items() if species != kind}
    if changed:
        species, kind = next(iter(changed.items()))
        raise ConfigError(
            f"ChemicalSpeciesToAtomTypeMapper makes the type '{kind}' of {species}",
            "types are chemical species here: name them by their symbols in model.type_names",
        )


def _apply_neighbor_list(
    effects: Effects, transform: Mapping[str, Any], type_names: Sequence[str], notes: list[str]
) -> Effects:
    name = class_name(transform["_target_"])
    check_keys(name, transform, _NEIGHBOR_KEYS, "argument")
    cutoff = parse_length(f"r_max of {name}", transform.get("r_max"))
    check_same_types(name, transform.get("type_names"), type_names)
    if transform.get("backend") or transform.get("backend_kwargs"):
        text = "the backend of the neighbour list has no effect: it is vesin's, and the list is the same"
        if text not in notes:
            notes.append(text)
    smallest = cutoff if effects.cutoff is None else min(effects.cutoff, cutoff)
    return replace(effects, cutoff=smallest, pair_cutoffs=transform.get("per_edge_type_cutoff") or effects.pair_cutoffs)

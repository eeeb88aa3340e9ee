"""Under which names data files keep their labels, and which of a file's names is which label.

Well-known names are found without being declared. Where a file leaves a choice, it must be declared: the package
never guesses between two names.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nequip_like.data import fields
from nequip_like.errors import ConfigError, DataError, closest_hint

MAPPABLE = (*fields.LABELS, fields.FRAME_WEIGHT, fields.ATOM_WEIGHT)

_PREFIXES = ("", "dft_", "ref_", "reference_", "qm_", "target_")
_STEMS = {
    fields.TOTAL_ENERGY: ("energy", "total_energy", "potential_energy"),
    fields.FORCES: ("forces", "force"),
    fields.STRESS: ("stress",),
    fields.VIRIAL: ("virial", "virials"),
    fields.PER_ATOM_ENERGY: ("energies", "atomic_energy", "atomic_energies", "atom_energy"),
}
_LAST_RESORT = "free_energy"  # stands for the energy only where a file has no other
_PARTS = {  # of names that were most likely meant for a label
    "forc": fields.FORCES,
    "gradient": fields.FORCES,
    "virial": fields.VIRIAL,
    "stress": fields.STRESS,
    "energ": fields.TOTAL_ENERGY,
}
WELL_KNOWN: dict[str, str] = {
    prefix + stem: label for label, stems in _STEMS.items() for stem in stems for prefix in _PREFIXES
} | {
    "weight": fields.FRAME_WEIGHT,
    "frame_weight": fields.FRAME_WEIGHT,
    "atom_weight": fields.ATOM_WEIGHT,
}
WELL_KNOWN_PER_ATOM: dict[str, str] = {
    name: label for name, label in WELL_KNOWN.items() if fields.field(label).owner == "node"
} | {"weight": fields.ATOM_WEIGHT}


@dataclass(frozen=True)
class FrameNames:
    """The names that one frame has.

    Attributes:
        graph: Names of values of the whole structure.
        node: Names of values with one row per atom.
    """

    graph: frozenset[str]
    node: frozenset[str]


def checked_mapping(key_mapping: Mapping[str, str] | None) -> dict[str, str]:
    """Check a declared ``{name in the file: field}``.

    Raises:
        ConfigError: If a field is none that a file can hold, or two names stand for one field.
    """
    mapping = dict(key_mapping or {})
    owner_of: dict[str, str] = {}
    for name, label in mapping.items():
        if label not in MAPPABLE:
            hint = closest_hint(label, MAPPABLE)
            raise ConfigError(
                f"key_mapping: '{name}' is mapped to '{label}', which is no label",
                f"{hint}write {{name in the file: label}}; the labels are {', '.join(MAPPABLE)}",
            )
        if label in owner_of:
            raise ConfigError(
                f"key_mapping: both '{owner_of[label]}' and '{name}' are mapped to '{label}'",
                "map one name per label; give the other files their own data set entry",
            )
        owner_of[label] = name
    if fields.STRESS in owner_of and fields.VIRIAL in owner_of:
        raise ConfigError("key_mapping: both stress and virial are mapped", "they hold the same, map one of them")
    return mapping


def resolve(file: str, names: Sequence[FrameNames], key_mapping: Mapping[str, str]) -> dict[str, str]:
    """Decide which name of a file holds which label.

    Args:
        file: The file, for messages.
        names: The names of each frame.
        key_mapping: Declared ``{name in the file: field}``, already checked. A field that is declared is read under
            its declared name only.

    Returns:
        ``{field: name in the file}`` for every label that the file has.

    Raises:
        DataError: If the file has two well-known names for one label and none is declared.
    """
    graph = frozenset().union(*(frame.graph for frame in names))
    node = frozenset().union(*(frame.node for frame in names))
    declared = {label: name for name, label in key_mapping.items()}
    settled = set(declared)
    if settled & {fields.STRESS, fields.VIRIAL}:
        settled |= {fields.STRESS, fields.VIRIAL}
    found: dict[str, list[str]] = {}
    for available, table in ((graph, WELL_KNOWN), (node, WELL_KNOWN_PER_ATOM)):
        for name in sorted(available):
            label = table.get(_plain(name))
            per_atom = label is not None and fields.field(label).owner == "node"
            if label is not None and label not in settled and per_atom == (available is node):
                found.setdefault(label, []).append(name)
    if fields.TOTAL_ENERGY not in found and fields.TOTAL_ENERGY not in settled and _LAST_RESORT in graph:
        found[fields.TOTAL_ENERGY] = [_LAST_RESORT]
    for label, candidates in found.items():
        if len(candidates) > 1:
            raise DataError(
                f"{file}: {len(candidates)} names could be the label '{label}': {', '.join(candidates)}",
                f"declare which one: key_mapping: {{{candidates[0]}: {label}}}",
            )
    chosen = {label: candidates[0] for label, candidates in found.items()}
    for label, name in declared.items():
        if name in (node if fields.field(label).owner == "node" else graph):
            chosen[label] = name
    return chosen


def check_declared_names(source: str, names: Sequence[FrameNames], key_mapping: Mapping[str, str]) -> None:
    """Refuse a declared name that no frame of a source has.

    Raises:
        DataError: Listing the names that the source does have.
    """
    graph = sorted(frozenset().union(*(frame.graph for frame in names)))
    node = sorted(frozenset().union(*(frame.node for frame in names)))
    for name, label in key_mapping.items():
        available, kind = (node, "per atom") if fields.field(label).owner == "node" else (graph, "per structure")
        if name in available:
            continue
        if name in graph or name in node:
            other = "per structure" if kind == "per atom" else "per atom"
            raise DataError(
                f"{source}: key_mapping declares '{name}' as '{label}', but '{name}' is a value {other}",
                f"'{label}' is a value {kind}; the file has {kind}: {', '.join(available) or 'nothing'}",
            )
        hint = closest_hint(name, available, any_case=True)
        raise DataError(
            f"{source}: no frame has '{name}', which key_mapping declares as '{label}'",
            f"{hint}the file has per structure: {', '.join(graph) or 'nothing'}; "
            f"per atom: {', '.join(node) or 'nothing'}",
        )


def unread_names(names: Sequence[FrameNames], label_names: Mapping[str, Sequence[str]]) -> list[str]:
    """Notes on names that look like a label which was found under no name.

    Args:
        names: The names of each frame.
        label_names: ``{label: names}`` that were read.
    """
    found = set(label_names) | (
        {fields.STRESS, fields.VIRIAL} if {fields.STRESS, fields.VIRIAL} & set(label_names) else set()
    )
    notes = []
    for kind, other in (("graph", "per atom"), ("node", "per structure")):
        for name in sorted(frozenset().union(*(getattr(frame, kind) for frame in names))):
            label = _looks_like(name)
            if label is None or label in found:
                continue
            owner = fields.field(label).owner
            if owner == kind:
                notes.append(
                    f"'{name}' is not read; if it is the label '{label}', declare key_mapping: {{{name}: {label}}}"
                )
            else:
                here = "per structure" if kind == "graph" else "per atom"
                notes.append(f"'{name}' is not read: it is a value {here}, but the label '{label}' is one {other}")
    return notes


def label_of(name: str) -> str | None:
    """The label or weight that a name stands for, or was most likely meant for; None if it is neither."""
    plain = _plain(name)
    return WELL_KNOWN.get(plain) or _looks_like(name)


def _looks_like(name: str) -> str | None:
    """The label that a name is most likely meant for."""
    plain = _plain(name)
    if plain == _LAST_RESORT:
        return None
    if plain in WELL_KNOWN:
        return WELL_KNOWN[plain] if WELL_KNOWN[plain] in fields.LABELS else None
    for part, label in _PARTS.items():
        if part in plain:
            return label
    close = difflib.get_close_matches(plain, WELL_KNOWN, n=1, cutoff=0.8)
    return WELL_KNOWN[close[0]] if close and WELL_KNOWN[close[0]] in fields.LABELS else None


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")

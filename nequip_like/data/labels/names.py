"""Under which names data files keep their labels, and which of a file's names is which label.

Well-known names are found without being declared. Where a file leaves a choice, it must be declared: the package
never guesses between two names.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from nequip_like.data import fields
from nequip_like.errors import ConfigError, DataError, closest_hint

MAPPABLE = (*fields.LABELS, *fields.WEIGHTS)

_PREFIXES = ("", "dft_", "ref_", "reference_", "qm_", "target_")
_STEMS = {
    fields.TOTAL_ENERGY: ("energy", "total_energy", "potential_energy"),
    fields.FORCES: ("forces", "force"),
    fields.STRESS: ("stress",),
    fields.VIRIAL: ("virial", "virials"),
    fields.PER_ATOM_ENERGY: ("energies", "atomic_energy", "atomic_energies", "atom_energy"),
}
FREE_ENERGY = "free_energy"  # stands for the energy only where a file has no other, see free_energies.py
_WEIGHED = {
    fields.TOTAL_ENERGY: ("energy", "total_energy"),
    fields.FORCES: ("forces", "force"),
    fields.STRESS: ("stress",),
    fields.VIRIAL: ("virials", "virial"),
}
PARTS = {  # of names that were most likely meant for a label
    "forc": fields.FORCES,
    "gradient": fields.FORCES,
    "virial": fields.VIRIAL,
    "stress": fields.STRESS,
    "energ": fields.TOTAL_ENERGY,
}
WEIGHT = re.compile(r"(?:^|_)[efsv]?weights?(?:_|$)|^w_(?:energ|forc|stress|virial)")
_UNCERTAINTY = re.compile(r"(?:^|_)(?:sigma|mask)(?:_|$)")
_COMPONENTS = ("f{}", "f_{}", "force_{}", "forces_{}")  # columns of their own, see components.py
WELL_KNOWN: dict[str, str] = {
    prefix + stem: label for label, stems in _STEMS.items() for stem in stems for prefix in _PREFIXES
} | {
    **{
        " ".join(prefix + form.format(axis) for axis in "xyz"): fields.FORCES
        for form in _COMPONENTS
        for prefix in _PREFIXES
    },
    "weight": fields.FRAME_WEIGHT,
    "frame_weight": fields.FRAME_WEIGHT,
    "config_weight": fields.FRAME_WEIGHT,
    "atom_weight": fields.ATOM_WEIGHT,
    **{
        f"{prefix}{name}_weight": fields.LABEL_WEIGHTS[label]
        for label, names in _WEIGHED.items()
        for prefix in ("", "config_")  # the second as MACE writes them
        for name in names
    },
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

    @classmethod
    def join(cls, names: Iterable[FrameNames]) -> FrameNames:
        """All names that any of several frames has."""
        every = list(names)
        return cls(
            frozenset().union(*(entry.graph for entry in every)), frozenset().union(*(entry.node for entry in every))
        )


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


def resolve(
    file: str,
    names: Sequence[FrameNames],
    key_mapping: Mapping[str, str],
    names_of_format: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Decide which name of a file holds which label.

    Args:
        file: The file, for messages.
        names: The names of each frame.
        key_mapping: Declared ``{name in the file: field}``, already checked. A field that is declared is read under
            its declared name only.
        names_of_format: ``{name: field}`` of names that are well known in files of this format alone.

    Returns:
        ``{field: name in the file}`` for every label that the file has.

    Raises:
        DataError: If the file has two well-known names for one label and none is declared.

    Example:
        Two names for one label are never chosen between; a declared one is read:

        >>> names = [FrameNames(frozenset({"energy", "dft_energy"}), frozenset({"forces"}))]
        >>> resolve("md.xyz", names, {"dft_energy": "total_energy"})
        {'forces': 'forces', 'total_energy': 'dft_energy'}
        >>> resolve("md.xyz", names, {})
        Traceback (most recent call last):
        ...
        nequip_like.errors.DataError: md.xyz: 2 names could be the label 'total_energy': dft_energy, energy
          -> declare which one: 'data.key_mapping={dft_energy: total_energy}'
    """
    graph = frozenset().union(*(frame.graph for frame in names))
    node = frozenset().union(*(frame.node for frame in names))
    declared = {label: name for name, label in key_mapping.items()}
    settled = set(declared)
    if settled & {fields.STRESS, fields.VIRIAL}:
        settled |= {fields.STRESS, fields.VIRIAL}
    candidates_by_label = _find_candidates(graph, node, names_of_format or {}, settled)
    if fields.TOTAL_ENERGY not in candidates_by_label and fields.TOTAL_ENERGY not in settled and FREE_ENERGY in graph:
        candidates_by_label[fields.TOTAL_ENERGY] = [FREE_ENERGY]
    for label, candidates in candidates_by_label.items():
        if len(candidates) > 1:
            raise DataError(
                f"{file}: {len(candidates)} names could be the label '{label}': {', '.join(candidates)}",
                f"declare which one: {format_mapping_line({candidates[0]: label})}",
            )
    names_by_label = {label: candidates[0] for label, candidates in candidates_by_label.items()}
    for label, name in declared.items():
        if name in (node if fields.field(label).owner == "node" else graph):
            names_by_label[label] = name
    return names_by_label


def _find_candidates(
    graph: frozenset[str], node: frozenset[str], names_of_format: Mapping[str, str], settled: set[str]
) -> dict[str, list[str]]:
    """``{label: names in the file}`` for labels that are not settled; what the format calls a label is that."""
    candidates_by_label: dict[str, list[str]] = {}
    for available, table in ((graph, WELL_KNOWN), (node, WELL_KNOWN_PER_ATOM)):
        for name in sorted(available):
            for label in (names_of_format.get(name), table.get(normalise_name(name))):
                per_atom = label is not None and fields.field(label).owner == "node"
                if label is not None and label not in settled and per_atom == (available is node):
                    candidates_by_label.setdefault(label, []).append(name)
                    break
    return candidates_by_label


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
            actual_kind = "per structure" if kind == "per atom" else "per atom"
            raise DataError(
                f"{source}: key_mapping declares '{name}' as '{label}', but '{name}' is a value {actual_kind}",
                f"'{label}' is a value {kind}; the file has {kind}: {', '.join(available) or 'nothing'}",
            )
        hint = closest_hint(name, available, any_case=True)
        raise DataError(
            f"{source}: no frame has '{name}', which key_mapping declares as '{label}'",
            f"{hint}the file has per structure: {', '.join(graph) or 'nothing'}; "
            f"per atom: {', '.join(node) or 'nothing'}",
        )


def format_mapping_line(key_mapping: Mapping[str, str]) -> str:
    """What to type to declare names, in quotes for the shell: ``'data.key_mapping={dft_energy: total_energy}'``.

    Example:
        >>> print(format_mapping_line({"E0": "total_energy"}))
        'data.key_mapping={E0: total_energy}'
    """
    escaped = {re.sub(r"([\\()\[\]{}:=,])", r"\\\1", name): label for name, label in key_mapping.items()}
    entries = ", ".join(f"{name}: {label}" for name, label in escaped.items())
    return shlex.quote(f"data.key_mapping={{{entries}}}")


def label_of(name: str) -> str | None:
    """The label or weight that a name stands for, or was most likely meant for; None if it is neither.

    Example:
        >>> label_of("REF_forces"), label_of("dft-energy"), label_of("gradient"), label_of("temperature")
        ('forces', 'total_energy', 'forces', None)
    """
    return WELL_KNOWN.get(normalise_name(name)) or guess_label(name)


def normalise_name(name: str) -> str:
    """A name as it is compared: in small letters, with ``_`` for ``-``."""
    return name.lower().replace("-", "_")


def is_weight(name: str) -> bool:
    """Whether a name is that of a weight, a sigma or a mask."""
    return bool(WEIGHT.search(normalise_name(name)) or _UNCERTAINTY.search(normalise_name(name)))


@lru_cache(maxsize=1024)  # asked for each name of each frame
def guess_label(name: str) -> str | None:
    """The label that a name is most likely meant for."""
    simple = normalise_name(name)
    if simple == FREE_ENERGY or (is_weight(name) and simple not in WELL_KNOWN):
        return None
    if simple in WELL_KNOWN:
        return WELL_KNOWN[simple] if WELL_KNOWN[simple] in fields.LABELS else None
    for part, label in PARTS.items():
        if part in simple:
            return label
    close = difflib.get_close_matches(simple, WELL_KNOWN, n=1, cutoff=0.8)
    return WELL_KNOWN[close[0]] if close and WELL_KNOWN[close[0]] in fields.LABELS else None

"""Which names of a file are not read, but look like a label or a weight: notes for those who use names of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from nequip_like.data import fields
from nequip_like.data.labels.components import group_tensor_components
from nequip_like.data.labels.frame_units import is_unit_name
from nequip_like.data.labels.names import (
    PARTS,
    WEIGHT,
    WELL_KNOWN,
    WELL_KNOWN_PER_ATOM,
    FrameNames,
    format_mapping_line,
    guess_label,
    is_weight,
    normalise_name,
)
from nequip_like.data.labels.unit_checks import format_declaration
from nequip_like.data.labels.units_in_names import suggest_units

Kind = Literal["number", "vectors", "tensor", "row"]

# Labels as a file without usual names may have them: what they belong to, and the form of their values.
_FORMS: dict[str, tuple[str, Kind]] = {
    fields.TOTAL_ENERGY: ("graph", "number"),
    fields.FORCES: ("node", "vectors"),
    fields.STRESS: ("graph", "tensor"),
}
# Values of the same forms that are none of these labels.
_OTHER_VECTORS = {
    "momenta", "momentum", "velocity", "velocities", "velo", "vel", "v", "displacement", "displacements", "magmom",
    "magmoms", "initial_magmoms", "dipole", "dipoles", "pos", "positions", "scaled_positions", "initial_positions",
    "image", "images",
}  # fmt: skip
_OF_POSITIONS = re.compile(r"(?:^|_)(?:pos|positions?|coords?|coordinates?|frac|fractional)(?:_|$)")
_OTHER_NUMBERS = {
    "temperature", "temp", "t", "time", "pressure", "volume", "density", "charge", "spin", "multiplicity", "magmom",
    "mass", "fmax", "step", "dt", "lambda", "cutoff", "ecut", "encut", "smearing", "gap", "band_gap", "bandgap",
    "efermi", "fermi",
}  # fmt: skip
_OTHER_TENSORS = {
    "lattice", "cell", "box", "unit_cell", "unitcell", "lattice_vectors", "supercell", "polarizability",
    "polarisability", "quadrupole", "inertia", "dielectric", "dielectric_tensor",
}  # fmt: skip
_ENERGY = re.compile(r"(?:^|_)(?:e\d*|en|ene|eng|etot|epot|escf|edft|toten|energ\w*)(?:_|$)")

_GRADIENT = re.compile(r"gradient|(?:^|[^a-z])e?grads?(?:[^a-z]|$)")
_OF_MATTER = re.compile(r"(?:^|_)(?:atomic|molecular|molar|mol|formula|standard)_?w")
_LETTERS = {"e": fields.TOTAL_ENERGY, "f": fields.FORCES, "s": fields.STRESS, "v": fields.VIRIAL}
_TENSORS = (fields.STRESS, fields.VIRIAL)
_MOST = 6  # names in one note


def add_kinds(kinds: dict[str, Kind], graph: Mapping[str, Any], node: Mapping[str, Any]) -> None:
    """Note the form of each value of a frame under its name, where it is one that a label has.

    Args:
        kinds: Is added to. A name keeps the form that it had first.
        graph: What the frame holds per structure.
        node: What it holds per atom.
    """
    for name, value in node.items():
        if name not in kinds and np.ndim(value) == 2 and np.shape(value)[1] == 3 and _is_real(value):
            kinds[name] = "vectors"
    for name, value in graph.items():
        if name in kinds or isinstance(value, str | bool | int) or not _is_real(value):
            continue
        if np.ndim(value) == 0:
            kinds[name] = "number"
        elif np.ndim(value) == 1 and np.size(value) % 3 == 0 and guess_label(name) == fields.FORCES:
            kinds[name] = "row"
        elif np.shape(value) in ((6,), (9,), (3, 3)):
            kinds[name] = "tensor"


def _is_real(value: object) -> bool:
    return isinstance(value, float) or (isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f")


def find_unread_names(
    names: Sequence[FrameNames], label_names: Mapping[str, Sequence[str]], kinds: Mapping[str, Kind] | None = None
) -> list[str]:
    """Notes on names that look like a label which was found under no name, or like a weight.

    Where neither energies nor forces have a usual name, nothing can be told by names: then every value of the form of
    a label is named.

    Args:
        names: The names of each frame.
        label_names: ``{label: names}`` that were read.
        kinds: Form of the values of each name, as :func:`add_kinds` finds it.
    """
    named_labels = set(label_names)
    if named_labels & {fields.STRESS, fields.VIRIAL}:
        named_labels |= {fields.STRESS, fields.VIRIAL}
    available = {
        "graph": sorted(frozenset().union(*(frame.graph for frame in names))),
        "node": sorted(frozenset().union(*(frame.node for frame in names))),
    }
    read = {name for file_names in label_names.values() for name in file_names}
    guesses: dict[str, str] = {}
    misplaced: list[str] = []
    for owner, level, other_level in (("graph", "per structure", "per atom"), ("node", "per atom", "per structure")):
        for name in available[owner]:
            label = guess_label(name)
            if label is None or label in named_labels or name in read or is_unit_name(name):
                continue
            if fields.field(label).owner == owner:
                guesses[name] = label
            elif kinds and kinds.get(name) == "row":
                misplaced.append(f"'{name}' is not read: it is one row of numbers; write '{label}' of shape (atoms, 3)")
            else:
                misplaced.append(
                    f"'{name}' is not read: it is a value {level}, but the label '{label}' is one {other_level}"
                )
    if not {fields.TOTAL_ENERGY, fields.FORCES} <= named_labels:
        for name, label in _find_by_form(available, kinds or {}, named_labels | set(guesses.values()), read).items():
            guesses.setdefault(name, label)
    gradients = [
        name for name, label in guesses.items() if label == fields.FORCES and _GRADIENT.search(normalise_name(name))
    ]
    tensors = group_tensor_components(name for name, label in guesses.items() if label in _TENSORS)
    for name in (*gradients, *(name for group in tensors for name in group)):
        del guesses[name]
    return [
        *_describe_guesses(guesses),
        *_describe_gradients(gradients, label_names),
        *_describe_tensors(tensors),
        *misplaced,
        *_describe_weights(available, label_names),
    ]


def _find_by_form(
    available: Mapping[str, Sequence[str]], kinds: Mapping[str, Kind], named_labels: set[str], read: set[str]
) -> dict[str, str]:
    """Names whose values have the form of a label that has no name so far."""
    unrelated = {"number": _OTHER_NUMBERS, "vectors": _OTHER_VECTORS, "tensor": _OTHER_TENSORS}
    result: dict[str, str] = {}
    for label, (owner, kind) in _FORMS.items():
        if label in named_labels or (label == fields.STRESS and fields.VIRIAL in named_labels):
            continue
        candidates = [
            name
            for name in available[owner]
            if kinds.get(name) == kind
            and name not in read
            and normalise_name(name) not in unrelated[kind]
            and not (kind == "vectors" and _OF_POSITIONS.search(normalise_name(name)))
            and not is_weight(name)
        ]
        if label == fields.TOTAL_ENERGY:
            # Files hold many numbers; the one that is called e_something is enough.
            candidates = [name for name in candidates if _ENERGY.search(normalise_name(name))] or candidates
        result |= dict.fromkeys(candidates[:_MOST], label)
    return result


def _describe_guesses(guesses: Mapping[str, str]) -> list[str]:
    """One note for all names, with the line that declares them."""
    if not guesses:
        return []
    first: dict[str, str] = {}  # the first name for each label
    for name, label in guesses.items():
        first.setdefault(label, name)
    if fields.STRESS in first:
        first.pop(fields.VIRIAL, None)
    line = format_mapping_line({name: label for label, name in first.items()})
    if units := suggest_units(first):
        line += f" {format_declaration(units)}"
    if len(guesses) == 1:
        ((name, label),) = guesses.items()
        return [f"'{name}' is not read; if it is the label '{label}', write {line}"]
    names = ", ".join(f"'{name}' (as {label})" for name, label in guesses.items())
    return [f"not read, though they could be labels: {names}; if they are, write {line}"]


def _describe_gradients(names: Sequence[str], label_names: Mapping[str, Sequence[str]]) -> list[str]:
    """Notes on gradients of the energy, whose sign is the opposite of that of forces; no declaration turns it."""
    notes = [
        f"'{name}' is not read: if it is the gradient of the energy, write its negative into the file as 'forces'"
        for name in names
    ]
    for name in label_names.get(fields.FORCES, ()):
        if _GRADIENT.search(normalise_name(name)):
            notes.append(f"'{name}' is read as forces, as declared; if it is a gradient, its sign is the opposite one")
    return notes


def _describe_tensors(groups: Sequence[Sequence[str]]) -> list[str]:
    """Notes on stresses and virials whose components stand alone."""
    return [
        f"{', '.join(map(repr, group))} not read: components of a stress or virial are read as one value; write all "
        f'nine, {guess_label(group[0])}="xx xy xz yx yy yz zx zy zz"'
        for group in groups
    ]


def _describe_weights(available: Mapping[str, Sequence[str]], label_names: Mapping[str, Sequence[str]]) -> list[str]:
    """Notes on weights, sigmas and masks of other programs, which are passed over."""
    notes = []
    read = {name for file_names in label_names.values() for name in file_names}
    for owner, names in available.items():
        usual = WELL_KNOWN_PER_ATOM if owner == "node" else WELL_KNOWN  # not read where another name is declared
        for name in names:
            simple = normalise_name(name)
            if name in read or simple in usual or not is_weight(name) or _OF_MATTER.search(simple):
                continue
            field = _guess_weight(simple, owner)
            if WEIGHT.search(simple):
                line = format_mapping_line({name: field})
                notes.append(f"'{name}' is not read: all frames count alike; if it is a weight, write {line}")
            elif any(part in simple for part in PARTS):
                notes.append(
                    f"'{name}' is not read: all frames count alike; to weigh them by it, write '{field}' into the file "
                    "(for a sigma its inverse square, 0 to leave a label out)"
                )
    return notes


def _guess_weight(name: str, owner: str) -> str:
    """The weight that a name is most likely meant for."""
    if owner == "node":
        return fields.ATOM_WEIGHT
    letter = re.search(r"(?:^|_)([efsv])weights?(?:_|$)", name)
    label = _LETTERS[letter[1]] if letter else next((label for part, label in PARTS.items() if part in name), "")
    return fields.LABEL_WEIGHTS.get(label, fields.FRAME_WEIGHT)

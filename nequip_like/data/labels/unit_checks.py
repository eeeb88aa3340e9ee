"""Units that a file states of its labels, compared with those they are read in, and units that are declared by halves.

Where the declared units of a data set say something else than its file, one of both is wrong, and nothing is read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from nequip_like.data import fields
from nequip_like.data.labels.names import normalise_name
from nequip_like.data.labels.unit_expressions import normalise_unit, parse_unit
from nequip_like.data.labels.units import STRESS_SIGNS, Units
from nequip_like.errors import ConfigError, DataError

_QUANTITIES = {
    "eV": "energy",
    "Angstrom": "length",
    "eV/Angstrom": "energy by a length",
    "eV/Angstrom^3": "pressure",
}
_KEYS = {fields.TOTAL_ENERGY: "energy", fields.POSITIONS: "length"}  # what ``data.units`` calls them
_BY_ATOM = re.compile(r"(?:/|\bper)\s*atoms?\b|\batoms?\s*\^?-1", re.IGNORECASE)
# Systems of units by name: energy and length. Those of LAMMPS are in its manual, at the command "units".
STYLES = {
    "metal": ("eV", "Angstrom"),
    "real": ("kcal/mol", "Angstrom"),
    "electron": ("Hartree", "Bohr"),
    **dict.fromkeys(
        ("atomic", "au", "a.u.", "a. u.", "a.u", "atomic_unit", "atomic_units", "atomic unit", "atomic units"),
        ("Hartree", "Bohr"),
    ),
}
# Programs that write energies in these write forces and stress by Bohr, and positions in Angstrom as often as in Bohr.
OF_ATOMIC_UNITS = ("Hartree", "mHartree", "Ry", "mRy")


@dataclass(frozen=True)
class Stated:
    """One unit that a file states.

    Attributes:
        label: What it is of: a label, or ``pos``.
        name: What the file calls that.
        unit: The unit, as the file writes it.
        by: Who says so, as a message begins: ``its metadata say that``.
    """

    label: str
    name: str
    unit: str
    by: str

    @property
    def meaning(self) -> str:
        """The unit as it can be declared: of a system of units the one of the quantity, and kcal by mol.

        Example:
            >>> Stated("forces", "forces", "a.u.", "it says that").meaning
            'Hartree/Bohr'
        """
        if style := STYLES.get(normalise_name(self.unit).strip()):
            energy, length = style
            return fields.field(self.label).unit.replace("eV", energy).replace("Angstrom", length)
        if parse_unit_factor(self.unit) is not None and parse_unit(self.unit, self.label).amount == 1:
            return f"{normalise_unit(self.unit)}/mol"
        return self.unit


def parse_unit_factor(text: str) -> float | None:
    """What to multiply a value by to have it in eV and Angstrom; None for a unit that is not known.

    Example:
        >>> parse_unit_factor("meV/Ang")
        0.001
    """
    try:
        return parse_unit(text, "the file").factor
    except ConfigError:
        return None


def is_same_unit(text: object, other: object) -> bool:
    """Whether two texts state the same unit, or the same list of units, in whatever spelling.

    Example:
        >>> is_same_unit("eV, Ang", "ev, Angstrom"), is_same_unit("meV", "MeV")
        (True, False)
    """
    if text == other or not (isinstance(text, str) and isinstance(other, str)):
        return text == other
    if parse_unit_factor(text) is not None and parse_unit_factor(other) is not None:
        return parse_unit(text, "the file") == parse_unit(other, "the file")
    styles = [STYLES.get(normalise_name(one).strip()) for one in (text, other)]
    if styles[0] is not None:
        return styles[0] == styles[1]
    pieces, other_pieces = (re.split(r"[,;\s]+", one.strip()) for one in (text, other))
    return len(pieces) == len(other_pieces) > 1 and all(map(is_same_unit, pieces, other_pieces))


def list_declared_keys(declared: Units | Mapping[str, str] | None) -> frozenset[str]:
    """The keys of ``data.units`` that somebody wrote."""
    if isinstance(declared, Units):
        return frozenset(_list_declared(declared))
    return frozenset(declared or ())


def compare(
    stated: Sequence[Stated], units: Units, file: str, declared_keys: Collection[str] | None = frozenset()
) -> list[str]:
    """Compare the units that a file states with those that its labels are read in.

    Args:
        stated: What the file states.
        units: The declared units of the data set.
        file: Its name, for messages.
        declared_keys: What somebody declared of the units, see :func:`list_declared_keys`: it is believed where a
            stated unit is not understood. None where nothing can be declared.

    Returns:
        Notes on units that are stated and not understood, where another is declared.

    Raises:
        DataError: If a label or the positions would be read in another unit than the file states, or in one of which
            that cannot be told.
    """
    notes = []
    for statement in stated:
        subject = f"{file}: {statement.by} '{statement.name}' is in"
        factor = parse_unit_factor(statement.meaning)
        if factor is None and statement.label == fields.TOTAL_ENERGY and _BY_ATOM.search(statement.unit):
            raise DataError(
                f"{subject} {statement.unit}, but it is read as that of a structure",
                "multiply it by the number of atoms in the file, and repair what the file says",
            )
        is_declared = _is_declared(statement.label, declared_keys)
        if factor is None:
            problem = f"{subject} {statement.unit!r}, which is no unit that is known here"
            if not is_declared:
                raise DataError(problem, _explain_declaration(statement, declared_keys))
            notes.append(f"{problem}; it is read in {units}, as declared")
            continue
        ratio = _compute_size(units, statement.label) / factor
        agrees = abs(ratio - 1.0) <= 1e-4
        if quantity := _find_missed_quantity(statement.meaning, statement.label):
            if not agrees and not is_declared:
                raise DataError(
                    f"{subject} {statement.unit}, which is no {quantity}",
                    _explain_declaration(statement, declared_keys),
                )
            notes.append(f"{subject} {statement.unit}, which is no {quantity}; it is read in {units}")
        elif not agrees:
            raise DataError(
                f"{subject} {statement.unit}, but it is read in {units}, which is {ratio:.6g} times as much",
                _explain_remedy(stated, units),
            )
    return notes


def check_by_halves(
    units: Units,
    declared: Units | Mapping[str, str] | None,
    labels: Collection[str],
    stated: Collection[str],
    file: str,
) -> None:
    """Refuse energies in atomic units whose forces or stress are in a unit that nobody said.

    Positions in Angstrom beside energies in Hartree are usual, forces in Hartree/Angstrom are not: what programs
    print is in Hartree/Bohr, and read as the other it is 1.9 times too small.

    Args:
        units: Units of a data set.
        declared: What they were made from.
        labels: The labels that were read.
        stated: The labels whose units the file states itself, which are compared elsewhere.
        file: Its name, for the message.

    Raises:
        DataError: With the units to choose from.
    """
    energy = units.unit(fields.TOTAL_ENERGY) if fields.TOTAL_ENERGY in labels else units.energy
    with_length = units.length != Units().length or (isinstance(declared, Mapping) and "length" in declared)
    if energy not in OF_ATOMIC_UNITS or (with_length and units.energy == energy):
        return
    for label, power in ((fields.FORCES, ""), (fields.STRESS, "3")):
        if label in labels and label not in units.labels and label not in stated:
            usual = f"{energy}/Bohr{power}"
            line = format_declaration(_list_declared(units) | {label: usual})
            raise DataError(
                f"{file}: energies are in {energy}, but the unit of '{label}' is declared nowhere; it would be read in "
                f"{units.unit(label).replace('^', '')}",
                f"declare it: {line}, or {energy}/Angstrom{power} if it is that",
            )


def _compute_size(units: Units, label: str) -> float:
    """Size of the unit that a label is read in, in the package's own; without the sign of a stress."""
    return units.factor(label) * (STRESS_SIGNS[units.stress_sign] if label == fields.STRESS else 1.0)


def _find_missed_quantity(unit: str, label: str) -> str:
    """The quantity that a label is, where its stated unit measures another one; else empty. Moles are ignored."""
    field_unit = fields.field(label).unit
    if not field_unit:
        return ""
    stated_unit, expected_unit = parse_unit(unit, label), parse_unit(field_unit, label)
    agrees = (stated_unit.energy, stated_unit.length) == (expected_unit.energy, expected_unit.length)
    return "" if agrees else _QUANTITIES[field_unit]


def _explain_remedy(stated: Sequence[Stated], units: Units) -> str:
    """What to declare so that the units of the data set are those of the file."""
    entries = _list_declared(units)
    for statement in stated:
        key = _KEYS.get(statement.label, statement.label)
        entries.pop(key, None)
        if parse_unit_factor(statement.meaning) not in (None, 1.0):
            entries[key] = normalise_unit(statement.meaning)
    if not entries:
        return "leave out the units of this data set; without units: {...} a file is read in eV and Angstrom"
    return f"declare it: {format_declaration(entries)}; or repair what the file says"


def _is_declared(label: str, keys: Collection[str] | None) -> bool:
    """Whether the unit of a label is declared, by itself or by the energy and the length that it follows from."""
    if keys is None:
        return False
    unit = fields.field(label).unit
    parts = {key for key, part in (("energy", "eV"), ("length", "Angstrom")) if part in unit}
    return label in keys or parts <= set(keys)


def _explain_declaration(statement: Stated, keys: Collection[str] | None) -> str:
    """What to write where a stated unit is not understood."""
    key, unit = _KEYS.get(statement.label, statement.label), fields.field(statement.label).unit
    if keys is None:
        return f"convert it to {unit}, and repair what the file says"
    return f"declare the right one, such as {format_declaration({key: unit})}; or repair what the file says"


def _list_declared(units: Units) -> dict[str, str]:
    """Units as a configuration writes them, without those that need not be written."""
    entries = {"energy": units.energy, "length": units.length, "stress_sign": units.stress_sign}
    return {key: unit for key, unit in entries.items() if unit != getattr(Units(), key)} | dict(units.labels)


def format_declaration(entries: Mapping[str, str]) -> str:
    """What to type to declare units, in quotes for the shell; Hydra takes no ``^`` and no brackets without quotes."""
    spellings = {key: re.sub(r"\^|\*\*", "", unit) for key, unit in entries.items()}
    quoted = {key: unit if re.fullmatch(r"[\w/ -]+", unit) else f'"{unit}"' for key, unit in spellings.items()}
    return f"'data.units={{{', '.join(f'{key}: {unit}' for key, unit in quoted.items())}}}'"

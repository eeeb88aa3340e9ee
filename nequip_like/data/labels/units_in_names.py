"""Units within the names of labels: ``energy_Hartree``, ``forces_au``, ``stress_GPa``, ``forces_kcal_mol_A``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nequip_like.data import fields
from nequip_like.data.labels.unit_checks import OF_ATOMIC_UNITS, Stated, parse_unit_factor
from nequip_like.data.labels.unit_expressions import normalise_unit, parse_unit

_SEPARATOR = re.compile(r"[\s_.,:/()\[\]-]+")
_ATOMIC_UNITS = ("au", "a/u", "atomic/units")


def find_units_in_names(names_by_label: Mapping[str, str]) -> list[Stated]:
    """Units that the names of labels end with.

    Args:
        names_by_label: ``{label: name in the file}``.

    Example:
        >>> names = {"total_energy": "energy_kcal", "forces": "forces_eV_per_A", "stress": "stress"}
        >>> [(one.label, one.meaning) for one in find_units_in_names(names)]
        [('total_energy', 'kcal/mol'), ('forces', 'eV/A')]
    """
    units = ((label, name, _find_unit(label, name)) for label, name in names_by_label.items())
    return [Stated(label, name, unit, "its name says that") for label, name, unit in units if unit]


def suggest_units(names_by_label: Mapping[str, str]) -> dict[str, str]:
    """What to declare for names that end with a unit; an energy alone is completed to the usual unit of the label.

    Args:
        names_by_label: ``{label: name in the file}``.

    Example:
        >>> suggest_units({"total_energy": "energy_eV", "forces": "forces_kcal_mol", "stress": "stress_GPa"})
        {'forces': 'kcal/mol/Angstrom', 'stress': 'GPa'}
    """
    units = {}
    for stated in find_units_in_names(names_by_label):
        expected = parse_unit(fields.field(stated.label).unit, stated.label)
        if parse_unit_factor(stated.meaning) is None:  # an energy by atom, which no declaration makes right
            continue
        unit, power = stated.meaning, -expected.length
        if parse_unit(unit, stated.label).length == 0 and power:
            length = "Bohr" if normalise_unit(unit) in OF_ATOMIC_UNITS else "Angstrom"
            unit = f"{unit}/{length}" + (str(power) if power > 1 else "")
        if parse_unit_factor(unit) != 1.0:
            units[stated.label] = unit
    return units


def _find_unit(label: str, name: str) -> str:
    """The unit at the end of a name, if it measures what the label is, or an energy; else empty."""
    words = [word for word in _SEPARATOR.split(name) if word and word.lower() != "per"]
    for begin in range(1, len(words)):
        unit = "/".join(words[begin:])
        if unit.lower() in _ATOMIC_UNITS:
            return "au"
        of_structure = re.sub(r"/atoms?$", "", unit, flags=re.IGNORECASE)
        if _is_of(label, of_structure):
            return unit
    return ""


def _is_of(label: str, unit: str) -> bool:
    field_unit = fields.field(label).unit
    if not field_unit or parse_unit_factor(unit) is None or unit == "j":  # a letter that counts, such as energy_j
        return False
    measured, expected = parse_unit(unit, label), parse_unit(field_unit, label)
    return (measured.energy, measured.length) in ((expected.energy, expected.length), (1, 0))

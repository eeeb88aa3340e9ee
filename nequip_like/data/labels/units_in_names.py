"""Units within the names of labels: ``energy_Hartree``, ``forces_au``, ``stress_GPa``, ``forces_kcal_mol_A``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nequip_like.data import fields
from nequip_like.data.labels.unit_checks import Stated, parse_unit_factor
from nequip_like.data.labels.unit_expressions import parse_unit

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

"""Units that a file states itself, compared with those that it is read in.

A database's metadata and a LAMMPS dump may say their units; outputs of programs are brought to eV and Angstrom by
ASE's readers. Where the declared units of a data set say something else, one of both is wrong, and nothing is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ase.io.formats import open_with_compression

from nequip_like.data import fields
from nequip_like.data.io.databases import metadata_units
from nequip_like.data.io.formats import format_of
from nequip_like.data.labels.unit_expressions import unit_of
from nequip_like.data.labels.units import Units
from nequip_like.errors import ConfigError, DataError

_OF_LAMMPS = {  # units that the manual's page of the command "units" gives for energy and length
    "metal": ("eV", "Angstrom"),
    "real": ("kcal/mol", "Angstrom"),
    "electron": ("Hartree", "Bohr"),
}
_NOT_DECLARABLE = ("si", "cgs", "micro", "nano")  # their energies are J, erg, and others that are not known here
_ITEM_UNITS = re.compile(rb"^ITEM: UNITS\s*\n\s*(\S+)", re.MULTILINE)
_QUANTITIES = {
    "eV": "energy",
    "Angstrom": "length",
    "eV/Angstrom": "energy by a length",
    "eV/Angstrom^3": "pressure",
}
_DECLARED_BY_USER = ("extxyz", "traj")


def check_units(path: Path, chosen: Mapping[str, str], units: Units) -> list[str]:
    """Compare the units that a file states with those that its labels are read in.

    Args:
        path: The file.
        chosen: ``{label: name in the file}`` of what is read.
        units: The declared units of the data set.

    Returns:
        Notes on units that are stated and not known here.

    Raises:
        DataError: If a label or the positions would be read in another unit than the file states.
    """
    stated, source = _stated(path, chosen, units)
    notes = []
    for label, unit in stated.items():
        factor = unit_factor(unit)
        name = chosen.get(label, "positions")
        if factor is None:
            notes.append(f"{path}: {source} '{name}' is in {unit!r}, which is no unit that is known here")
            continue
        agrees = abs(units.factor(label) / factor - 1.0) <= 1e-4
        if quantity := _other_quantity(unit, label):
            if not agrees:
                raise DataError(
                    f"{path}: {source} '{name}' is in {unit}, which is no {quantity}", "repair what the file says"
                )
            notes.append(f"{path}: {source} '{name}' is in {unit}, which is no {quantity}; it is read in {units}")
        elif not agrees:
            raise DataError(
                f"{path}: {source} '{name}' is in {unit}, but it is read in {units}, which is "
                f"{units.factor(label) / factor:.6g} times as much",
                "make the units of this data set say the same; without units: {...} a file is read in eV and Angstrom",
            )
    return notes


def unit_factor(text: str) -> float | None:
    """What to multiply a value by to have it in eV and Angstrom; None for a unit that is not known.

    Example:
        >>> unit_factor("meV/Ang")
        0.001
    """
    try:
        return unit_of(text, "the file").factor
    except ConfigError:
        return None


def _other_quantity(unit: str, label: str) -> str:
    """What a label is and its stated unit does not measure; empty if it does. A mole more or less is no matter."""
    own = fields.field(label).unit
    if not own:
        return ""
    said, right = unit_of(unit, label), unit_of(own, label)
    return "" if (said.energy, said.length) == (right.energy, right.length) else _QUANTITIES[own]


def _stated(path: Path, chosen: Mapping[str, str], units: Units) -> tuple[dict[str, str], str]:
    """``{label or "pos": unit}`` that the file states, and who says so."""
    form = format_of(path)
    if form.name in _DECLARED_BY_USER:
        return {}, ""
    if form.name == "db":
        said = metadata_units(path)
        stated = {label: said[name] for label, name in chosen.items() if name in said}
        return stated | ({fields.POSITIONS: said["positions"]} if "positions" in said else {}), "its metadata say that"
    energy, length = "eV", "Angstrom"
    who = f"in {form.title},"
    if form.name == "lammps-dump-text":
        style = _style_of(path)
        if style not in _OF_LAMMPS:
            _check_style(style, path, units)
            return {}, ""
        (energy, length), who = _OF_LAMMPS[style], f"its 'ITEM: UNITS {style}' says that"
    of_unit = {"eV": energy, "eV/Angstrom": f"{energy}/{length}", "eV/Angstrom^3": f"{energy}/{length}^3"}
    labels = {label: of_unit[fields.field(label).unit] for label in chosen if fields.field(label).unit in of_unit}
    return labels | {fields.POSITIONS: length}, who


def _style_of(path: Path) -> str:
    """The style of units that a dump states, at its begin or where another dump was appended; empty if it does not."""
    with open_with_compression(str(path), "rb") as file:
        content = file.read().replace(b"\r\n", b"\n")
    styles = sorted({style.decode("ascii", "replace") for style in _ITEM_UNITS.findall(content)})
    if len(styles) > 1:
        raise DataError(f"{path} has frames in units {' and '.join(styles)}", "give the frames of each as one file")
    return styles[0] if styles else ""


def _check_style(style: str, path: Path, units: Units) -> None:
    """Refuse units whose energy and length cannot be told, unless others than eV and Angstrom are declared."""
    if not style:
        return
    what = f"{path}: its 'ITEM: UNITS {style}' is not eV and Angstrom"
    if style in _NOT_DECLARABLE:
        raise DataError(what, "convert the dump to the units metal, real or electron of LAMMPS")
    if (units.energy, units.length) == (Units().energy, Units().length):
        raise DataError(
            what, "declare what energies and lengths are in, units: {energy: ..., length: ...}, or convert the dump"
        )

"""Units that a file states itself: its frames, a database's metadata, a LAMMPS dump.

Outputs of programs are brought to eV and Angstrom by ASE's readers. All are compared with the declared units by
:mod:`nequip_like.data.labels.unit_checks`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase.io.formats import open_with_compression

from nequip_like.data import fields
from nequip_like.data.io.databases import collect_units, read_metadata
from nequip_like.data.io.formats import format_of
from nequip_like.data.io.sets.aselmdb import read_aselmdb_metadata
from nequip_like.data.labels.frame_units import collect_units_of_frames
from nequip_like.data.labels.unit_checks import STYLES, Stated
from nequip_like.data.labels.units import Units
from nequip_like.errors import DataError

_OF_LAMMPS = ("metal", "real", "electron")
_NOT_DECLARABLE = ("si", "cgs", "micro", "nano")  # their energies are J, erg, and others that are not known here
_ITEM_UNITS = re.compile(rb"^ITEM: UNITS\s*\n\s*(\S+)", re.MULTILINE)
_METADATA = {"db": read_metadata, "aselmdb": read_aselmdb_metadata}


def read_stated_units(
    path: Path, names_by_label: Mapping[str, str], units: Units, frames: Sequence[Mapping[str, Any]]
) -> list[Stated]:
    """Units that a file states of its labels and positions.

    Args:
        path: The file.
        names_by_label: ``{label: name in the file}`` of what is read.
        units: The declared units of the data set.
        frames: What each frame holds per structure.

    Raises:
        DataError: If frames state different units, or a dump's style has units that cannot be told.
    """
    form = format_of(path)
    if form.labels is None:
        stated = collect_units_of_frames(frames, names_by_label, str(path))
        if form.name == "npz":
            return stated + _derive_unit_of_forces(frames[0], stated, names_by_label, units)
        if form.name in _METADATA:
            return _read_units_of_metadata(path, _METADATA[form.name](path), names_by_label) + stated
        return stated
    energy, length = "eV", "Angstrom"
    by = f"in {form.title},"
    if form.name == "lammps-dump-text":
        style = _read_style(path)
        if style not in _OF_LAMMPS:
            _check_style(style, path, units)
            return []
        (energy, length), by = STYLES[style], f"its 'ITEM: UNITS {style}' says that"
    of_unit = {"eV": energy, "eV/Angstrom": f"{energy}/{length}", "eV/Angstrom^3": f"{energy}/{length}^3"}
    labels = {
        label: of_unit[fields.field(label).unit] for label in names_by_label if fields.field(label).unit in of_unit
    }
    labels[fields.POSITIONS] = length
    return [Stated(label, names_by_label.get(label, "positions"), unit, by) for label, unit in labels.items()]


def _read_units_of_metadata(path: Path, metadata: Mapping[str, Any], names_by_label: Mapping[str, str]) -> list[Stated]:
    by = "its metadata say that"
    declared = collect_units(metadata)
    stated = [Stated(label, name, declared[name], by) for label, name in names_by_label.items() if name in declared]
    return list(dict.fromkeys(stated + collect_units_of_frames([metadata], names_by_label, str(path), by)))


def _derive_unit_of_forces(
    frame: Mapping[str, Any], stated: Sequence[Stated], names_by_label: Mapping[str, str], units: Units
) -> list[Stated]:
    """The unit of forces, of which sGDML states only the two parts, also where a file has no energies."""
    energy, length = (frame.get(name) for name in ("e_unit", "r_unit"))
    if energy is None or fields.FORCES not in names_by_label or fields.FORCES in {unit.label for unit in stated}:
        return []
    whole = Stated(fields.TOTAL_ENERGY, "", str(energy), "").meaning
    part = Stated(fields.POSITIONS, "", str(length or units.length), "").meaning
    by = "its 'e_unit' and 'r_unit' say that" if length else "its 'e_unit' says that"
    return [Stated(fields.FORCES, names_by_label[fields.FORCES], f"{whole}/{part}", by)]


def _read_style(path: Path) -> str:
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
    problem = f"{path}: its 'ITEM: UNITS {style}' is not eV and Angstrom"
    if style in _NOT_DECLARABLE:
        raise DataError(problem, "convert the dump to the units metal, real or electron of LAMMPS")
    if (units.energy, units.length) == (Units().energy, Units().length):
        raise DataError(
            problem, "declare what energies and lengths are in, units: {energy: ..., length: ...}, or convert the dump"
        )

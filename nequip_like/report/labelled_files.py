"""Labelled frames as files that this package, and ASE, read back: extended XYZ, ASE trajectories and databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import has_label
from nequip_like.data.io.annotations import Annotations
from nequip_like.data.io.reading import Reading
from nequip_like.data.labels.names import WELL_KNOWN, normalise_name
from nequip_like.errors import DataError, OutputError
from nequip_like.report.comment_line import format_annotations
from nequip_like.report.extxyz_frame import ASE_NAMES, format_frame, format_key, format_numbers
from nequip_like.whole_files import path_of, written_whole

TEXT, BINARY = (".xyz", ".extxyz"), (".traj", ".db")
_OWN = {*ASE_NAMES.values(), *fields.WEIGHTS}


def check_new_file(path: str | Path) -> Path:
    """The path of a file that can be written by :func:`write_labelled`.

    Args:
        path: As it was given.

    Raises:
        OutputError: If it is there already, or its suffix is of no format that is written.
    """
    target = path_of(path)
    if target.suffix.lower() not in (*TEXT, *BINARY):
        raise OutputError(
            f"{target}: the format of a file follows from its suffix", f"give {', '.join((*TEXT, *BINARY))}"
        )
    if target.exists():
        raise OutputError(f"{target} is there already", "give another name")
    return target


def write_labelled(reading: Reading, path: str | Path) -> list[str]:
    """Write frames with their labels, in eV and Angstrom, under names that need no declaration.

    These are ASE's: ``energy``, ``energies``, ``forces`` (of all atoms, whatever was held fixed) and ``stress``
    (tension positive). Extended XYZ has numbers with all their digits, weights under their names in the table of
    fields, and what the frames hold beside their labels.

    Args:
        reading: The frames.
        path: A new file; its suffix tells the format.

    Returns:
        Names of what the format cannot hold, or what would be taken for a second label; it is left out.

    Raises:
        DataError: If frames have weights, which only extended XYZ keeps.
        OutputError: If the file cannot be written.
    """
    target = check_new_file(path)
    left_out: set[str] = set()
    if target.suffix.lower() in TEXT:
        with written_whole(target) as partial, partial.open("w", encoding="utf-8") as file:
            file.writelines(_format_frames(reading, left_out))
        return sorted(left_out)
    if weights := [name for name in fields.WEIGHTS if name in reading.frames[0]]:
        raise DataError(f"the frames have weights ({weights[0]}), which {target.suffix} does not keep", "write .extxyz")
    for remarks in reading.annotations:
        kept = _keep_remarks(remarks, reading, left_out)
        left_out.update(map(str, (*kept.info, *kept.arrays)))
    with written_whole(target) as partial:
        ase.io.write(str(partial), [build_labelled_atoms(frame) for frame in reading.frames])
    return sorted(left_out)


def _format_frames(reading: Reading, left_out: set[str]) -> Iterator[str]:
    for frame, remarks in zip(reading.frames, reading.annotations, strict=True):
        kept = _keep_remarks(remarks, reading, left_out)
        info, columns, lost = format_annotations(kept, _OWN, len(frame[fields.POSITIONS]))
        left_out.update(lost)
        info = {format_key(name): text for name, text in info.items()}
        for label, name in {**ASE_NAMES, **{weight: weight for weight in fields.WEIGHTS}}.items():
            if not has_label(frame, label):
                continue
            if fields.field(label).owner == "node":
                columns[name] = frame[label].reshape(len(frame[label]), -1).numpy()
            else:
                info[name] = format_numbers(frame[label])
        yield format_frame(frame, columns, info)


def _keep_remarks(remarks: Annotations, reading: Reading, left_out: set[str]) -> Annotations:
    """What is neither a label nor would be read as one."""
    read = {part for names in reading.label_names.values() for name in names for part in (name, *name.split())}
    taken = {
        name for name in (*remarks.info, *remarks.arrays) if name in read or normalise_name(str(name)) in WELL_KNOWN
    }
    left_out |= {str(name) for name in taken - read}
    return Annotations(
        {name: value for name, value in remarks.info.items() if name not in taken},
        {name: value for name, value in remarks.arrays.items() if name not in taken},
    )


def build_labelled_atoms(frame: Graph) -> Atoms:
    """A structure with its labels as results of a calculator.

    Args:
        frame: The structure.
    """
    atoms = Atoms(
        numbers=frame[fields.ATOMIC_NUMBERS].numpy(),
        positions=frame[fields.POSITIONS].numpy(),
        cell=frame[fields.CELL][0].numpy(),
        pbc=frame[fields.PBC][0].numpy(),
    )
    values: dict[str, Any] = {
        name: frame[label].numpy() for label, name in ASE_NAMES.items() if has_label(frame, label)
    }
    if "energy" in values:
        values["energy"] = float(values["energy"][0, 0])
    if "energies" in values:
        values["energies"] = values["energies"][:, 0]
    if "stress" in values:
        values["stress"] = values["stress"][0].flat[[0, 4, 8, 5, 2, 1]]  # ASE's order: xx, yy, zz, yz, xz, xy
    if values:
        atoms.calc = SinglePointCalculator(atoms, **values)
    return atoms

"""aenet's tables of energies, ``energies.train.0`` and ``energies.test.0``: reference beside prediction."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nequip_like.data import fields
from nequip_like.errors import DataError
from nequip_like.inference.evaluation import Evaluation
from nequip_like.model.families import list_members
from nequip_like.model.potential import Potential
from nequip_like.whole_files import output_errors, path_of, written_whole

_COLUMNS = ("Ref(eV)", "ANN(eV)", "#atoms", "Ref(eV/atom)", "ANN(eV/atom)", "Ref-ANN(eV/atom)", "Cost-Func")
_NUMBERS = len(_COLUMNS)
_FRAME = re.compile(r" frame (\d+)$")  # of an origin; aenet-python writes it so


@dataclass(frozen=True)
class EnergyRow:
    """One structure.

    Attributes:
        reference: Its energy in the data, eV.
        predicted: Its energy by the potential, eV.
        species: Chemical symbols of its atoms.
        path: File that it comes from.
    """

    reference: float
    predicted: float
    species: Sequence[str]
    path: str

    @property
    def difference(self) -> float:
        """Reference less prediction, eV/atom."""
        return (self.reference - self.predicted) / len(self.species)


def write_energies(
    rows: Sequence[EnergyRow], path: str | Path, type_names: Sequence[str], energy_scaling: float = 1.0
) -> None:
    """Write a table.

    Args:
        rows: The structures; one without a path is called ``structure_000007`` by its place.
        path: The file; one that is there is replaced.
        type_names: Species that are counted, a column for each.
        energy_scaling: What differences are multiplied by in the column ``Cost-Func``: the potential's ``E_scaling``.

    Raises:
        OutputError: If it cannot be written.
    """
    lines = ["#" + " ".join([*_COLUMNS, *(f"#{name}" for name in type_names), "Path-of-input-file"])]
    for place, row in enumerate(rows):
        atoms, counts = len(row.species), Counter(row.species)
        energies = f"{row.reference:14.6E} {row.predicted:14.6E}"
        per_atom = (row.reference / atoms, row.predicted / atoms, row.difference, row.difference * energy_scaling)
        lines.append(
            " ".join(
                [
                    energies,
                    f"{atoms:6d}",
                    *(f"{value:14.6E}" for value in per_atom),
                    *(f"{counts[name]:6d}" for name in type_names),
                    row.path or f"structure_{place:06d}",
                ]
            )
        )
    target = path_of(path)
    with output_errors(target), written_whole(target) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def write_energy_tables(
    evaluations: Mapping[str, Evaluation], folder: str | Path, energy_scaling: float = 1.0
) -> list[Path]:
    """Write ``energies.NAME.0`` for each data set that a potential was tested on, of the frames that have an energy.

    Args:
        evaluations: The evaluation of each data set, by name: what ``nl.test`` gives.
        folder: Where to write; made if it is not there. Files of the same names are replaced.
        energy_scaling: As for :func:`write_energies`.

    Returns:
        The files.

    Raises:
        DataError: If a data set has no energies.
        OutputError: If a file cannot be written.
    """
    files = []
    for name, evaluation in evaluations.items():
        dataset, rows = evaluation.dataset, []
        for i, (frame, prediction) in enumerate(zip(dataset.frames, evaluation.predictions, strict=True)):
            if fields.TOTAL_ENERGY in frame and not bool(frame[fields.TOTAL_ENERGY].isnan()):
                species = [dataset.type_names[number] for number in frame[fields.ATOM_TYPES].tolist()]
                reference, predicted = (float(graph[fields.TOTAL_ENERGY]) for graph in (frame, prediction))
                rows.append(EnergyRow(reference, predicted, species, _FRAME.sub(r"#frame=\1", dataset.origin(i))))
        if not rows:
            raise DataError(f"data set '{name}' has no energies", "leave it out, or the tables of energies")
        files.append(path_of(folder) / f"energies.{name}.0")
        write_energies(rows, files[-1], dataset.type_names, energy_scaling)
    return files


def find_energy_scaling(potential: Potential) -> float:
    """``E_scaling`` of a potential, by which aenet multiplies differences in its tables; 1 of other families."""
    return float(list_members(potential.config)[0].get("arguments", {}).get("E_scaling") or 1.0)


def read_energies(path: str | Path) -> list[EnergyRow]:
    """Read a table; energies have the seven digits that it holds.

    Args:
        path: The file.

    Raises:
        DataError: If it cannot be read, or a line has too few columns or a word where a number belongs.
    """
    file = path_of(path)
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}", "give a file energies.train.0 of aenet") from error
    lines = [line for line in text.splitlines() if line.strip()]
    names = lines[0].lstrip("# ").split()[_NUMBERS:-1] if lines else []
    names = [name.lstrip("#") for name in names]
    rows = []
    for number, line in enumerate(lines[1:], 2):
        words = line.split(maxsplit=_NUMBERS + len(names))
        try:
            reference, predicted = float(words[0]), float(words[1])
            counts = [int(word) for word in words[_NUMBERS : _NUMBERS + len(names)]]
            path_in_file = words[_NUMBERS + len(names)]
        except (IndexError, ValueError) as error:
            raise DataError(f"{file}, line {number}: {error}", "give a file energies.train.0 of aenet") from None
        species = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
        rows.append(EnergyRow(reference, predicted, species, path_in_file))
    return rows

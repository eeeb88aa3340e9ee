"""What a report shows of a test set: labels beside predictions, of an evaluation or of the file that it wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.data import atomic_numbers
from ase.stress import voigt_6_to_full_3x3_stress

from nequip_like.data import fields
from nequip_like.data.graph import volumes
from nequip_like.errors import DataError, first_line
from nequip_like.inference.evaluation import WORST_FRAMES, Evaluation
from nequip_like.report.files import PREDICTED
from nequip_like.report.units import GPA

_EDGES = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, np.inf)  # of the sizes of forces, eV/Angstrom
_FRAME = " frame "  # between file and index in the origin of a frame


class Pair(NamedTuple):
    """Labels and predictions of one quantity, of the same shape; NaN where there is none.

    Attributes:
        labels: Labels.
        predictions: Predictions.
    """

    labels: np.ndarray
    predictions: np.ndarray

    def select(self) -> Pair:
        """Components that have both, in one dimension."""
        both = ~(np.isnan(self.labels) | np.isnan(self.predictions))
        return Pair(self.labels[both], self.predictions[both])


@dataclass(frozen=True)
class BadFrame:
    """A frame and its errors; NaN where there is no label.

    Attributes:
        index: Position in the data set.
        file: Where it comes from.
        position: Position in that file, as text; empty if it is not known.
        energy: Error of the energy per atom, with its sign, eV.
        forces: Root mean square over the frame, eV/Angstrom.
        largest_force: Largest error of the force on an atom, eV/Angstrom.
        stress: Root mean square of the stress, GPa.
    """

    index: int
    file: str
    position: str
    energy: float
    forces: float
    largest_force: float
    stress: float


@dataclass(frozen=True)
class ForceRange:
    """Errors of the forces on atoms on which forces of some size act.

    Attributes:
        low: Smallest force, eV/Angstrom.
        high: Where the next range begins, eV/Angstrom.
        atoms: Number of atoms.
        mae: Mean absolute error of components, eV/Angstrom.
        rmse: Root mean square error of components, eV/Angstrom.
        rms: Root mean square of the labels' components, eV/Angstrom.
    """

    low: float
    high: float
    atoms: int
    mae: float
    rmse: float
    rms: float


@dataclass(frozen=True)
class ComparedSet:
    """Labels and predictions of a data set.

    Attributes:
        name: Its name.
        origins: File and frame that each frame comes from.
        symbols: Chemical symbol of each atom, of all frames.
        frame_of_atom: Number of the frame of each atom.
        energies: Per atom, eV, (frames,).
        forces: eV/Angstrom, (atoms, 3).
        stress: GPa, (frames, 3, 3); of frames without a cell NaN.
    """

    name: str
    origins: Sequence[str]
    symbols: np.ndarray
    frame_of_atom: np.ndarray
    energies: Pair
    forces: Pair
    stress: Pair

    @property
    def species(self) -> list[str]:
        """Chemical symbols that are there, by atomic number."""
        return sorted(set(self.symbols.tolist()), key=lambda symbol: atomic_numbers[symbol])

    def select_forces(self) -> dict[str, Pair]:
        """Components of the forces on each species, eV/Angstrom; without those that have no label."""
        pairs = {
            symbol: Pair(*(values[self.symbols == symbol] for values in self.forces)).select()
            for symbol in self.species
        }
        return {symbol: pair for symbol, pair in pairs.items() if len(pair.labels)}

    def list_force_ranges(self) -> list[ForceRange]:
        """Errors by the size of the labelled force on an atom; ranges without atoms are left out."""
        complete = ~(np.isnan(self.forces.labels) | np.isnan(self.forces.predictions)).any(axis=1)
        labels, predictions = self.forces.labels[complete], self.forces.predictions[complete]
        sizes, errors = np.linalg.norm(labels, axis=1), predictions - labels
        ranges = []
        for low, high in pairwise(_EDGES):
            inside = (sizes >= low) & (sizes < high)
            if inside.any():
                mae, rmse = float(np.abs(errors[inside]).mean()), _root_mean_square(errors[inside])
                ranges.append(ForceRange(low, high, int(inside.sum()), mae, rmse, _root_mean_square(labels[inside])))
        return ranges

    def list_worst(self, most: int = WORST_FRAMES) -> list[BadFrame]:
        """The frames with the largest errors, worst first: of the forces, or without those of the energy or stress.

        Args:
            most: How many.
        """
        energy = self.energies.predictions - self.energies.labels
        by_frame = _split(self.forces.predictions - self.forces.labels, self.frame_of_atom, len(self.origins))
        stress = self.stress.predictions - self.stress.labels
        frames = []
        for i, (origin, errors) in enumerate(zip(self.origins, by_frame, strict=True)):
            file, separator, position = origin.rpartition(_FRAME)
            sizes = np.linalg.norm(errors, axis=1)
            frames.append(
                BadFrame(
                    i,
                    file if separator else origin,
                    position if separator else "",
                    float(energy[i]),
                    _root_mean_square(errors),
                    float(np.nanmax(sizes)) if not np.isnan(sizes).all() else np.nan,
                    _root_mean_square(stress[i]),
                )
            )
        for quantity in ("forces", "energy", "stress"):
            sized = [frame for frame in frames if not np.isnan(getattr(frame, quantity))]
            if sized:
                return sorted(sized, key=lambda frame: -abs(getattr(frame, quantity)))[:most]
        return []


def compare_evaluation(name: str, evaluation: Evaluation) -> ComparedSet:
    """What a report shows of an evaluation.

    Args:
        name: Name of the data set.
        evaluation: The evaluation.
    """
    dataset = evaluation.dataset
    frames = list(zip(dataset.frames, evaluation.predictions, strict=True))
    counts = [len(frame[fields.POSITIONS]) for frame, _ in frames]
    types = np.concatenate([frame[fields.ATOM_TYPES].numpy() for frame, _ in frames])

    def join(label: str, shape: tuple[int, ...]) -> Pair:
        rows = counts if label == fields.FORCES else [1] * len(frames)
        return Pair(
            *(
                np.concatenate(
                    [
                        graph[label].double().numpy().reshape(-1, *shape)
                        if label in graph
                        else np.full((number, *shape), np.nan)
                        for graph, number in zip(graphs, rows, strict=True)
                    ]
                )
                for graphs in zip(*frames, strict=True)
            )
        )

    atoms = np.array(counts, dtype=float)
    energies = join(fields.TOTAL_ENERGY, ())
    has_cell = np.array([bool((volumes(frame) > 0).all()) for frame, _ in frames])
    stress = Pair(*(np.where(has_cell[:, None, None], x, np.nan) * GPA for x in join(fields.STRESS, (3, 3))))
    return ComparedSet(
        name,
        [dataset.origin(i) for i in range(len(frames))],
        np.array(dataset.type_names)[types],
        np.repeat(np.arange(len(frames)), counts),
        Pair(energies.labels / atoms, energies.predictions / atoms),
        join(fields.FORCES, (3,)),
        stress,
    )


def read_compared_sets(path: Path) -> list[ComparedSet]:
    """Read ``predictions.extxyz`` as a test wrote it.

    Args:
        path: The file.

    Returns:
        Its data sets, in order; what :func:`compare_evaluation` made of the evaluation.

    Raises:
        DataError: If it is no such file.
    """
    import ase.io  # here: it takes its time, and the end of a training has no use for it

    by_name: dict[str, list[Any]] = {}
    try:
        for atoms in ase.io.iread(path, index=":", format="extxyz"):
            by_name.setdefault(str(atoms.info["data_set"]), []).append(atoms)
    except (OSError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise DataError(
            f"cannot read {path} as the predictions of a test: {first_line(error)}",
            "test the model again: nequip-test RUN DATA, or take the file away",
        ) from error
    return [_compare_atoms(name, frames) for name, frames in by_name.items()]


def _compare_atoms(name: str, frames: Sequence[Any]) -> ComparedSet:
    counts = np.array([len(atoms) for atoms in frames])
    labels = [{} if atoms.calc is None else atoms.calc.results for atoms in frames]
    has_cell = [abs(atoms.cell.volume) > 0 for atoms in frames]

    def number(value: Any) -> float:
        return np.nan if value is None else float(value)

    def tensor(value: Any, has_volume: bool) -> np.ndarray:
        if value is None or not has_volume:
            return np.full((3, 3), np.nan)
        value = np.asarray(value, dtype=float)
        return voigt_6_to_full_3x3_stress(value) if value.size == 6 else value.reshape(3, 3)

    def join(rows: Iterable[np.ndarray | None]) -> np.ndarray:
        rows_and_counts = zip(rows, counts.tolist(), strict=True)
        return np.concatenate([np.full((count, 3), np.nan) if row is None else row for row, count in rows_and_counts])

    infos = [atoms.info for atoms in frames]
    return ComparedSet(
        name,
        [str(info["origin"]) for info in infos],
        np.array([symbol for atoms in frames for symbol in atoms.get_chemical_symbols()]),
        np.repeat(np.arange(len(frames)), counts),
        Pair(
            np.array([number(values.get("energy")) for values in labels]) / counts,
            np.array([number(info.get(f"{PREDICTED}energy")) for info in infos]) / counts,
        ),
        Pair(
            join(values.get("forces") for values in labels),
            join(atoms.arrays.get(f"{PREDICTED}forces") for atoms in frames),
        ),
        Pair(
            *(
                np.array([tensor(value, has_volume) for value, has_volume in zip(column, has_cell, strict=True)]) * GPA
                for column in (
                    [values.get("stress") for values in labels],
                    [info.get(f"{PREDICTED}stress") for info in infos],
                )
            )
        ),
    )


def _split(rows: np.ndarray, frame_of_row: np.ndarray, frames: int) -> Iterator[np.ndarray]:
    yield from np.split(rows, np.searchsorted(frame_of_row, np.arange(1, frames)))


def _root_mean_square(values: np.ndarray) -> float:
    """Over all that is no NaN; NaN if nothing is."""
    present = values[~np.isnan(values)]
    return float(np.sqrt(np.square(present).mean())) if present.size else float("nan")

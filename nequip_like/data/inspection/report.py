"""A look at a data set before training: what is in it, and what looks wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.checks.findings import Subject, keep_sentences
from nequip_like.data.inspection.checks.repeats import find_repeats
from nequip_like.data.inspection.checks.table import warn_of
from nequip_like.data.prepared.sets import get_prepared
from nequip_like.data.tables.frame_table import LARGE_NUMBERS
from nequip_like.summaries import Summarized


@dataclass(repr=False)
class Inspection(Summarized):
    """Facts about one data set. Ranges are (smallest, largest); None where there is nothing to measure.

    Attributes:
        name: Name of the data set.
        frames: Number of frames.
        atoms: Number of atoms per frame, range.
        species: ``{symbol: number of atoms}``.
        labels: ``{label: number of frames that have it}``.
        read_from: Names of the labels in the files.
        units: Units as read, and the factors from them, a line for each label if not all are eV and Angstrom.
        energy_per_atom: eV/atom, range.
        largest_force: Largest force on an atom, eV/Angstrom.
        forces_rms: Root mean square of force components, eV/Angstrom.
        neighbors: Neighbours per atom: smallest, mean, largest.
        shortest_distance: Angstrom.
        periodic: Number of frames that are periodic in at least one direction.
        volume: Of periodic frames, Angstrom^3, range.
        duplicates: Number of frames that repeat an earlier one.
        weights: Whether frames or atoms carry weights.
        repaired: How many frames a file of repairs left out or changed; empty without one.
        warnings: What looks wrong, one sentence each.
    """

    name: str
    frames: int
    atoms: tuple[int, int]
    species: dict[str, int]
    labels: dict[str, int]
    read_from: str
    units: str
    energy_per_atom: tuple[float, float] | None
    largest_force: float | None
    forces_rms: float | None
    neighbors: tuple[int, float, int]
    shortest_distance: float | None
    periodic: int
    volume: tuple[float, float] | None
    duplicates: int
    weights: bool
    repaired: str = ""
    warnings: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """What is printed of it, with the number of warnings."""
        return {"name": self.name, **dict(self.rows()), "warnings": len(self.warnings)}

    def rows(self) -> list[tuple[str, str]]:
        """The facts as text: name and value."""
        low, mean, high = self.neighbors
        return [
            ("frames", str(self.frames)),
            ("atoms per frame", _format_range(self.atoms, "d")),
            ("species (atoms)", ", ".join(f"{symbol} {count}" for symbol, count in self.species.items())),
            ("labels", labels_text(self.labels, self.frames)),
            ("read from", self.read_from or "-"),
            ("units as read", self.units),
            ("energy, eV/atom", _format_range(self.energy_per_atom, ".4f")),
            ("largest force, eV/Å", "-" if self.largest_force is None else f"{self.largest_force:.3f}"),
            ("forces rms, eV/Å", "-" if self.forces_rms is None else f"{self.forces_rms:.4f}"),
            ("neighbours per atom", f"{low} to {high}, mean {mean:.1f}"),
            ("shortest distance, Å", "-" if self.shortest_distance is None else f"{self.shortest_distance:.3f}"),
            ("periodic", {0: "no", self.frames: "yes"}.get(self.periodic, f"{self.periodic} of {self.frames}")),
            ("volume, Å³", _format_range(self.volume, ".1f")),
            ("duplicates", str(self.duplicates)),
            ("weights", "yes" if self.weights else "no"),
            *([("repaired", self.repaired)] if self.repaired else []),
        ]

    def table(self) -> Table:
        """The facts as a table for the terminal."""
        return inspection_table([self])


def labels_text(labels: Mapping[str, int], frames: int) -> str:
    """Labels of a data set of ``frames`` frames, with the number of frames that have them where not all do.

    Example:
        >>> labels_text({"total_energy": 10, "forces": 7}, 10)
        'total_energy, forces (7 of 10)'
    """
    entries = [label if count == frames else f"{label} ({count} of {frames})" for label, count in labels.items()]
    return ", ".join(entries) or "none"


def inspection_table(inspections: Sequence[Inspection]) -> Table:
    """One table with a column per data set."""
    table = Table(title="data")
    table.add_column("")
    for inspection in inspections:
        table.add_column(escape(inspection.name), justify="right")
    columns = [dict(inspection.rows()) for inspection in inspections]
    for name in max(columns, key=len, default={}):
        table.add_row(name, *(escape(column.get(name, "-")) for column in columns))
    return table


def inspect(dataset: GraphDataset) -> Inspection:
    """Look at a data set: facts, and the warnings of a training.

    Frames of a prepared set were looked at when it was prepared; what was found is among the notes on it.
    """
    subject = Subject(dataset)
    if get_prepared(dataset.frames) is None:
        warnings = warn_of(subject)
    else:
        warnings = [*dataset.notes, *keep_sentences(find_repeats(subject))]
    return replace(measure_facts(subject), warnings=warnings)


@LARGE_NUMBERS
def measure_facts(subject: Subject) -> Inspection:
    """Look at a data set: facts alone."""
    dataset, table = subject.dataset, subject.dataset.table
    atoms, neighbors = table.atoms, table.neighbors
    with_forces = fields.FORCES in dataset.labels
    per_atom = (table.energy / atoms)[table.find_labelled(fields.TOTAL_ENERGY)]
    shortest = float(table.shortest.min())
    periodic = table.periodic > 0
    return Inspection(
        name=dataset.name,
        frames=len(table),
        atoms=(int(atoms.min()), int(atoms.max())),
        species=table.count_species(),
        labels=dict(dataset.labels),
        read_from=", ".join(dataset.read_from.values()),
        units="\n".join(dataset.units.lines(dataset.read_from or dataset.labels)),
        energy_per_atom=_find_limits(per_atom),
        largest_force=float(table.largest_force.max()) if with_forces else None,
        forces_rms=float(table.force_squares.sum() / table.force_counts.sum()) ** 0.5 if with_forces else None,
        neighbors=(
            int(table.fewest_neighbors.min()),
            float(neighbors.sum() / atoms.sum()),
            int(table.most_neighbors.max()),
        ),
        shortest_distance=shortest if shortest < np.inf else None,
        periodic=int(periodic.sum()),
        volume=_find_limits(table.volume[periodic]),
        duplicates=len(subject.repeated),
        weights=any(table.find_labelled(name).any() for name in fields.WEIGHTS),
        repaired=dataset.repaired,
    )


def _find_limits(values: np.ndarray) -> tuple[float, float] | None:
    return (float(values.min()), float(values.max())) if len(values) else None


def _format_range(limits: tuple[float, float] | None, form: str) -> str:
    if limits is None:
        return "-"
    low, high = (format(limit, form) for limit in limits)
    return low if low == high else f"{low} to {high}"

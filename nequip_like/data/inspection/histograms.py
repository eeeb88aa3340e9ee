"""How values of a data set are distributed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from nequip_like.data.inspection.checks.findings import Subject

_BINS = 40
_BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Histogram:
    """Numbers of values between edges.

    Attributes:
        name: Of what.
        unit: Its unit; empty for a number.
        edges: Of the bins (bins + 1,).
        counts: Values in each bin (bins,).
    """

    name: str
    unit: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    def draw_bars(self) -> str:
        """The bins as a line of bars; any value at all has the lowest one.

        Example:
            >>> print(Histogram("x", "", (0.0, 1.0, 2.0, 3.0), (8, 0, 1)).draw_bars() + "|")
            █ ▁|
        """
        most = max(self.counts)
        return "".join(_BARS[-(-count * (len(_BARS) - 1) // most)] for count in self.counts)


def collect_histograms(subject: Subject) -> list[Histogram]:
    """Histograms of what the data set has: energies, forces, distances, neighbours, stress."""
    return [_count(name, unit, values) for name, unit, values in _list_values(subject) if len(values)]


def _list_values(subject: Subject) -> Iterator[tuple[str, str, torch.Tensor]]:
    facts = subject.facts
    if subject.references is not None:
        residuals = subject.references.residuals
        yield "energy without that of the species", "eV/atom", residuals[~residuals.isnan()]
    yield "force on an atom", "eV/Å", facts.force[~facts.force.isnan()]
    yield "nearest neighbour over bond length", "", facts.bond_ratio[facts.bond_ratio.isfinite()]
    yield "neighbours of an atom", "", facts.neighbors.double()
    yield "largest stress", "eV/Å³", facts.stress[~facts.stress.isnan()]


def _count(name: str, unit: str, values: torch.Tensor) -> Histogram:
    array = values.numpy()
    width = int(array.max() - array.min()) + 1
    if (array == array.round()).all() and width <= 2 * _BINS:
        bins: int | np.ndarray = np.arange(array.min() - 0.5, array.max() + 1)  # a bin for each number
    else:
        bins = _BINS
    counts, edges = np.histogram(array, bins=bins)
    return Histogram(name, unit, tuple(edges.tolist()), tuple(counts.tolist()))

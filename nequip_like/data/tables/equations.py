"""Linear equations of the compositions of frames, from which energies of species are found by least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers as number_of

from nequip_like.data import fields
from nequip_like.data.tables.frame_table import LARGE_NUMBERS, FrameTable

_BLOCK = 100_000  # equations that are held at once
_SMALLEST_DIRECTION = 1e-6  # singular value; below it, the compositions say nothing of a direction


@dataclass(frozen=True)
class Equations:
    """Fractions of the species times their energies are the energy per atom: for each frame, or in fewer equations.

    Fewer ones have the same solution, and the same sum of squares that is left.

    Attributes:
        composition: Left sides (equations, species).
        energies: Right sides (equations,).
        frames: Number of frames that they are of.
        counts: In how many of these each species occurs (species,).
    """

    composition: np.ndarray
    energies: np.ndarray
    frames: int
    counts: np.ndarray

    @LARGE_NUMBERS
    def compute_residual(self, solution: np.ndarray) -> float:
        """Root mean square over the frames of what is left."""
        return float(np.sqrt(np.sum((self.energies - self.composition @ solution) ** 2) / self.frames))

    @LARGE_NUMBERS
    def solve_near(self, start: float) -> np.ndarray:
        """The least-squares solution nearest to one value for all species: where the equations say nothing, this one.

        Args:
            start: The value.

        Example:
            Species 0 and 1 in equal parts only, species 2 alone: its energy follows, of the others only the sum does.

            >>> rows = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
            >>> equations = Equations(rows, np.array([-8.0, -3.0]), 2, np.array([1, 1, 1]))
            >>> equations.solve_near(-5.0).round(9).tolist()
            [-8.0, -8.0, -3.0]
        """
        largest = max(float(np.linalg.norm(self.composition, 2)), _SMALLEST_DIRECTION)
        distance = self.energies - start * self.composition.sum(axis=1)
        moved = np.linalg.lstsq(self.composition, distance, rcond=_SMALLEST_DIRECTION / largest)[0]
        return np.asarray(start + moved)


@LARGE_NUMBERS
def set_up_equations(table: FrameTable, names: Sequence[str]) -> Equations:
    """Set up the equations of all frames with an energy; more than fit a block are brought to a triangle.

    A rotation of equations (QR decomposition) changes neither their solution nor the sum of squares that is left, so
    the triangle of one block goes on with the equations of the next (Demmel et al., SIAM J. Sci. Comput. 34, A206,
    2012), without the squared condition number of normal equations.
    """
    numbers = [number_of[name] for name in names]
    labelled = np.flatnonzero(table.find_labelled(fields.TOTAL_ENERGY))
    rows, counts = np.zeros((0, len(names) + 1)), np.zeros(len(names), dtype=np.int64)
    for start in range(0, len(labelled), _BLOCK):
        block = labelled[start : start + _BLOCK]
        fractions = table.compute_fractions(numbers, block)
        counts += (fractions > 0).sum(axis=0)
        rows = np.concatenate([rows, np.column_stack([fractions, table.energy[block] / table.atoms[block]])])
        if len(labelled) > _BLOCK:
            rows = np.asarray(np.linalg.qr(rows, mode="r"))
    return Equations(rows[:, :-1], rows[:, -1], len(labelled), counts)

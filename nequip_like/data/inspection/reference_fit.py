"""Energies without those of the atoms: least-squares energies of the species, and what they leave of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.reference_energies import ReferenceEnergies, fit_least_squares, from_mean
from nequip_like.data.tables.frame_table import FrameTable, tabulate
from nequip_like.errors import DataError


@dataclass(frozen=True)
class ReferenceFit:
    """Reference energies of frames that are no isolated atoms.

    Attributes:
        reference: The energies, the rule that they follow, and the root mean square of what is left.
        residuals: Energy without them, over the number of atoms (frames,), eV/atom; NaN for isolated atoms and frames
            without an energy.
        isolated: Frames that are isolated atoms.
    """

    reference: ReferenceEnergies
    residuals: torch.Tensor
    isolated: tuple[int, ...]


def fit_references(frames: Sequence[Graph] | FrameTable) -> ReferenceFit | None:
    """Fit reference energies to the energies per atom, by least squares where the compositions allow it.

    Args:
        frames: Graphs of single structures, or their table.

    Returns:
        None if no frame but isolated atoms has an energy.
    """
    table = tabulate(frames)
    bound = ~table.isolated & table.find_labelled(fields.TOTAL_ENERGY)
    if not bound.any():
        return None
    kept = table.select(np.flatnonzero(bound))
    names = list(kept.count_species())
    try:
        reference = fit_least_squares(kept, names)
    except DataError as error:  # compositions that do not tell the species apart
        reference = from_mean(kept, names, note=f"because {error.message}")
    residuals = torch.from_numpy(np.where(bound, table.compute_energies(reference.energies), np.nan))
    return ReferenceFit(reference, residuals, tuple(np.flatnonzero(table.isolated).tolist()))

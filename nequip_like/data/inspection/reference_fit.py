"""Energies without those of the atoms: least-squares energies of the species, and what they leave of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import has_label
from nequip_like.data.reference_energies import ReferenceEnergies, fit_least_squares, from_mean
from nequip_like.data.species import species_of
from nequip_like.data.tables.frame_table import is_isolated_atom
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


def fit_references(frames: Sequence[Graph]) -> ReferenceFit | None:
    """Fit reference energies to the energies per atom, by least squares where the compositions allow it.

    Args:
        frames: Graphs of single structures.

    Returns:
        None if no frame but isolated atoms has an energy.
    """
    isolated = tuple(i for i, frame in enumerate(frames) if is_isolated_atom(frame))
    apart = set(isolated)
    bound = [i for i, frame in enumerate(frames) if i not in apart and has_label(frame, fields.TOTAL_ENERGY)]
    if not bound:
        return None
    kept = [frames[i] for i in bound]
    names = species_of(kept)
    try:
        reference = fit_least_squares(kept, names)
    except DataError as error:  # compositions that do not tell the species apart
        reference = from_mean(kept, names, note=f"because {error.message}")
    composition, energies = tabulate_compositions(kept)
    residuals = torch.full((len(frames),), torch.nan, dtype=torch.float64)
    residuals[bound] = torch.from_numpy(energies - composition @ np.array([reference.energies[name] for name in names]))
    return ReferenceFit(reference, residuals, isolated)


def tabulate_compositions(frames: Sequence[Graph]) -> tuple[np.ndarray, np.ndarray]:
    """Share of each species (frames, species), by atomic number, and energies per atom (frames,), eV.

    Example:
        >>> composition, energies = tabulate_compositions(
        ...     [{"atomic_numbers": torch.tensor([8, 1, 1]), "total_energy": torch.tensor([[-6.0]])}]
        ... )
        >>> composition.round(2).tolist(), energies.tolist()
        ([[0.67, 0.33]], [-2.0])
    """
    present = torch.cat([frame[fields.ATOMIC_NUMBERS] for frame in frames]).unique()
    place = torch.full((int(present.max()) + 1,), -1, dtype=torch.int64)
    place[present] = torch.arange(len(present))
    counts = torch.stack(
        [torch.bincount(place[frame[fields.ATOMIC_NUMBERS]], minlength=len(present)) for frame in frames]
    ).double()
    atoms = counts.sum(dim=1)
    energies = torch.cat([frame[fields.TOTAL_ENERGY].flatten() for frame in frames]).double()
    return (counts / atoms[:, None]).numpy(), (energies / atoms).numpy()

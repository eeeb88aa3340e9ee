"""What forces say about stress: a pair potential is fitted to the forces, and has a stress of its own.

A pair potential is a poor model, but without pressure its stress is near to the true one: on real sets correlations are
0.8 to 1 and sizes agree within 15 percent, also where the cell is always the same and stress does no work. The fit is
linear and takes a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.graph import edge_vectors, has_label, volumes

_RADIUS = 4.0  # Angstrom; two shells of neighbours in most solids
_FIRST = 0.6  # Angstrom; centre of the innermost basis function
_FUNCTIONS = 10  # for each pair of species
_MOST_SPECIES = 8  # 36 pairs; more need more frames than are looked at
_MOST_FRAMES = 60
_MOST_FITTED = 150  # of forces that are predicted
_MUCH_WORSE, _GOOD_REST = 4.0, 0.05  # of the squared forces; the worst frames are left out of a second fit
_COLLISION = 0.1  # Angstrom; what lies on each other has no direction, and is told elsewhere
_MOST_EDGES = 300_000  # together; bounds time and memory for large cells
_FEWEST_FRAMES = 8
_SMALLEST_FORCES = 1e-3  # eV/Angstrom rms; smaller ones are noise
_FEWEST_ATOMS = (
    2.3  # that share the forces of a frame: 1.2 to 1.8 where one atom is displaced, 2.6 to 3 of four shaken ones
)
_BOND = 2.5  # Angstrom


@dataclass(frozen=True)
class StressFit:
    """Stress of the data set beside that of the fit, both times volume and without pressure, of which forces say least.

    Attributes:
        label: Of the data set (frames, 3, 3), eV.
        fit: Of the pair potential (frames, 3, 3), eV.
        explained: Share of the squared forces that the pair potential explains.
        certainty: Root mean square of ``fit`` over the error that it has from the fit. Forces say little of some sets:
            with each atom on its lattice site they are zero under any load.
        leverage: Root mean square of ``fit`` over that of the forces times the length of a bond. It is small where the
            stress is of second order in the displacements, as in crystals whose atoms are centres of symmetry.
    """

    label: torch.Tensor
    fit: torch.Tensor
    explained: float
    certainty: float
    leverage: float


def fit_stress(dataset: GraphDataset) -> StressFit | None:
    """Fit a pair potential to the forces of frames that have a stress, and put its stress beside the labels.

    Returns:
        None if there are too few frames with both, too many species, or hardly a force; also if forces act on single
        atoms, as in sets of finite displacements: these tell force constants, and stress would follow from how the
        force constants change with the distance.
    """
    frames = _select_frames(dataset)
    if len(frames) < _FEWEST_FRAMES or len(dataset.type_names) > _MOST_SPECIES:
        return None
    rows = [_build_design(frame, len(dataset.type_names)) for frame in frames]
    design = torch.cat([row[0] for row in rows])
    forces = torch.cat([frame[fields.FORCES].flatten() for frame in frames])
    if float(forces.square().mean()) ** 0.5 < _SMALLEST_FORCES or _count_pushed_atoms(frames) < _FEWEST_ATOMS:
        return None
    gram = _build_gram(design)
    weights = torch.linalg.solve(gram, design.mT @ forces)
    residuals = (forces - design @ weights).square()

    label = torch.cat([frame[fields.STRESS] * volumes(frame)[:, None, None] for frame in frames])
    functions = torch.stack([row[1] for row in rows]).permute(0, 2, 3, 1)
    unit = torch.eye(3, dtype=label.dtype)
    label = label - torch.einsum("fkk,xy->fxy", label, unit) / 3
    functions = functions - torch.einsum("fkkb,xy->fxyb", functions, unit) / 3
    fit = functions @ weights
    flat = functions.reshape(-1, len(weights))
    variance = float(residuals.mean() * (flat * torch.linalg.solve(gram, flat.mT).mT).sum())
    certainty = (float(fit.square().sum()) / variance) ** 0.5 if variance > 0 else 0.0
    leverage = (float(fit.square().sum()) / float(forces.square().sum())) ** 0.5 / _BOND
    return StressFit(label, fit, 1.0 - float(residuals.sum() / forces.square().sum()), certainty, leverage)


def predict_forces(dataset: GraphDataset, indices: Sequence[int]) -> Iterator[torch.Tensor]:
    """Forces (atoms, 3) of frames by a pair potential that is fitted to some of the same frames.

    Args:
        dataset: Frames with neighbour lists.
        indices: Frames with all forces.

    Yields:
        Forces of each of these, eV/Angstrom; nothing with too many species, too few frames, or hardly a force.
    """
    types = len(dataset.type_names)
    frames = _choose_spread([dataset.frames[i] for i in indices], _MOST_FITTED)
    if len(frames) < _FEWEST_FRAMES or types > _MOST_SPECIES:
        return
    designs = [_build_design(frame, types)[0] for frame in frames]
    forces = [frame[fields.FORCES].flatten() for frame in frames]
    if float(torch.cat(forces).square().mean()) ** 0.5 < _SMALLEST_FORCES:
        return
    weights = _fit_weights(designs, forces)
    # Forces that belong to other frames pull the fit; without the frames that it explains worst it is fitted anew.
    rests = torch.stack(
        [
            (f - d @ weights).square().sum() / f.square().sum().clamp(min=1e-300)
            for d, f in zip(designs, forces, strict=True)
        ]
    )
    kept = torch.nonzero(rests <= max(_MUCH_WORSE * float(rests.median()), _GOOD_REST)).flatten().tolist()
    if len(kept) >= _FEWEST_FRAMES:
        weights = _fit_weights([designs[i] for i in kept], [forces[i] for i in kept])
    for i in indices:
        yield (_build_design(dataset.frames[i], types)[0] @ weights).reshape(-1, 3)


def _fit_weights(designs: Sequence[torch.Tensor], forces: Sequence[torch.Tensor]) -> torch.Tensor:
    design = torch.cat(list(designs))
    return torch.linalg.solve(_build_gram(design), design.mT @ torch.cat(list(forces)))


def _build_gram(design: torch.Tensor) -> torch.Tensor:
    """Products of the columns; functions that no pair reaches are held at zero."""
    gram = design.mT @ design
    gram.diagonal().add_(1e-6 * gram.diagonal().mean() + 1e-300)
    return gram


def _count_pushed_atoms(frames: list[Graph]) -> float:
    """How many atoms of a typical frame share its forces: all if these are equal, one if a single atom feels one."""
    squares = [frame[fields.FORCES].square().sum(dim=1) for frame in frames]
    shares = torch.stack([square.sum() ** 2 / square.square().sum().clamp(min=1e-300) for square in squares])
    return float(shares.median())


def _select_frames(dataset: GraphDataset) -> list[Graph]:
    """Frames that are looked at: spread over the set, with stress and all forces, together not too large."""
    complete = [
        frame
        for frame in dataset.frames
        if fields.FORCES in frame
        and has_label(frame, fields.STRESS)
        and frame[fields.EDGE_INDEX].shape[1] > 0
        and not bool(torch.isnan(frame[fields.FORCES]).any())
    ]
    return _choose_spread(complete, _MOST_FRAMES)


def _choose_spread(complete: Sequence[Graph], most: int) -> list[Graph]:
    """So many of the frames at most, spread over all of them, and together not too large."""
    step = max(1.0, len(complete) / most)
    frames: list[Graph] = []
    edges = 0
    for i in range(min(len(complete), most)):
        frame = complete[int(i * step)]
        edges += frame[fields.EDGE_INDEX].shape[1]
        if edges > _MOST_EDGES and len(frames) >= _FEWEST_FRAMES:
            break
        frames.append(frame)
    return frames


def _build_design(frame: Graph, types: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What each basis function adds to the forces (3 atoms, functions) and to stress times volume (functions, 3, 3)."""
    vectors = edge_vectors(frame)
    lengths = vectors.norm(dim=1)
    near = (lengths < _RADIUS) & (lengths > _COLLISION)
    vectors, lengths = vectors[near], lengths[near]
    centre, neighbor = frame[fields.EDGE_INDEX][:, near]
    species = frame[fields.ATOM_TYPES]
    a, b = species[centre], species[neighbor]
    pair = torch.minimum(a, b) * types + torch.maximum(a, b)
    pull = _compute_slopes(lengths)[:, :, None] * (vectors / lengths[:, None])[:, None, :]
    atoms, pairs = len(species), types * types
    forces = pull.new_zeros(atoms * pairs, _FUNCTIONS, 3).index_add(0, centre * pairs + pair, pull)
    forces = forces.reshape(atoms, pairs * _FUNCTIONS, 3).mT.reshape(3 * atoms, pairs * _FUNCTIONS)
    work = pull[:, :, :, None] * vectors[:, None, None, :] / 2
    virial = work.new_zeros(pairs, _FUNCTIONS, 3, 3).index_add(0, pair, work).reshape(-1, 3, 3)
    return forces, virial


def _compute_slopes(lengths: torch.Tensor) -> torch.Tensor:
    """Derivatives of the basis functions, which are Gaussians times a smooth cutoff (edges, functions)."""
    centres = torch.linspace(_FIRST, _RADIUS, _FUNCTIONS, dtype=lengths.dtype)
    width = 1.2 * (_RADIUS - _FIRST) / _FUNCTIONS
    gaussian = torch.exp(-(((lengths[:, None] - centres) / width) ** 2) / 2)
    decay = (1 - lengths / _RADIUS)[:, None]
    return -(lengths[:, None] - centres) / width**2 * gaussian * decay**2 - 2 * decay / _RADIUS * gaussian

"""Do energies, forces and stress belong together? Answered by a pair potential that is fitted to the forces.

The fit is linear and takes a fraction of a second. A pair potential is a poor model, but its energies and its stress
have the sign and the size of those that belong to the forces: on real sets both agree within a factor of 2. Gradients
in the place of forces, a wrong unit of one label, a virial in the place of a stress, and a stress of the opposite sign
are factors of -1, 14, 27, 160, 1000 or the volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.graph import edge_vectors, volumes
from nequip_like.data.missing import has_label

_RADIUS = 4.0  # Angstrom; two shells of neighbours in most solids
_FIRST = 0.6  # Angstrom; centre of the innermost basis function
_FUNCTIONS = 10  # for each pair of species
_MOST_SPECIES = 8  # 36 pairs; more need more frames than are looked at
_MOST_FRAMES = 60
_MOST_EDGES = 300_000  # together; bounds time and memory for large cells
_FEWEST_FRAMES = 8
_EXPLAINED = 0.6  # of the squared forces; below, the fit says nothing
_CORRELATED = 0.3  # sizes can be compared
_OPPOSITE = -0.5  # signs contradict; right labels of real sets are never below 0
_STRESS_CORRELATED = 0.7  # the same of stress; right labels of real sets have 0.8 to 1
_SAME_CELL = 3  # decimals of lattice vectors, Angstrom
_ELASTIC = 15  # frames of one composition, whose stress can be freed from what seven parameters of strain explain
_CERTAIN = 5.0  # values that the forces do not determine are left alone; those of real sets come to 6 and more
_ENERGY_RATIO = (0.1, 5.0)
_STRESS_RATIO = (0.1, 8.0)
_SWAPPED = 0.3  # by how much shear has to agree better in another order of its components


@dataclass(frozen=True)
class Compared:
    """One kind of label beside what the pair potential says.

    Attributes:
        label: Values of the data set.
        fit: The same values out of the fit.
        certainty: Root mean square of the fitted values over the error that they have from the fit. Forces say little
            of some values: with each atom on its lattice site they are zero at any pressure.
    """

    label: torch.Tensor
    fit: torch.Tensor
    certainty: float


@dataclass(frozen=True)
class Comparison:
    """Labels beside what the pair potential says.

    Attributes:
        explained: Share of the squared forces that the fit explains.
        energy: Deviation of the energies from the mean of their atoms and cell (values,), eV.
        stress: Stress times volume without its trace and its elastic part (frames, 3, 3), eV.
    """

    explained: float
    energy: Compared
    stress: Compared


def label_contradiction(dataset: GraphDataset) -> str | None:
    """One sentence on how energies or stress contradict the forces; None if they do not, or the data cannot tell."""
    result = compare(dataset)
    if result is None or result.explained < _EXPLAINED:
        return None
    return _energy_sentence(result.energy) or _stress_sentence(result.stress)


def compare(dataset: GraphDataset) -> Comparison | None:
    """Fit a pair potential to the forces, and put its energies and stress beside the labels.

    Returns:
        None if there are too few frames with forces, or too many species.
    """
    frames = _chosen(dataset)
    if len(frames) < _FEWEST_FRAMES or len(dataset.type_names) > _MOST_SPECIES:
        return None
    rows = [_design(frame, len(dataset.type_names)) for frame in frames]
    design = torch.cat([row[0] for row in rows])
    forces = torch.cat([frame[fields.FORCES].flatten() for frame in frames])
    if not bool(forces.square().sum() > 0):
        return None
    gram = design.mT @ design
    gram.diagonal().add_(1e-6 * gram.diagonal().mean() + 1e-300)  # functions that no pair reaches stay at zero
    weights = torch.linalg.solve(gram, design.mT @ forces)
    rest = (forces - design @ weights).square()

    def compared(label: torch.Tensor, functions: torch.Tensor) -> Compared:
        flat = functions.reshape(-1, len(weights))
        variance = float(rest.mean() * (flat * torch.linalg.solve(gram, flat.mT).mT).sum())
        fit = functions @ weights
        return Compared(label, fit, (float(fit.square().sum()) / variance) ** 0.5 if variance > 0 else 0.0)

    explained = 1.0 - float(rest.sum() / forces.square().sum())
    return Comparison(
        explained,
        compared(*_centred(frames, [row[1] for row in rows])),
        compared(*_traceless(frames, [row[2] for row in rows])),
    )


def _chosen(dataset: GraphDataset) -> list[Graph]:
    """Frames that are looked at: spread over the set, with all forces, together not too large."""
    complete = [
        frame
        for frame in dataset.frames
        if fields.FORCES in frame
        and frame[fields.EDGE_INDEX].shape[1] > 0
        and not bool(torch.isnan(frame[fields.FORCES]).any())
    ]
    step = max(1.0, len(complete) / _MOST_FRAMES)
    chosen: list[Graph] = []
    edges = 0
    for i in range(min(len(complete), _MOST_FRAMES)):
        frame = complete[int(i * step)]
        edges += frame[fields.EDGE_INDEX].shape[1]
        if edges > _MOST_EDGES and len(chosen) >= _FEWEST_FRAMES:
            break
        chosen.append(frame)
    return chosen


def _design(frame: Graph, types: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What each basis function adds to the forces (3 atoms, functions), the energy and stress times volume."""
    vectors = edge_vectors(frame)
    lengths = vectors.norm(dim=1)
    near = lengths < _RADIUS
    vectors, lengths = vectors[near], lengths[near]
    centre, neighbor = frame[fields.EDGE_INDEX][:, near]
    species = frame[fields.ATOM_TYPES]
    a, b = species[centre], species[neighbor]
    pair = torch.minimum(a, b) * types + torch.maximum(a, b)
    value, slope = _basis(lengths)
    pull = slope[:, :, None] * (vectors / lengths[:, None])[:, None, :]
    atoms, pairs = len(species), types * types
    forces = pull.new_zeros(atoms * pairs, _FUNCTIONS, 3).index_add(0, centre * pairs + pair, pull)
    forces = forces.reshape(atoms, pairs * _FUNCTIONS, 3).mT.reshape(3 * atoms, pairs * _FUNCTIONS)
    energy = value.new_zeros(pairs, _FUNCTIONS).index_add(0, pair, value).flatten() / 2
    work = pull[:, :, :, None] * vectors[:, None, None, :] / 2
    virial = work.new_zeros(pairs, _FUNCTIONS, 3, 3).index_add(0, pair, work).reshape(-1, 3, 3)
    return forces, energy, virial


def _basis(lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussians times a smooth cutoff, and their derivatives, each (edges, functions)."""
    centres = torch.linspace(_FIRST, _RADIUS, _FUNCTIONS, dtype=lengths.dtype)
    width = 1.2 * (_RADIUS - _FIRST) / _FUNCTIONS
    gaussian = torch.exp(-(((lengths[:, None] - centres) / width) ** 2) / 2)
    left = (1 - lengths / _RADIUS)[:, None]
    slope = -(lengths[:, None] - centres) / width**2 * gaussian * left**2 - 2 * left / _RADIUS * gaussian
    return gaussian * left**2, slope


def _centred(frames: list[Graph], functions: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies and what the functions add to them, less the mean over frames of the same atoms in the same cell.

    Only between these the forces tell the difference: they are blind for what it takes to strain a lattice.
    """
    chosen = [i for i, frame in enumerate(frames) if has_label(frame, fields.TOTAL_ENERGY)]
    labels, added = [functions[0][:0]], [functions[0].new_zeros(0, len(functions[0]))]
    for rows_alike in _alike([(*_composition(frames[i]), *_cell(frames[i])) for i in chosen]):
        if len(rows_alike) > 1:
            energies = torch.cat([frames[chosen[row]][fields.TOTAL_ENERGY].flatten() for row in rows_alike])
            rows = torch.stack([functions[chosen[row]] for row in rows_alike])
            labels.append(energies - energies.mean())
            added.append(rows - rows.mean(dim=0))
    return torch.cat(labels), torch.cat(added)


def _traceless(frames: list[Graph], functions: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stress times volume and what the functions add to it, without the pressure, of which forces say least."""
    chosen = [i for i, frame in enumerate(frames) if has_label(frame, fields.STRESS)]
    unit = torch.eye(3, dtype=functions[0].dtype)
    if not chosen:
        return unit.new_zeros(0, 3, 3), unit.new_zeros(0, 3, 3, len(functions[0]))
    label = torch.cat([frames[i][fields.STRESS] * volumes(frames[i])[:, None, None] for i in chosen])
    added = torch.stack([functions[i] for i in chosen]).permute(0, 2, 3, 1)
    label = label - torch.einsum("fkk,xy->fxy", label, unit) / 3
    added = added - torch.einsum("fkkb,xy->fxyb", added, unit) / 3
    for members in _alike([_composition(frames[i]) for i in chosen]):
        if len(members) >= _ELASTIC:
            cells = torch.cat([frames[chosen[row]][fields.CELL] for row in members])
            label[members] = _without_strain(label[members], cells)
            added[members] = _without_strain(added[members], cells)
    return label, added


def _alike(keys: Sequence[tuple[float, ...]]) -> list[list[int]]:
    """Positions of equal keys, together."""
    groups: dict[tuple[float, ...], list[int]] = {}
    for i, key in enumerate(keys):
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def _composition(frame: Graph) -> tuple[float, ...]:
    return tuple(torch.bincount(frame[fields.ATOM_TYPES]).tolist())


def _cell(frame: Graph) -> tuple[float, ...]:
    """Periodic lattice vectors, rounded; a molecule's box means nothing."""
    return tuple(frame[fields.CELL][0][frame[fields.PBC][0]].round(decimals=_SAME_CELL).flatten().tolist())


def _without_strain(values: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
    """What is left of values (frames, ...) after the part that is linear in the strain of the cells."""
    metric = (cells @ cells.mT)[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    strain = (metric - metric.mean(dim=0)) / metric.abs().max()
    known = torch.cat([torch.ones_like(strain[:, :1]), strain], dim=1)
    axes, sizes, _ = torch.linalg.svd(known, full_matrices=False)
    axes = axes[:, sizes > 1e-6 * sizes[0]]
    return values - torch.tensordot(axes @ axes.mT, values, dims=1)


def _energy_sentence(energy: Compared) -> str | None:
    if len(energy.label) < _FEWEST_FRAMES or energy.certainty < _CERTAIN:
        return None
    correlation, ratio = _agreement(energy.label, energy.fit)
    if correlation < _OPPOSITE:
        return (
            f"energies and forces contradict: correlation {correlation:.2f} with a pair potential fitted to the "
            "forces; are they gradients, the negative of forces?"
        )
    if correlation > _CORRELATED and not _ENERGY_RATIO[0] < ratio < _ENERGY_RATIO[1]:
        return (
            f"energies vary {ratio:.2g} times as much as a pair potential fitted to the forces says; is the unit of "
            "one of them wrong, or is the energy one per atom?"
        )
    return None


def _stress_sentence(stress: Compared) -> str | None:
    if len(stress.label) < _FEWEST_FRAMES or stress.certainty < _CERTAIN:
        return None
    correlation, ratio = _agreement(stress.label, stress.fit)
    if correlation < -_STRESS_CORRELATED:
        return (
            f"stress and forces contradict: correlation {correlation:.2f} with a pair potential fitted to the forces; "
            "is the sign wrong? If it is positive under compression, declare units: {stress_sign: compression}"
        )
    if correlation > _STRESS_CORRELATED and not _STRESS_RATIO[0] < ratio < _STRESS_RATIO[1]:
        return (
            f"stress is {ratio:.2g} times as large as a pair potential fitted to the forces says; is it in GPa or "
            "kbar, or a virial?"
        )
    return _order_sentence(stress.label, stress.fit)


def _order_sentence(label: torch.Tensor, fit: torch.Tensor) -> str | None:
    """ASE writes six components as xx yy zz yz xz xy, VASP as xx yy zz xy yz zx."""
    as_read = [label[:, 1, 2], label[:, 0, 2], label[:, 0, 1]]
    if_vasp = torch.stack([as_read[1], as_read[2], as_read[0]])
    wanted = torch.stack([fit[:, 1, 2], fit[:, 0, 2], fit[:, 0, 1]])
    here, there = _agreement(torch.stack(as_read), wanted)[0], _agreement(if_vasp, wanted)[0]
    if there > _STRESS_CORRELATED and there > here + _SWAPPED:
        return (
            f"shear stress agrees better with the forces in VASP's order of components, xx yy zz xy yz zx (correlation "
            f"{there:.2f} instead of {here:.2f}); six numbers are read as xx yy zz yz xz xy"
        )
    return None


def _agreement(label: torch.Tensor, fit: torch.Tensor) -> tuple[float, float]:
    """Correlation of two sets of deviations, and how large the first is beside the second; zeros if one is zero."""
    sizes = float(label.norm()), float(fit.norm())
    if not (sizes[0] > 0 and sizes[1] > 0):
        return 0.0, 0.0
    return float((label * fit).sum()) / (sizes[0] * sizes[1]), sizes[0] / sizes[1]

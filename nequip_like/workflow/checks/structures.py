"""Structures that a model is asked about: frames of the user's data, or what can be made of its species."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, covalent_radii, reference_states
from ase.geometry.dimensionality import analyze_dimensionality

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.inference.predictor import Predictor
from nequip_like.workflow.checks.subject import NamedStructure
from nequip_like.workflow.pretrain.geometries import convert_frames

LARGEST = 100  # atoms of a frame that is taken, where there are smaller ones
_CLUSTER = 5  # atoms of a cluster
_MOST_CLUSTERS = 4
_BOND = 1.1  # distance of neighbours in what is made, in sums of covalent radii
_RATTLE = 0.05  # Angstrom
_MOST_CRYSTALS = 2
_MOST_CANDIDATES = 200
LONGEST_BOND = 1.35  # sums of covalent radii
_LARGEST_CRYSTAL = 64
_BUILT = ("fcc", "bcc", "hcp", "diamond")


def sum_radii(species: str, partner: str) -> float:
    """Sum of the covalent radii of two elements, Angstrom.

    Example:
        >>> round(sum_radii("H", "O"), 2)
        0.97
    """
    return float(covalent_radii[atomic_numbers[species]] + covalent_radii[atomic_numbers[partner]])


def pick_frames(data: GraphDataset, most: int) -> list[NamedStructure]:
    """Frames spread evenly over the data; small ones where there are some, periodic ones and others alike."""
    sizes = np.array([int(frame[fields.NUM_ATOMS][0]) for frame in data.frames])
    usable = np.flatnonzero((sizes > 1) & (sizes <= LARGEST))
    if not len(usable):
        usable = np.argsort(sizes, kind="stable")[-1:] if sizes.max() == 1 else np.array([int(sizes.argmin())])
    periodic = np.array([bool(data.frames[i][fields.PBC].all()) for i in usable.tolist()])
    kinds = [usable[periodic], usable[~periodic]]
    kinds = [kind for kind in kinds if len(kind)]
    indices = [
        int(i) for kind in kinds for i in kind[np.linspace(0, len(kind) - 1, max(1, most // len(kinds))).astype(int)]
    ]
    return [_take_frame(data, i) for i in dict.fromkeys(indices)]


def choose_crystals(data: GraphDataset, predictor: Predictor) -> list[NamedStructure]:
    """Of the crystals among the frames the one of lowest energy of each composition, small ones first.

    Args:
        data: The frames; of many, some that are spread evenly are looked at.
        predictor: Tells their energies.
    """
    periodic = [
        i
        for i, frame in enumerate(data.frames)
        if len(frame[fields.ATOMIC_NUMBERS]) <= _LARGEST_CRYSTAL and bool(frame[fields.PBC].all())
    ]
    periodic = periodic[:: -(-len(periodic) // _MOST_CANDIDATES) or 1]
    energies = [
        float(p[fields.TOTAL_ENERGY]) / int(p[fields.NUM_ATOMS])
        for p in predictor.predict(convert_frames([data.frames[i] for i in periodic]))
    ]
    lowest: dict[tuple[tuple[int, int], ...], tuple[float, int]] = {}
    for i, energy in zip(periodic, energies, strict=True):
        species, counts = np.unique(data.frames[i][fields.ATOMIC_NUMBERS].numpy(), return_counts=True)
        composition = tuple(zip(species.tolist(), (counts // np.gcd.reduce(counts)).tolist(), strict=True))
        lowest[composition] = min(lowest.get(composition, (np.inf, i)), (energy, i))
    crystals = [_take_frame(data, i) for _, i in lowest.values()]
    crystals.sort(key=lambda sample: len(sample.atoms))
    return list(islice(filter(lambda sample: is_bonded_throughout(sample.atoms), crystals), _MOST_CRYSTALS))


def is_bonded_throughout(atoms: Atoms) -> bool:
    """Whether bonds go on through the cell in all three directions; not so in molecules, liquids of them, and layers.

    Example:
        >>> nitrogen = Atoms("N2", [[0, 0, 0], [0, 0, 1.1]], cell=[5, 5, 5], pbc=True)
        >>> is_bonded_throughout(bulk("Si")), is_bonded_throughout(nitrogen)
        (True, False)
    """
    intervals = analyze_dimensionality(atoms, method="RDA")
    return any(interval.dimtype == "3D" and interval.a <= LONGEST_BOND for interval in intervals)


def _take_frame(data: GraphDataset, i: int) -> NamedStructure:
    (atoms,) = convert_frames([data.frames[i]])
    return NamedStructure(f"{atoms.get_chemical_formula()}, {data.origin(i).rpartition('/')[2]}", atoms)


def make_structures(type_names: Sequence[str], seed: int) -> list[NamedStructure]:
    """Small clusters in which all of up to twenty species occur, and a crystal of up to four; all without symmetry."""
    rng = np.random.default_rng(seed)
    count = min(_MOST_CLUSTERS, max(2, -(-len(type_names) // _CLUSTER)))
    shapes = [
        _make_cluster([type_names[(_CLUSTER * k + i) % len(type_names)] for i in range(_CLUSTER)], rng)
        for k in range(count)
    ]
    samples = [NamedStructure(f"made cluster {atoms.get_chemical_formula()}", atoms, is_made=True) for atoms in shapes]
    crystal = _make_crystal([type_names[i % len(type_names)] for i in range(4)], rng)
    return [*samples, NamedStructure(f"made crystal {crystal.get_chemical_formula()}", crystal, is_made=True)]


def make_crystals(type_names: Sequence[str]) -> list[NamedStructure]:
    """Crystals of the elements among the species, in their own structures as ASE knows them."""
    shapes = []
    for name in type_names:
        state = reference_states[atomic_numbers[name]]
        if state is not None and state["symmetry"] in _BUILT:
            crystal = bulk(name)
            shapes.append(NamedStructure(f"made crystal {name} ({state['symmetry']})", crystal, is_made=True))
    return shapes[:_MOST_CRYSTALS]


def _make_cluster(species: Sequence[str], rng: np.random.Generator) -> Atoms:
    """Atoms one after the other, each bound to one that is there, and too close to none."""
    positions: list[np.ndarray] = [np.zeros(3)]
    while len(positions) < len(species):
        symbol = species[len(positions)]
        anchor = int(rng.integers(len(positions)))
        direction = rng.normal(size=3)
        direction /= np.linalg.norm(direction)
        place = positions[anchor] + _BOND * sum_radii(symbol, species[anchor]) * direction
        distances = [np.linalg.norm(place - position) for position in positions]
        if all(d >= 0.98 * _BOND * sum_radii(symbol, placed) for d, placed in zip(distances, species, strict=False)):
            positions.append(place)
    return Atoms(list(species), positions=positions)


def _make_crystal(species: Sequence[str], rng: np.random.Generator) -> Atoms:
    """A strained and rattled fcc cell with these four atoms."""
    bond = max(_BOND * sum_radii(a, b) for a in species for b in species)
    crystal = Atoms(
        list(species),
        scaled_positions=[[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]],
        cell=np.sqrt(2.0) * bond * (np.eye(3) + 0.02 * rng.normal(size=(3, 3))),
        pbc=True,
    )
    crystal.positions += rng.normal(scale=_RATTLE, size=(4, 3))
    return crystal

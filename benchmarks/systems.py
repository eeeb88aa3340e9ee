"""Structures of the inference benchmarks, and how their atoms move; the same numbers for every code.

A system is a dict of arrays: numbers, positions (Angstrom), cell, pbc, velocities (Angstrom/fs).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

TIMESTEP = 0.5  # fs
TURN = 40  # steps after which the atoms go back the way they came
TEMPERATURE = 300.0  # K
SEED = 1
SPACING = 3.105  # Angstrom between the molecules of made_water: 0.999 g/cm^3
CRYSTALS = {"NaCl": ("rocksalt", 5.64, 8), "Ni": ("fcc", 3.52, 4)}  # structure, lattice constant, atoms of a cell


def with_velocities(atoms) -> dict:
    """The system of ASE atoms, with velocities drawn at 300 K."""
    from ase import units

    rng = np.random.default_rng(SEED)
    spread = np.sqrt(units.kB * TEMPERATURE / atoms.get_masses())[:, None] * units.fs
    return {
        "numbers": atoms.numbers,
        "positions": atoms.positions,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "velocities": spread * rng.standard_normal((len(atoms), 3)),
    }


def molecule(path: str) -> dict:
    """The first frame of a file; a frame without a cell gets none."""
    from ase.io import read

    return with_velocities(read(path, index=0))


def water(path: str, molecules: int) -> dict:
    """Liquid water of any number of molecules, at the density of the file's first frame.

    The frame's box is repeated; of the copies, the molecules nearest to the origin (by the largest coordinate of their
    oxygen, so they fill a cube) are kept, and the new cell has the volume that belongs to their number. At its faces
    some molecules come closer than in the liquid; the number of neighbours is the liquid's.
    """
    from ase.io import read

    box = whole_molecules(read(path, index=0))
    side = (molecules / (len(box) // 3)) ** (1 / 3)
    if round(side, 9) == 1:
        return with_velocities(box)
    cell = box.cell.array * side
    repeated = box.repeat(int(np.ceil(side)))
    scaled = repeated.positions[::3] @ np.linalg.inv(box.cell.array)
    chosen = np.sort(np.argsort(scaled.max(axis=1), kind="stable")[:molecules])
    kept = repeated[(3 * chosen[:, None] + np.arange(3)).ravel()]
    kept.set_cell(cell)
    return with_velocities(kept)


def whole_molecules(box):
    """Water in the order O, H, H of each molecule, unwrapped: each hydrogen beside its oxygen."""
    symbols = np.array(box.get_chemical_symbols())
    oxygens, hydrogens = np.flatnonzero(symbols == "O"), np.flatnonzero(symbols == "H")
    inverse = np.linalg.inv(box.cell.array)
    order, positions = [], []
    for oxygen in oxygens:
        origin = (box.positions[oxygen] @ inverse % 1.0) @ box.cell.array
        steps = (box.positions[hydrogens] - box.positions[oxygen]) @ inverse
        steps = (steps - np.round(steps)) @ box.cell.array
        near = np.sort(np.argsort(np.linalg.norm(steps, axis=1))[:2])
        order += [oxygen, *hydrogens[near]]
        positions += [origin, *(origin + steps[near])]
    if sorted(order) != list(range(len(box))):
        raise ValueError("the frame is not made of water molecules")
    ordered = box[order]
    ordered.positions = positions
    return ordered


def made_water(per_side: int = 4, seed: int = SEED) -> Atoms:
    """A box of water that needs no file: molecules at the density of the liquid, turned at random on a rattled lattice.

    For times only: it has the liquid's number of neighbours, and is no structure of the liquid.
    """
    from ase import Atoms

    rng = np.random.default_rng(seed)
    lattice = np.stack(np.meshgrid(*3 * [np.arange(per_side)], indexing="ij"), axis=-1).reshape(-1, 3)
    molecule = np.array([[0.0, 0.0, 0.0], [0.757, 0.586, 0.0], [-0.757, 0.586, 0.0]])
    turns = np.linalg.qr(rng.standard_normal((len(lattice), 3, 3)))[0]
    places = SPACING * lattice + 0.05 * rng.standard_normal(lattice.shape)
    positions = places[:, None] + molecule @ turns
    return Atoms(len(lattice) * ["O", "H", "H"], positions.reshape(-1, 3), cell=3 * [SPACING * per_side], pbc=True)


def made_droplets(frames: int, molecules: int = 9) -> list[Atoms]:
    """Droplets of water with energies and forces that are drawn at random, for the time of a training step."""
    from ase.calculators.singlepoint import SinglePointCalculator

    droplets = []
    for seed in range(frames):
        box = made_water(seed=seed)
        far = np.linalg.norm(box.positions[::3] - box.positions[::3].mean(axis=0), axis=1)
        chosen = np.argsort(far)[:molecules]
        atoms = box[(3 * chosen[:, None] + np.arange(3)).ravel()]
        atoms.pbc, atoms.cell = False, None
        rng = np.random.default_rng(seed)
        labels = {"energy": float(rng.standard_normal()), "forces": rng.standard_normal((len(atoms), 3))}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        droplets.append(atoms)
    return droplets


def crystal(atoms: int, kind: str = "NaCl") -> dict:
    """A rattled crystal of about so many atoms, as near to a cube as its cells allow."""
    from ase.build import bulk

    structure, constant, of_cell = CRYSTALS[kind]
    cells = max(1.0, atoms / of_cell)
    first = max(1, round(cells ** (1 / 3)))
    second = max(1, round((cells / first) ** 0.5))
    third = max(1, round(cells / first / second))
    built = bulk(kind, structure, a=constant, cubic=True).repeat((first, second, third))
    built.positions += 0.05 * np.random.default_rng(SEED).standard_normal(built.positions.shape)
    return with_velocities(built)


def save(path: Path, system: dict) -> None:
    """Write a system, without loss."""
    np.savez(path, **system)


class Walk:
    """A system whose atoms move as far with each step as in dynamics at 300 K: 0.5 fs with constant velocities.

    After 40 steps they go back, and so on, so that nothing ever runs apart. The path does not depend on the forces, so
    every code sees the same structures.
    """

    def __init__(self, path: str) -> None:
        from ase import Atoms

        system = np.load(path)
        self.atoms = Atoms(system["numbers"], system["positions"], cell=system["cell"], pbc=system["pbc"])
        self._start, self._velocities = system["positions"], system["velocities"]
        self._steps = 0

    def advance(self) -> None:
        """Move the atoms by one step."""
        self._steps += 1
        phase = self._steps % (2 * TURN)
        self.atoms.positions = self._start + TIMESTEP * min(phase, 2 * TURN - phase) * self._velocities

"""Structures around the user's own: what the teacher of a pretraining is asked about.

There are two kinds:

- the user's *training frames* themselves, where the potential will be needed;
- *thermal* structures: snapshots of molecular dynamics with the teacher's own forces, which begin at training frames.
  All modes move as they would, bonds little and torsions far, so these are likely structures and not only near ones.

Structures that are periodic in all directions begin strained, so that pressures are learnt, too. Random displacements
and twice the temperature were tried beside these, and made the potential worse: their large forces are most of the loss
(docs/accuracy.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from ase.data import covalent_radii

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import edge_vectors
from nequip_like.data.io.structures import graph_from_atoms
from nequip_like.data.neighbors import add_neighbors

CLOSEST = 0.7  # of the sum of covalent radii: no two atoms come closer
STRIDE = 10  # steps of dynamics from one snapshot to the next
_TIME_STEP, _LIGHT_TIME_STEP = 2.0, 1.0  # fs; the light one where there is hydrogen
_FRICTION = 0.02  # 1/fs
_STRAIN = 0.02  # standard deviation of the components of a strain
_COLDEST, _HOTTEST = 300.0, 3000.0  # K
_MINIMA = 4  # frames that are relaxed, to see how far above their minima frames are
_RELAXATION_STEPS = 100


def convert_frames(frames: Sequence[Graph]) -> list[Atoms]:
    """Convert graphs of a data set to structures of ASE, without labels."""
    return [
        Atoms(
            numbers=frame[fields.ATOMIC_NUMBERS].numpy(),
            positions=frame[fields.POSITIONS].numpy(),
            cell=frame[fields.CELL][0].numpy(),
            pbc=frame[fields.PBC][0].numpy(),
        )
        for frame in frames
    ]


def is_too_close(atoms: Atoms) -> bool:
    """Whether two atoms are closer than :data:`CLOSEST` of the sum of their covalent radii.

    Example:
        >>> is_too_close(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])), is_too_close(Atoms("H2", [[0, 0, 0], [0, 0, 0.4]]))
        (False, True)
    """
    # Not ASE's list of neighbours: it cuts a box of 50 Angstrom around a molecule into a million cells, 0.6 s a frame.
    radii = torch.tensor(CLOSEST * covalent_radii[atoms.numbers], dtype=torch.float64)
    graph = add_neighbors(graph_from_atoms(atoms), 2 * float(radii.max()), closest=0.0)
    centre, neighbour = graph[fields.EDGE_INDEX]
    distances = edge_vectors(graph).norm(dim=1)
    return bool((distances < radii[centre] + radii[neighbour]).any())


def strain(frame: Atoms, rng: np.random.Generator) -> Atoms:
    """Strain a frame that is periodic in all directions at random; a copy of any other."""
    strained = frame.copy()
    if strained.pbc.all():
        change = rng.normal(scale=_STRAIN, size=(3, 3))
        strained.set_cell(strained.cell.array @ (np.eye(3) + (change + change.T) / 2), scale_atoms=True)
    return strained


def run_dynamics(
    frame: Atoms, calculator: Any, temperature: float, snapshots: int, rng: np.random.Generator
) -> Iterator[Atoms]:
    """Run Langevin dynamics from a frame, and give a snapshot after each :data:`STRIDE` steps.

    Args:
        frame: Where it begins; not changed.
        calculator: Gives the forces.
        temperature: K.
        snapshots: How many at most.
        rng: Random numbers.
    """
    from ase.md.langevin import Langevin  # with much of SciPy: every training would load it
    from ase.md.velocitydistribution import thermalize_momenta

    atoms = strain(frame, rng)
    atoms.calc = calculator
    thermalize_momenta(atoms, temperature, rng=rng)
    step = _LIGHT_TIME_STEP if 1 in atoms.numbers else _TIME_STEP
    dynamics = Langevin(
        atoms, step * units.fs, temperature_K=temperature, friction=_FRICTION / units.fs, rng=rng, fixcm=False
    )
    for _ in range(snapshots):
        dynamics.run(STRIDE)
        snapshot = atoms.copy()
        snapshot.set_momenta(None)
        yield snapshot


def estimate_temperature(frames: Sequence[Atoms], calculator: Any, rng: np.random.Generator) -> float:
    """Estimate the temperature of frames by the teacher's energies: how far they are above their nearest minima.

    In a harmonic system each mode has half of ``kT`` of potential energy. Between 300 and 3000 K in any case.

    Args:
        frames: The structures.
        calculator: The teacher.
        rng: Draws the few that are relaxed.

    Returns:
        K.
    """
    from ase.optimize import FIRE  # with much of SciPy

    heights, modes = 0.0, 0
    for i in rng.choice(len(frames), size=min(_MINIMA, len(frames)), replace=False):
        atoms = frames[i].copy()
        atoms.calc = calculator
        height = atoms.get_potential_energy()
        FIRE(atoms, logfile=None).run(fmax=0.05, steps=_RELAXATION_STEPS)
        heights += height - atoms.get_potential_energy()
        modes += max(1, 3 * len(atoms) - (3 if atoms.pbc.any() else 6))
    return float(np.clip(2 * heights / (modes * units.kB), _COLDEST, _HOTTEST))

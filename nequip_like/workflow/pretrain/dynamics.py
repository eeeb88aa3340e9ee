"""Molecular dynamics that a teacher pays for: how structures are sampled at a temperature with few forces.

Each force is dear, and only structures are wanted, not times. Which structures are likely at a temperature does not
depend on the masses, so all atoms have the same one here: the vibrations of hydrogen are then no faster than those of
heavier atoms, and those of heavy atoms hardly slower, so that a step is 2.5 fs long and moves every bond. Each step is
a label then: those of neighbouring steps are alike, but they cost nothing, and with equally many forces nothing else
that was tried teaches as much (docs/accuracy.md). The integrator is BAOAB, whose structures have no error of the step
in a harmonic potential (Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34).

This file, like all that a worker process loads, imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms, units

_TIME_STEP = 2.5  # fs
_MASS = 12.0  # u, of every atom
_FRICTION = 0.05  # 1/fs
_STRAIN = 0.02  # standard deviation of the components of a strain
_COLDEST, _HOTTEST = 300.0, 3000.0  # K
_DISPLACEMENT = 0.01  # Angstrom


class Steepness(NamedTuple):
    """How steep and how curved a teacher's energy is at a structure.

    Attributes:
        square: Square of the gradient, eV^2/Angstrom^2.
        curvature: Estimate of the trace of the Hessian, eV/Angstrom^2.
    """

    square: float
    curvature: float


def strain(frame: Atoms, rng: np.random.Generator) -> Atoms:
    """Strain a frame that is periodic in all directions at random; a copy of any other."""
    strained = frame.copy()
    if strained.pbc.all():
        change = rng.normal(scale=_STRAIN, size=(3, 3))
        strained.set_cell(strained.cell.array @ (np.eye(3) + (change + change.T) / 2), scale_atoms=True)
    return strained


def run_dynamics(
    start: Atoms, calculator: Any, temperature: float, steps: int, rng: np.random.Generator
) -> Iterator[Atoms]:
    """Run Langevin dynamics of equal masses, and give the structure after each step.

    Args:
        start: Where it begins; not changed.
        calculator: Gives the forces; it is asked last about each structure, just before that is given.
        temperature: K.
        steps: How many at most.
        rng: Random numbers.
    """
    atoms = start.copy()
    atoms.calc = calculator
    step, thermal = _TIME_STEP * units.fs, np.sqrt(units.kB * temperature / _MASS)
    kept = np.exp(-_FRICTION * _TIME_STEP)
    noise = thermal * np.sqrt(1.0 - kept**2)
    velocities = rng.normal(scale=thermal, size=atoms.positions.shape)
    forces = atoms.get_forces()
    for _ in range(steps):
        velocities += step / 2 * forces / _MASS
        atoms.positions += step / 2 * velocities
        velocities = kept * velocities + rng.normal(scale=noise, size=velocities.shape)
        atoms.positions += step / 2 * velocities
        forces = atoms.get_forces()
        velocities += step / 2 * forces / _MASS
        yield Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def measure_steepness(frame: Atoms, calculator: Any, rng: np.random.Generator) -> Steepness:
    """Measure what :func:`estimate_temperature` needs of a frame, with two forces: its own and one beside it.

    Args:
        frame: The structure.
        calculator: The teacher.
        rng: Draws the direction.

    Returns:
        The gradient, and as an estimate of the trace the curvature along a random direction, +1 or -1 in each
        coordinate (Hutchinson).
    """
    atoms = frame.copy()
    atoms.calc = calculator
    forces = atoms.get_forces()
    direction = rng.choice([-1.0, 1.0], size=forces.shape)
    atoms.positions += _DISPLACEMENT * direction
    change = atoms.get_forces() - forces
    return Steepness(float((forces**2).sum()), float(-(direction * change).sum() / _DISPLACEMENT))


def estimate_temperature(measured: Sequence[Steepness]) -> float:
    """Estimate the temperature of frames by the teacher's forces: how steep it is where they are, and how curved.

    In equilibrium ``kT`` is the mean square of the gradient over the mean trace of the Hessian, in any potential and
    without a minimum to compare with (Rugh, Phys. Rev. Lett. 78, 772, 1997). Between 300 and 3000 K in any case.

    Args:
        measured: Of each frame, as :func:`measure_steepness` gives it.

    Returns:
        K.

    Example:
        >>> round(estimate_temperature([Steepness(8.0, 150.0), Steepness(7.0, 140.0)]))
        600
    """
    square, curvature = np.sum(measured, axis=0)
    return float(np.clip(square / (curvature * units.kB), _COLDEST, _HOTTEST)) if curvature > 0 else _HOTTEST

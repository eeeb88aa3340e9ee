"""The bundled data sets with faults that are planted into them."""

import functools
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

DATA = Path(__file__).parents[3] / "tutorials" / "data"
KCAL = 23.0605  # kcal/mol in an eV


@functools.cache
def _read(name: str) -> tuple[Atoms, ...]:
    return tuple(ase.io.read(DATA / name, ":"))


def frames_of(name: str, number: int | None = None) -> list[Atoms]:
    """Copies of the first frames of a bundled file, which may be changed."""
    return [relabelled(atoms) for atoms in _read(name)[:number]]


def relabelled(atoms: Atoms, labels_of: Atoms | None = None, **factors: float) -> Atoms:
    """A copy with labels of its own or another frame, some multiplied: ``stress=-1``."""
    results = (labels_of or atoms).calc.results
    copy = atoms.copy()
    values = {
        name: np.asarray(results[name]) * factors.get(name, 1.0)
        for name in ("energy", "forces", "stress")
        if name in results
    }
    copy.calc = SinglePointCalculator(copy, **values)
    return copy


def flip_stress(frames: list[Atoms]) -> list[Atoms]:
    return [relabelled(atoms, stress=-1.0) for atoms in frames]


def in_kcal(frames: list[Atoms]) -> list[Atoms]:
    return [relabelled(atoms, energy=KCAL) for atoms in frames]


def mix_units(frames: list[Atoms]) -> list[Atoms]:
    """Every second frame in kcal/mol."""
    return [relabelled(atoms, energy=KCAL if i % 2 else 1.0) for i, atoms in enumerate(frames)]


def exchange(frames: list[Atoms], first: int = 3, second: int = 40) -> list[Atoms]:
    changed = list(frames)
    changed[first], changed[second] = (
        relabelled(frames[first], frames[second]),
        relabelled(frames[second], frames[first]),
    )
    return changed


def repeat(frames: list[Atoms]) -> list[Atoms]:
    return [*frames, relabelled(frames[5]), relabelled(frames[7])]


def fuse(frames: list[Atoms], distance: float = 0.3, frame: int = 11) -> list[Atoms]:
    changed = list(frames)
    positions = changed[frame].positions.copy()
    positions[1] = positions[0] + [distance, 0, 0]
    atoms = changed[frame].copy()
    atoms.positions = positions
    results = {k: v for k, v in changed[frame].calc.results.items() if k in ("energy", "forces", "stress")}
    atoms.calc = SinglePointCalculator(atoms, **results)
    changed[frame] = atoms
    return changed

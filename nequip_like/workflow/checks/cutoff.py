"""Do energy and forces stay smooth while two atoms leave each other's cutoff?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from nequip_like.testing.structures import pair
from nequip_like.workflow.checks.outcome.verdicts import CheckVerdict, judge_value, skip_check
from nequip_like.workflow.checks.structures import sum_radii
from nequip_like.workflow.checks.subject import CheckedModel, NamedStructure

NAME = "cutoff"
_ENERGY_LIMIT, _FORCE_LIMIT = 1e-4, 2e-3  # eV, eV/Angstrom
_NOISE = 5.0
_GRID = 64  # distances of each of the passes that look for the end of an interaction
_PASSES = 3
_SIDE = 1e-4  # Angstrom on both sides of the cutoff
_WINDOW = 0.5  # Angstrom: pairs this near to the cutoff are moved across it
_MOST_PAIRS = 6  # of a structure
_ADVICE = (
    "atoms that cross the cutoff are kicked, so dynamics heats up or cools down: multiply the radial functions by an"
    " envelope whose value and slope vanish at the cutoff (polynomial_cutoff_p=6), and train again"
)


def ask_cutoff(model: CheckedModel) -> Iterator[CheckVerdict]:
    """Measure jumps where dimers stop to interact, and where atoms of structures cross the cutoff."""
    ends = find_ends(model)
    yield from _judge_dimers(model, ends)
    if model.has_forces:
        yield from _judge_structures(model, ends)


def find_ends(model: CheckedModel) -> dict[tuple[str, str], tuple[float, float]]:
    """Where the interaction of each pair of species ends: the last distance with and the first without, Angstrom.

    Cutoffs can differ between pairs, so they are looked for: behind it the energy is exactly that of two atoms.
    """
    names, cutoff = model.potential.type_names, model.potential.cutoff
    ends = {}
    for species, partner in combinations_with_replacement(names, 2):
        alone = model.isolated_energies[species] + model.isolated_energies[partner]
        inner, outer = min(0.5 * sum_radii(species, partner), 0.5 * cutoff), cutoff * (1 + 1e-9)
        for _ in range(_PASSES):
            distances = np.linspace(inner, outer, _GRID)
            energies = model.energies([pair(species, partner, float(distance)) for distance in distances])
            # A sum of two numbers that are far from zero rounds.
            feels = np.flatnonzero(~(np.abs(energies - alone) <= 4e-16 * abs(alone)))
            if not len(feels) or feels[-1] == _GRID - 1:
                break
            inner, outer = float(distances[feels[-1]]), float(distances[feels[-1] + 1])
        ends[species, partner] = inner, outer
    return ends


def _judge_dimers(model: CheckedModel, ends: dict[tuple[str, str], tuple[float, float]]) -> Iterator[CheckVerdict]:
    worst = {"energy": (-1.0, ""), "force": (-1.0, "")}
    for (species, partner), (inner, _) in ends.items():
        dimer = pair(species, partner, inner)
        alone = model.isolated_energies[species] + model.isolated_energies[partner]
        jumps = {"energy": abs(float(model.energies([dimer])[0]) - alone)}
        if model.has_forces:
            jumps["force"] = float(np.linalg.norm(model.forces([dimer])[0, 0]))
        for what, jump in jumps.items():
            if not jump <= worst[what][0]:
                worst[what] = jump, f"{species}-{partner} at {inner:.4f} Å"
    for what, limit, unit in (("energy", _ENERGY_LIMIT, "eV"), ("force", _FORCE_LIMIT, "eV/Å")):
        jump, where = worst[what]
        if where:
            text = f"the {what} of {where}, where two atoms stop to interact, jumps by {jump:.2e} {unit}"
            yield judge_value(NAME, f"dimers, {what}", jump, limit, unit, text, _ADVICE)


def _judge_structures(model: CheckedModel, ends: dict[tuple[str, str], tuple[float, float]]) -> Iterator[CheckVerdict]:
    worst, excess, limit, text = -1.0, -1.0, _FORCE_LIMIT, ""
    for named in model.structures:
        bound = _FORCE_LIMIT + _NOISE * model.measure_noise(named.atoms).force
        for sides, description in _list_crossings(named, ends):
            forces = model.forces(sides)
            jump = forces[2] - forces[1] - 0.5 * (forces[3] - forces[2] + forces[1] - forces[0])
            size = float(np.linalg.norm(jump, axis=1).max())
            ratio = size / bound if np.isfinite(size) else np.inf
            if ratio > excess:
                worst, excess, limit = size, ratio, bound
                text = f"a force in {named.name} jumps by {size:.2e} eV/Å as {description}"
    if text:
        yield judge_value(NAME, "structures, force", worst, limit, "eV/Å", text, _ADVICE)
    else:
        yield skip_check(NAME, "no structure has atoms near the cutoff of each other", "structures, force")


def _list_crossings(
    named: NamedStructure, ends: dict[tuple[str, str], tuple[float, float]]
) -> Iterator[tuple[list[Atoms], str]]:
    """Structures with two atoms at four distances around their cutoff, two within it and two beyond."""
    atoms = named.atoms
    symbols = atoms.get_chemical_symbols()
    cutoffs = {names: outer for key, (_, outer) in ends.items() for names in (key, key[::-1])}
    centre, neighbour, distances, vectors = neighbor_list("ijdD", atoms, max(cutoffs.values()) + _WINDOW)
    excess = np.array(
        [d - cutoffs[symbols[i], symbols[j]] for i, j, d in zip(centre, neighbour, distances, strict=True)]
    )
    candidates = np.flatnonzero((centre != neighbour) & (np.abs(excess) < _WINDOW))
    for k in candidates[np.argsort(np.abs(excess[candidates]), kind="stable")][:_MOST_PAIRS]:
        i, j, direction = int(centre[k]), int(neighbour[k]), vectors[k] / distances[k]
        sides = []
        for place in (-3, -1, 1, 3):
            moved = atoms.copy()
            moved.positions[j] += (place * _SIDE - excess[k]) * direction
            sides.append(moved)
        yield sides, f"{symbols[j]} {j} leaves the cutoff of {symbols[i]} {i}"

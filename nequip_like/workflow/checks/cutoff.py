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
_EDGE = 1e-3  # of the cutoff: most interactions are felt up to so near to it, which one energy tells
_SIDE = 1e-4  # Angstrom on both sides of the cutoff
_WINDOW = 0.5  # Angstrom: pairs this near to the cutoff are moved across it
_MOST_PAIRS = 6  # of a structure
_ADVICE = (
    "atoms that cross the cutoff are kicked, so dynamics heats up or cools down: multiply the radial functions by an"
    " envelope whose value and slope vanish at the cutoff (polynomial_cutoff_p=6), and train again"
)


def ask_cutoff(model: CheckedModel) -> Iterator[CheckVerdict]:
    """Measure jumps where dimers stop to interact, and where atoms of structures cross the cutoff."""
    yield from _judge_dimers(model)
    if model.has_forces:
        yield from _judge_structures(model)


def find_ends(model: CheckedModel) -> dict[tuple[str, str], tuple[float, float]]:
    """Where the interaction of each pair of species ends: the last distance with and the first without, Angstrom.

    Cutoffs can differ between pairs, so they are looked for: behind it the energy is exactly that of two atoms. Found
    once.
    """
    if not model.ends:
        pairs = list(combinations_with_replacement(model.species, 2))
        edge = model.potential.cutoff * (1 - _EDGE)
        reach_the_edge = _feel_each_other(model, pairs, np.full((len(pairs), 1), edge))[:, 0]
        for names, reaches in zip(pairs, reach_the_edge, strict=True):
            inner = edge if reaches else 0.5 * min(sum_radii(*names), model.potential.cutoff)
            model.ends[names] = _find_end(model, names, inner, passes=1 if reaches else _PASSES)
    return model.ends


def _find_end(model: CheckedModel, names: tuple[str, str], inner: float, passes: int) -> tuple[float, float]:
    outer = model.potential.cutoff * (1 + 1e-9)
    for _ in range(passes):
        distances = np.linspace(inner, outer, _GRID)
        felt = np.flatnonzero(_feel_each_other(model, [names], distances[None])[0])
        if not len(felt) or felt[-1] == _GRID - 1:
            break
        inner, outer = float(distances[felt[-1]]), float(distances[felt[-1] + 1])
    return inner, outer


def _feel_each_other(model: CheckedModel, pairs: list[tuple[str, str]], distances: np.ndarray) -> np.ndarray:
    """Whether the energy of two atoms is not that of two alone; of pairs (pairs, points) at distances in Angstrom."""
    dimers = [pair(*names, float(distance)) for names, row in zip(pairs, distances, strict=True) for distance in row]
    alone = np.array([sum(model.isolated_energies[name] for name in names) for names in pairs])[:, None]
    energies = model.energies(dimers).reshape(distances.shape)
    # A sum of two numbers that are far from zero rounds.
    felt: np.ndarray = ~(np.abs(energies - alone) <= 4e-16 * np.abs(alone))
    return felt


def measure_gaps(model: CheckedModel, atoms: Atoms) -> np.ndarray:
    """How far each atom is from crossing the cutoff of another, or another its own, shape (atoms,), Angstrom.

    Where no pair is near to its cutoff, it is the width in which pairs were looked for.
    """
    centre, neighbour, excess, _ = _list_pairs_near_cutoff(model, atoms)
    gaps = np.full(len(atoms), _WINDOW)
    np.minimum.at(gaps, centre, np.abs(excess))
    np.minimum.at(gaps, neighbour, np.abs(excess))
    return gaps


def _judge_dimers(model: CheckedModel) -> Iterator[CheckVerdict]:
    worst = {"energy": (-1.0, ""), "force": (-1.0, "")}
    for (species, partner), (inner, _) in find_ends(model).items():
        dimer = pair(species, partner, inner)
        alone = model.isolated_energies[species] + model.isolated_energies[partner]
        jumps = {"energy": abs(float(model.energies([dimer])[0]) - alone)}
        if model.has_forces:
            jumps["force"] = float(np.linalg.norm(model.forces([dimer])[0, 0]))
        for quantity, jump in jumps.items():
            if not jump <= worst[quantity][0]:
                worst[quantity] = jump, f"{species}-{partner} at {inner:.4f} Å"
    for quantity, limit, unit in (("energy", _ENERGY_LIMIT, "eV"), ("force", _FORCE_LIMIT, "eV/Å")):
        jump, dimer_name = worst[quantity]
        if dimer_name:
            text = f"the {quantity} of {dimer_name}, where two atoms stop to interact, jumps by {jump:.2e} {unit}"
            yield judge_value(NAME, f"dimers, {quantity}", jump, limit, unit, text, _ADVICE)


def _judge_structures(model: CheckedModel) -> Iterator[CheckVerdict]:
    worst, excess, limit, text = -1.0, -1.0, _FORCE_LIMIT, ""
    for sample in model.structures:
        bound = _FORCE_LIMIT + _NOISE * model.measure_noise(sample.atoms).force
        for sides, description in _list_crossings(model, sample):
            forces = model.forces(sides)
            jump = forces[2] - forces[1] - 0.5 * (forces[3] - forces[2] + forces[1] - forces[0])
            size = float(np.linalg.norm(jump, axis=1).max())
            ratio = size / bound if np.isfinite(size) else np.inf
            if ratio > excess:
                worst, excess, limit = size, ratio, bound
                text = f"a force in {sample.name} jumps by {size:.2e} eV/Å as {description}"
    if text:
        yield judge_value(NAME, "structures, force", worst, limit, "eV/Å", text, _ADVICE)
    else:
        yield skip_check(NAME, "no structure has atoms near the cutoff of each other", "structures, force")


def _list_crossings(model: CheckedModel, sample: NamedStructure) -> Iterator[tuple[list[Atoms], str]]:
    """Structures with two atoms at four distances around their cutoff, two within it and two beyond."""
    atoms = sample.atoms
    symbols = atoms.get_chemical_symbols()
    centre, neighbour, excess, directions = _list_pairs_near_cutoff(model, atoms)
    candidates = np.flatnonzero(centre != neighbour)
    for k in candidates[np.argsort(np.abs(excess[candidates]), kind="stable")][:_MOST_PAIRS]:
        i, j = int(centre[k]), int(neighbour[k])
        sides = []
        for place in (-3, -1, 1, 3):
            shifted = atoms.copy()
            shifted.positions[j] += (place * _SIDE - excess[k]) * directions[k]
            sides.append(shifted)
        yield sides, f"{symbols[j]} {j} leaves the cutoff of {symbols[i]} {i}"


def _list_pairs_near_cutoff(model: CheckedModel, atoms: Atoms) -> tuple[np.ndarray, ...]:
    """Both atoms of pairs, how far they are beyond their cutoff (pairs,) in Angstrom, and directions (pairs, 3)."""
    symbols = atoms.get_chemical_symbols()
    cutoffs = {names: outer for key, (_, outer) in find_ends(model).items() for names in (key, key[::-1])}
    centre, neighbour, distances, vectors = neighbor_list("ijdD", atoms, max(cutoffs.values()) + _WINDOW)
    excess = np.array(
        [d - cutoffs[symbols[i], symbols[j]] for i, j, d in zip(centre, neighbour, distances, strict=True)]
    )
    near = np.flatnonzero(np.abs(excess) < _WINDOW)
    return centre[near], neighbour[near], excess[near], vectors[near] / distances[near][:, None]

"""Is the second derivative of the energy smooth along bonds that are stretched?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from nequip_like.workflow.checks.outcome.verdicts import CheckPlot, CheckVerdict, judge_value, skip_check
from nequip_like.workflow.checks.structures import LONGEST_BOND, sum_radii
from nequip_like.workflow.checks.subject import CheckedModel

NAME = "bonds"
_POINTS = 61
_SHORTEST, _LONGEST = -0.08, 0.25  # of the bond's length
_MOST_BONDS = 3  # of a structure
_LIMIT = 2.0  # percent
_NOISE = 5.0
_WINDOW = 3  # points on each side of a local fit
_ADVICE = (
    "the energy has kinks or noise, which phonons and large time steps show: look at the curve; use smooth activations"
    " (silu) and a smooth cutoff, float64 for the model, and more data where the bond was stretched to"
)


def ask_bonds(model: CheckedModel) -> Iterator[CheckVerdict | CheckPlot]:
    """Measure how far the second derivative along bonds is off a local polynomial of fourth degree."""
    if not model.has_forces:
        yield skip_check(NAME, "the model predicts energies only (do_derivatives is false)")
        return
    worst, excess, limit, text = -1.0, -1.0, _LIMIT, ""
    curves: dict[str, Any] = {}
    for sample in model.structures:
        for i, j, vector in _choose_bonds(sample.atoms):
            stretches, stiffness = _measure_stiffness(model, sample.atoms, j, vector)
            largest = float(np.abs(stiffness).max())
            spacing = float(stretches[1] - stretches[0])
            # Two forces make a second derivative, whose noise the local fit passes on.
            noise = model.measure_noise(sample.atoms).force / (np.sqrt(2.0) * spacing)
            bound = _LIMIT + 100 * _NOISE * noise / max(largest, 1.0)
            rough = 100 * float(np.abs(_subtract_local_fit(stiffness)).max()) / max(largest, 1.0)
            ratio = rough / bound if np.isfinite(rough) else np.inf
            symbols = sample.atoms.get_chemical_symbols()
            bond = f"{symbols[i]}{i}-{symbols[j]}{j}"
            if ratio > excess:
                worst, excess, limit = rough, ratio, bound
                text = (
                    f"d2E/dr2 along {bond} of {sample.name} is off a smooth curve by {rough:.2g} % of its largest value"
                )
            if np.isfinite(stiffness).all() and len(curves) < 2 * _MOST_BONDS:
                name = f"{bond} {sample.atoms.get_chemical_formula()} {len(curves) + 1}"
                curves[name] = list(zip(stretches.tolist(), stiffness.tolist(), strict=True))
    if not text:
        yield skip_check(NAME, "no structure has a bond")
        return
    yield judge_value(NAME, "second derivative", worst, limit, "%", text, _ADVICE)
    if curves:
        yield CheckPlot(NAME, "second derivative along bonds", "stretch (Å)", "d²E/dr² (eV/Å²)", curves)


def _choose_bonds(atoms: Atoms) -> Iterator[tuple[int, int, np.ndarray]]:
    """Both atoms and the vector between them, of bonds of different species first."""
    symbols = atoms.get_chemical_symbols()
    most = max(sum_radii(a, b) for a in set(symbols) for b in set(symbols))
    centre, neighbour, distances, vectors = neighbor_list("ijdD", atoms, LONGEST_BOND * most)
    kinds: dict[tuple[str, str], list[int]] = {}
    for k, (i, j, distance) in enumerate(zip(centre, neighbour, distances, strict=True)):
        if i < j and distance <= LONGEST_BOND * sum_radii(symbols[i], symbols[j]):
            first, second = sorted((symbols[i], symbols[j]))
            kinds.setdefault((first, second), []).append(k)
    ordered = sorted(kinds.values(), key=len)
    rounds = [kind[place] for place in range(_MOST_BONDS) for kind in ordered if place < len(kind)]
    for k in rounds[:_MOST_BONDS]:
        yield int(centre[k]), int(neighbour[k]), vectors[k]


def _measure_stiffness(
    model: CheckedModel, atoms: Atoms, moved: int, vector: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Stretches (points,) in Angstrom, and d2E/dr2 (points,) in eV/Angstrom^2 while one atom moves along the bond."""
    length = float(np.linalg.norm(vector))
    direction = vector / length
    places = length * np.linspace(_SHORTEST, _LONGEST, _POINTS)
    stretched = []
    for place in places:
        structure = atoms.copy()
        structure.positions[moved] += place * direction
        stretched.append(structure)
    force = model.forces(stretched)[:, moved] @ direction
    return places[1:-1], -(force[2:] - force[:-2]) / (places[2:] - places[:-2])


def _subtract_local_fit(values: np.ndarray) -> np.ndarray:
    """What a polynomial of fourth degree through seven neighbouring points leaves of the one in the middle."""
    powers = np.vander(np.arange(-_WINDOW, _WINDOW + 1.0), 5)
    weights = (powers @ np.linalg.pinv(powers))[_WINDOW]
    fitted = np.convolve(values, weights[::-1], mode="valid")
    return values[_WINDOW:-_WINDOW] - fitted

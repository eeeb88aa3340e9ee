"""Is the second derivative of the energy smooth along bonds that are stretched?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list

from nequip_like.workflow.checks.cutoff import find_ends
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
_NEAR = 0.25  # Angstrom within the cutoff, where Chebyshev polynomials change fastest
_ADVICE = (
    "the energy has kinks or noise, which phonons and large time steps show: look at the curve; use smooth activations"
    " (silu) and a smooth cutoff, float64 for the model, and more data where the bond was stretched to"
)
_CUTOFF_ADVICE = (
    "forces are smooth there (see cutoff), their derivatives are less so, as with cosine cutoffs and polynomials of"
    " high order (descriptor_ann): phonons and elastic constants change where an atom crosses the cutoff; a lower"
    " radial_order, a larger cutoff and longer training make it less"
)


@dataclass
class _Worst:
    """The roughest second derivative so far; ``excess`` is how many times its limit it is."""

    value: float = -1.0
    excess: float = -1.0
    limit: float = _LIMIT
    text: str = ""

    def compare(self, roughness: np.ndarray, limit: float, along: str) -> None:
        """Take a rougher one over; roughness (points,) in percent."""
        if not len(roughness):
            return
        rough = float(roughness.max())
        excess = rough / limit if np.isfinite(rough) else np.inf
        if excess > self.excess:
            self.value, self.excess, self.limit = rough, excess, limit
            self.text = f"{along} is off a smooth curve by {rough:.2g} % of its largest value"


def ask_bonds(model: CheckedModel) -> Iterator[CheckVerdict | CheckPlot]:
    """Measure how far the second derivative along bonds is off a local polynomial of fourth degree.

    Where atoms are near the cutoff of each other it can only be warned of. There the Chebyshev polynomials of
    descriptor networks change within hundredths of an Angstrom, and derivatives of forces jump at the end of a cosine,
    however well it was trained.
    """
    if not model.has_forces:
        yield skip_check(NAME, "the model predicts energies only (do_derivatives is false)")
        return
    inside, outside = _Worst(), _Worst()
    curves: dict[str, Any] = {}
    for sample in model.structures:
        for i, j, vector in _choose_bonds(sample.atoms):
            stretches, stiffness = _measure_stiffness(model, sample.atoms, j, vector)
            largest = float(np.abs(stiffness).max())
            spacing = float(stretches[1] - stretches[0])
            # Two forces make a second derivative, whose noise the local fit passes on.
            noise = model.measure_noise(sample.atoms).force / (np.sqrt(2.0) * spacing)
            bound = _LIMIT + 100 * _NOISE * noise / max(largest, 1.0)
            roughness = 100 * np.abs(_subtract_local_fit(stiffness)) / max(largest, 1.0)
            symbols = sample.atoms.get_chemical_symbols()
            bond = f"{symbols[i]}{i}-{symbols[j]}{j}"
            is_near = _find_near_cutoff(model, sample.atoms, j, vector)
            along = f"d2E/dr2 along {bond} of {sample.name}"
            inside.compare(roughness[~is_near], bound, along)
            outside.compare(roughness[is_near], bound, f"where atoms are near the cutoff, {along}")
            if np.isfinite(stiffness).all() and len(curves) < 2 * _MOST_BONDS:
                name = f"{bond} {sample.atoms.get_chemical_formula()} {len(curves) + 1}"
                curves[name] = list(zip(stretches.tolist(), stiffness.tolist(), strict=True))
    if not inside.text and not outside.text:
        yield skip_check(NAME, "no structure has a bond")
        return
    for worst, of, advice, fails in (
        (inside, "second derivative", _ADVICE, True),
        (outside, "second derivative near the cutoff", _CUTOFF_ADVICE, not np.isfinite(outside.value)),
    ):
        if worst.text:
            yield judge_value(NAME, of, worst.value, worst.limit, "%", worst.text, advice, fails=fails)
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
    direction = vector / np.linalg.norm(vector)
    places = _list_places(vector)
    stretched = []
    for place in places:
        structure = atoms.copy()
        structure.positions[moved] += place * direction
        stretched.append(structure)
    force = model.forces(stretched)[:, moved] @ direction
    return places[1:-1], -(force[2:] - force[:-2]) / (places[2:] - places[:-2])


def _list_places(vector: np.ndarray) -> np.ndarray:
    """How far an atom is moved along a bond, shape (points,), Angstrom."""
    places: np.ndarray = np.linalg.norm(vector) * np.linspace(_SHORTEST, _LONGEST, _POINTS)
    return places


def _find_near_cutoff(model: CheckedModel, atoms: Atoms, moved: int, vector: np.ndarray) -> np.ndarray:
    """Whether the moved atom is near the cutoff of another one within the reach of each local fit, shape (fits,)."""
    places, symbols = _list_places(vector), atoms.get_chemical_symbols()
    ends = {names: outer for key, (_, outer) in find_ends(model).items() for names in (key, key[::-1])}
    centre, neighbour, vectors = neighbor_list("ijD", atoms, max(ends.values()) + float(np.abs(places).max()))
    others = (centre == moved) & (neighbour != moved)
    steps = np.outer(places, vector / np.linalg.norm(vector))
    distances = np.linalg.norm(vectors[others] - steps[:, None], axis=2)
    within = np.array([ends[symbols[moved], symbols[k]] for k in neighbour[others]]) - distances
    is_near = ((within > 0) & (within < _NEAR)).any(axis=1)
    # A fit takes second derivatives on both sides, and each of these the forces on both sides.
    reach = 2 * (_WINDOW + 1) + 1
    return np.asarray(np.lib.stride_tricks.sliding_window_view(is_near, reach).any(axis=1))


def _subtract_local_fit(values: np.ndarray) -> np.ndarray:
    """What a polynomial of fourth degree through seven neighbouring points leaves of the one in the middle."""
    powers = np.vander(np.arange(-_WINDOW, _WINDOW + 1.0), 5)
    weights = (powers @ np.linalg.pinv(powers))[_WINDOW]
    fitted = np.convolve(values, weights[::-1], mode="valid")
    return values[_WINDOW:-_WINDOW] - fitted

"""Energies of which a part is in another unit: whole files, or frames among others.

Energies per atom are, but for a little, sums over species. Where a part of them is a factor too large, no such sums
fit; with that part divided by the factor, they do. Which part that is follows from the sizes, and is improved by the
fit itself until nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nequip_like.data import fields
from nequip_like.data.inspection.checks.findings import Finding, Subject, join_origins
from nequip_like.data.tables.equations import set_up_equations

# How many times the number of an energy in the first unit is that in the second.
_RATIOS = {
    ("eV", "kcal/mol"): 23.0605,
    ("eV", "kJ/mol"): 96.4853,
    ("Hartree", "eV"): 27.2114,
    ("Rydberg", "eV"): 13.6057,
}
_FEWEST_FRAMES = 4
_BETTER = 5.0  # times, by which what sums over species leave has to shrink
_LARGEST_RESIDUAL = 0.3  # of the energies per atom; more, and the sums say nothing
_SAME_RATIO = 0.08  # of its logarithm; those of two units differ by 0.16
_GAPS = 3  # between sizes of energies, the widest, that the search begins at
_LEAST_GAP = 2.0  # times
_ROUNDS = 5
_MOST_FRAMES = 20_000


@dataclass(frozen=True)
class _Mixture:
    """A part of the energies, and the units that explain how much larger they are."""

    units: tuple[str, str]
    larger: np.ndarray
    residual: float


def find_mixed_units(subject: Subject) -> Iterator[Finding]:
    """Frames whose energies are in another unit than those of the others."""
    table = subject.dataset.table
    with_energy = np.flatnonzero(table.find_labelled(fields.TOTAL_ENERGY) & ~table.isolated).tolist()
    with_energy = with_energy[:: len(with_energy) // _MOST_FRAMES + 1]
    if len(with_energy) < _FEWEST_FRAMES:
        yield Finding("ok", f"not told by {len(with_energy)} frames with an energy")
        return
    part = table.select(with_energy)
    equations = set_up_equations(part, list(part.count_species()))
    mixture = _find_mixture(equations.composition, equations.energies)
    if mixture is None:
        yield Finding("ok", "all energies are in one unit")
        return
    smaller, larger = ([with_energy[i] for i in np.flatnonzero(mask)] for mask in (~mixture.larger, mixture.larger))
    first, second = mixture.units
    fewer, unit = (larger, second) if len(larger) <= len(smaller) else (smaller, first)
    files = {subject.files[i] for i in fewer}
    remaining = larger if fewer is smaller else smaller
    is_whole = files.isdisjoint(subject.files[i] for i in remaining)
    which = f": all of {', '.join(sorted(files))}" if is_whole else f": {join_origins(subject, fewer)}"
    yield Finding(
        "wrong",
        f"energies of {len(fewer)} of {len(with_energy)} frames are {_RATIOS[first, second]:.4g} times as "
        f"{'large' if unit == second else 'small'} as the others', as if they were in {unit} and the others in "
        f"{first if unit == second else second}{which}",
        fewer,
    )


def _find_mixture(composition: np.ndarray, energies: np.ndarray) -> _Mixture | None:
    sizes = np.sort(np.abs(energies[energies != 0]))
    if len(sizes) < _FEWEST_FRAMES:
        return None
    gaps = sizes[1:] / sizes[:-1]
    unmixed = _fit(composition, energies)[1]
    best: _Mixture | None = None
    for place in np.argsort(gaps)[::-1][:_GAPS]:
        if gaps[place] < _LEAST_GAP:
            break
        for units, ratio in _RATIOS.items():
            mixture = _improve(composition, energies, np.abs(energies) > sizes[place], units, ratio)
            if mixture is not None and (best is None or mixture.residual < best.residual):
                best = mixture
    return best if best is not None and best.residual * _BETTER < unmixed else None


def _improve(
    composition: np.ndarray, energies: np.ndarray, larger: np.ndarray, units: tuple[str, str], ratio: float
) -> _Mixture | None:
    """Fit sums over species with a part divided by a ratio, and choose the part anew by what fits better."""
    for _ in range(_ROUNDS):
        fitted, _ = _fit(composition, np.where(larger, energies / ratio, energies))
        nearer = np.abs(energies / ratio - fitted) < np.abs(energies - fitted)
        if not nearer.any() or nearer.all():
            return None
        settled, larger = bool((nearer == larger).all()), nearer
        if settled:
            break
    scaled = np.where(larger, energies / ratio, energies)
    fitted, residual = _fit(composition, scaled)
    typical = float(np.median(np.abs(scaled)))
    beside = energies[larger] / np.where(fitted[larger] == 0, np.inf, fitted[larger])
    measured = float(np.median(np.abs(beside)))
    if residual > _LARGEST_RESIDUAL * typical or abs(np.log(max(measured, 1e-9) / ratio)) > _SAME_RATIO:
        return None
    return _Mixture(units, larger, residual)


def _fit(composition: np.ndarray, energies: np.ndarray) -> tuple[np.ndarray, float]:
    """The best sums over species (frames,), and the root mean square of what they leave."""
    fitted = composition @ np.linalg.lstsq(composition, energies, rcond=None)[0]
    return fitted, float(np.sqrt(np.mean((energies - fitted) ** 2)))

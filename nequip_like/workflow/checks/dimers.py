"""Do atoms repel each other when they come close, or is there a hole that they fall into?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from nequip_like.testing.structures import pair
from nequip_like.workflow.checks.outcome.verdicts import CheckPlot, CheckVerdict, judge_value, skip_check
from nequip_like.workflow.checks.structures import sum_radii
from nequip_like.workflow.checks.subject import CheckedModel

NAME = "dimers"
_CLOSEST = 0.45  # sums of covalent radii: to come closer takes more than 10 eV with most elements
_BONDED = 0.8  # sums of covalent radii: no minimum lies within
_POINTS = 150
_HIGH, _LOW = 10.0, 3.0  # eV that a hole is behind
_HOLE = 0.05  # eV that the energy falls by
_MOST_ROWS = 10
_SHOWN = 15.0  # eV above the lowest energy that plots show
_MOST_CURVES, _CURVES_OF_A_PLOT = 24, 6
_ADVICE = (
    "atoms can fuse in hot or dense simulations: train with pair_potential=zbl, or add frames with "
    "close atoms, and keep"
    " simulations away from short distances until then"
)


@dataclass(frozen=True)
class ShortRange:
    """The energy of two atoms at short range.

    Attributes:
        wall: How high it rises over its lowest value on the way inwards, eV.
        top: Distance where it is highest, Angstrom.
        depth: How far it falls behind that, eV; 0 without a hole.
    """

    wall: float
    top: float
    depth: float


def ask_dimers(model: CheckedModel) -> Iterator[CheckVerdict | CheckPlot]:
    """Judge the energy of each pair of species over their distance."""
    cutoff = model.potential.cutoff
    verdicts, curves, walls = [], {}, {}
    for species, partner in combinations_with_replacement(model.species, 2):
        bond = sum_radii(species, partner)
        if _BONDED * bond >= cutoff:
            verdicts.append(skip_check(NAME, f"the cutoff is shorter than {_BONDED} bonds", f"{species}-{partner}"))
            continue
        distances = np.linspace(_CLOSEST * bond, cutoff, _POINTS)
        energies = model.energies([pair(species, partner, float(distance)) for distance in distances])
        energies -= model.isolated_energies[species] + model.isolated_energies[partner]
        verdicts.append(_judge_pair(f"{species}-{partner}", distances, energies, bond))
        if np.isfinite(energies).all():
            walls[f"{species}-{partner}"] = verdicts[-1].value or 0.0
            drawn = np.clip(energies, energies.min(), energies[distances >= _BONDED * bond].min() + _SHOWN)
            drawn = np.maximum(drawn, -_SHOWN)
            curves[f"{species}-{partner}"] = list(zip(distances.tolist(), drawn.tolist(), strict=True))
    if len(verdicts) > _MOST_ROWS:
        verdicts = _keep_worst(verdicts)
    yield from verdicts
    # Of many species there are thousands of pairs: those with the lowest walls are shown.
    shown_pairs = sorted(curves, key=lambda name: walls[name])[:_MOST_CURVES]
    for first in range(0, len(shown_pairs), _CURVES_OF_A_PLOT):
        part = {name: curves[name] for name in shown_pairs[first : first + _CURVES_OF_A_PLOT]}
        yield CheckPlot(NAME, "energies of dimers", "distance (Å)", "energy (eV)", part)


def measure_short_range(distances: np.ndarray, energies: np.ndarray, bonded: float) -> ShortRange:
    """Follow the energy of two atoms inwards from its lowest value outside of ``bonded``.

    Args:
        distances: Rising, shape (points,), Angstrom.
        energies: Shape (points,), eV.
        bonded: Distance within which no minimum counts, Angstrom.

    Example:
        >>> r = np.linspace(0.5, 3.0, 251)
        >>> measure_short_range(r, 4 * (r**-12.0 - r**-6.0), bonded=1.0).depth
        0.0
        >>> fallen = measure_short_range(r, 4 * (r**-12.0 - r**-6.0) * (r > 0.9), bonded=1.0)
        >>> round(fallen.top, 2), fallen.depth > 5
        (0.91, True)
    """
    first = int(np.searchsorted(distances, bonded))
    lowest = first + int(np.argmin(energies[first:]))
    inwards = energies[: lowest + 1][::-1]
    deepest = int(np.argmin(inwards))
    # A ripple that the energy rises above again, further in, is no hole; what lies below the lowest energy outside is.
    reach = deepest + 1 if inwards[deepest] < inwards[0] - _HOLE else len(inwards)
    top = int(np.argmax(inwards[:reach]))
    depth = float(inwards[top] - inwards[top:].min())
    wall = float(inwards[top] - inwards[0])
    return ShortRange(wall, float(distances[lowest - top]), depth if depth > _HOLE else 0.0)


def _judge_pair(name: str, distances: np.ndarray, energies: np.ndarray, bond: float) -> CheckVerdict:
    if not np.isfinite(energies).all():
        distance = float(distances[~np.isfinite(energies)].max())
        text = f"the energy of {name} is not finite at {distance:.2f} Å"
        return judge_value(NAME, name, float("nan"), _HIGH, "eV", text, _ADVICE, at_least=True)
    short_range = measure_short_range(distances, energies, _BONDED * bond)
    if not short_range.depth:
        text = f"rises by {short_range.wall:.3g} eV down to {distances[0]:.2f} Å, without a hole"
        return judge_value(NAME, name, short_range.wall, _LOW, "eV", text, _ADVICE, at_least=True, fails=False)
    wall, depth, top = short_range.wall, short_range.depth, short_range.top
    text = f"a hole: closer than {top:.2f} Å the energy falls by {depth:.3g} eV, behind {wall:.3g} eV"
    return judge_value(NAME, name, short_range.wall, _HIGH, "eV", text, _ADVICE, at_least=True, fails=False)


def _keep_worst(verdicts: list[CheckVerdict]) -> list[CheckVerdict]:
    """Pairs that are not in order, and of all others the one with the lowest wall."""
    notable = [verdict for verdict in verdicts if verdict.level in ("warn", "fail")]
    passed = [verdict for verdict in verdicts if verdict.level == "pass"]
    if passed:
        lowest = min(passed, key=lambda verdict: verdict.value or 0.0)
        text = f"all but {len(notable)} of {len(verdicts)} pairs; lowest of {lowest.of}: {lowest.text}"
        notable.append(
            CheckVerdict(NAME, f"{len(passed)} pairs", "pass", text, lowest.value, lowest.limit, lowest.unit, True)
        )
    return notable or verdicts[:1]

"""Programs that give two energies of a structure with smeared occupations: which is read, how far they lie apart.

The free energy is the one whose gradient the forces are. Beside it VASP (OUTCAR and vasprun.xml), CASTEP and GPAW give
an energy that is extrapolated to no smearing, ``energy(sigma->0)``. ASE calls them ``free_energy`` and ``energy``.

``energy`` is read, as other programs do that train on files of ASE; for insulators both are the same. For metals the
table of the data says so, and ``data.key_mapping={free_energy: total_energy}`` reads the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nequip_like.data.labels.names import FREE_ENERGY

_SMALLEST = 1e-6  # eV/atom; less is rounding


def measure_free_energy_gap(values: Mapping[str, Any], name: str | None, atoms: int) -> float:
    """How far the free energy of a frame lies from the energy that is read, per atom, in the unit of the file.

    Args:
        values: What the frame holds per structure.
        name: The name that the energy is read from; None if it has none.
        atoms: Number of atoms.

    Returns:
        The distance; 0 where the frame does not have both.
    """
    if name is None or name not in values or FREE_ENERGY not in values:
        return 0.0
    pair = [np.asarray(values[key]) for key in (name, FREE_ENERGY)]
    if any(value.dtype.kind not in "fi" or value.size != 1 for value in pair):
        return 0.0
    distance = abs(float(pair[0].item()) - float(pair[1].item())) / atoms
    return distance if np.isfinite(distance) else 0.0


def append_gap(name: str, gap: float) -> str:
    """The name of an energy, for tables, with how far the free energy lies from it.

    Args:
        name: Name in the file.
        gap: Largest distance, eV/atom.
    """
    if gap < _SMALLEST:
        return name
    return f"{name} (sigma->0; {FREE_ENERGY}, which the forces belong to, is up to {gap * 1e3:.3g} meV/atom away)"

"""Quantities as reports show them: name, unit, and the factor from the package's own units."""

from __future__ import annotations

from dataclasses import dataclass

import ase.units


@dataclass(frozen=True)
class Shown:
    """How a quantity is shown.

    Attributes:
        metric: Beginning of the names of its metrics.
        label: Name for people.
        unit: Unit of errors.
        factor: What to multiply values in eV and Angstrom by.
    """

    metric: str
    label: str
    unit: str
    factor: float


GPA = 1.0 / ase.units.GPa  # GPa in 1 eV/Angstrom^3
ENERGY = Shown("total_energy", "energy", "meV", 1e3)
PER_ATOM_ENERGY = Shown("per_atom_energy", "energy per atom", "meV/atom", 1e3)
FORCES = Shown("forces", "forces", "meV/Å", 1e3)
STRESS = Shown("stress", "stress", "meV/Å³", 1e3)
STRESS_GPA = Shown("stress", "stress", "GPa", GPA)
SHOWN = (ENERGY, PER_ATOM_ENERGY, FORCES, STRESS, STRESS_GPA)

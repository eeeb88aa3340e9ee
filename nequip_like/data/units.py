"""Units of a data file: what its labels are declared in, and the factors to eV and Angstrom.

A unit is declared, never guessed. The unit of each field follows from the declared energy and length units and from
the field's own row in :mod:`nequip_like.data.fields`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ase.units

from nequip_like.data import fields
from nequip_like.errors import ConfigError, closest_hint

ENERGY_UNITS: dict[str, float] = {
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": ase.units.kcal / ase.units.mol,
    "kJ/mol": ase.units.kJ / ase.units.mol,
    "Hartree": ase.units.Hartree,
    "Ry": ase.units.Rydberg,
}
LENGTH_UNITS: dict[str, float] = {"Angstrom": 1.0, "Bohr": ase.units.Bohr}
STRESS_SIGNS: dict[str, float] = {"tension": 1.0, "compression": -1.0}


@dataclass(frozen=True)
class Units:
    """Energy and length units of a data file.

    Attributes:
        energy: One of ``ENERGY_UNITS``.
        length: One of ``LENGTH_UNITS``.
        stress_sign: What a positive stress in the file means, one of ``STRESS_SIGNS``. A virial has no such choice.

    Example:
        >>> Units(energy="meV").factor("forces")
        0.001

    Raises:
        ConfigError: If a unit is not known.
    """

    energy: str = "eV"
    length: str = "Angstrom"
    stress_sign: str = "tension"

    def __post_init__(self) -> None:
        """Refuse unknown units and bring spelling to the table's."""
        object.__setattr__(self, "energy", _known("energy", self.energy, ENERGY_UNITS))
        object.__setattr__(self, "length", _known("length", self.length, LENGTH_UNITS))
        if self.stress_sign not in STRESS_SIGNS:
            raise ConfigError(
                f"units: stress_sign is '{self.stress_sign}'",
                f"write what a positive stress means in the file: {' or '.join(STRESS_SIGNS)}",
            )

    @classmethod
    def declared(cls, units: Units | Mapping[str, str] | None) -> Units:
        """Units from a configuration: ``{"energy": ..., "length": ..., "stress_sign": ...}``, any may be left out.

        Raises:
            ConfigError: If a key is none of these, or a unit is not known.
        """
        if units is None:
            return cls()
        if isinstance(units, Units):
            return units
        if unknown := sorted(set(units) - {"energy", "length", "stress_sign"}):
            raise ConfigError(
                f"units: unknown key '{unknown[0]}'",
                "write units: {energy: ..., length: ..., stress_sign: ...}; the units of forces and stress follow from "
                "the first two",
            )
        return cls(**{str(key): str(value) for key, value in units.items()})

    def factor(self, name: str) -> float:
        """What to multiply values of a field by, to have them in the package's own units and signs."""
        energy, length = ENERGY_UNITS[self.energy], LENGTH_UNITS[self.length]
        sign = STRESS_SIGNS[self.stress_sign] if name == fields.STRESS else 1.0
        return (
            sign
            * {
                "": 1.0,
                "eV": energy,
                "Angstrom": length,
                "eV/Angstrom": energy / length,
                "eV/Angstrom^3": energy / length**3,
            }[fields.field(name).unit]
        )

    def __str__(self) -> str:
        """Short form for tables: ``eV, Angstrom``."""
        flipped = ", stress positive under compression" if self.stress_sign == "compression" else ""
        return f"{self.energy}, {self.length}{flipped}"


def _known(quantity: str, unit: str, table: dict[str, float]) -> str:
    by_lower = {name.lower(): name for name in table}
    if str(unit).lower() in by_lower:
        return by_lower[str(unit).lower()]
    hint = closest_hint(unit, table, any_case=True)
    raise ConfigError(f"units: unknown {quantity} unit '{unit}'", f"{hint}known are: {', '.join(table)}")

"""Units of a data file: what its labels are declared in, and the factors to eV and Angstrom.

A unit is declared, never guessed. The unit of each label follows from the declared energy and length units and from
the label's own row in :mod:`nequip_like.data.fields`, unless the label has a declared unit of its own: many programs
write energies in one system of units and forces or stress in another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from nequip_like.arguments import shown
from nequip_like.data import fields
from nequip_like.data.labels.unit_expressions import Unit, normalise_unit, parse_unit
from nequip_like.errors import ConfigError, closest_hint

STRESS_SIGNS: dict[str, float] = {"tension": 1.0, "compression": -1.0}
_KEYS = ("energy", "length", "stress_sign", *fields.LABELS)

_FORM = "write units: {energy: ..., length: ..., stress_sign: ...}"

_ENERGY, _LENGTH = "eV", "Angstrom"
# What each unit of the table of fields measures, and examples to write.
_MEASURES = {
    _ENERGY: ("an energy", "eV, kcal/mol, Hartree or Ry"),
    _LENGTH: ("a length", "Angstrom, Bohr or nm"),
    "eV/Angstrom": ("an energy by a length", "eV/Angstrom, Hartree/Bohr or kcal/mol/Angstrom"),
    "eV/Angstrom^3": ("a pressure, or an energy by a volume", "eV/Angstrom^3, Hartree/Bohr^3, GPa or kbar"),
}


@dataclass(frozen=True)
class Units:
    """Units of a data file.

    Attributes:
        energy: Any energy, see :mod:`nequip_like.data.labels.unit_expressions`.
        length: Any length; positions and cells are in it.
        stress_sign: What a positive stress in the file means, one of ``STRESS_SIGNS``. A virial has no such choice.
        labels: ``{label: unit}`` for labels whose unit does not follow from energy and length.

    Example:
        >>> Units(energy="meV").factor("forces")
        0.001
        >>> Units(energy="Hartree", labels={"forces": "eV/nm"}).factor("forces")
        0.1

    Raises:
        ConfigError: If a unit is not known, or measures something else.
    """

    energy: str = _ENERGY
    length: str = _LENGTH
    stress_sign: str = "tension"
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is no unit of its quantity, and bring spelling to the table's."""
        object.__setattr__(self, "energy", _check_unit("energy", self.energy, _ENERGY))
        object.__setattr__(self, "length", _check_unit("length", self.length, _LENGTH))
        labels = {label: _check_unit(label, unit, fields.field(label).unit) for label, unit in self.labels.items()}
        object.__setattr__(self, "labels", labels)
        if self.stress_sign not in STRESS_SIGNS:
            raise ConfigError(
                f"units: stress_sign is '{self.stress_sign}'",
                f"write what a positive stress means in the file: {' or '.join(STRESS_SIGNS)}",
            )

    @classmethod
    def declared(cls, units: Units | Mapping[str, str] | None) -> Units:
        """Units from a configuration: ``{energy, length, stress_sign}`` and labels, any of which may be left out.

        Raises:
            ConfigError: If it is no mapping, a key is none of these, or a unit is not known or measures something else.
        """
        if units is None:
            return cls()
        if isinstance(units, Units):
            return units
        if not isinstance(units, Mapping):
            raise ConfigError(f"units: {shown(units)} is no mapping", _FORM)
        if unknown := [key for key in units if key not in _KEYS]:
            raise ConfigError(
                f"units: unknown key '{unknown[0]}'",
                f"{closest_hint(unknown[0], _KEYS)}{_FORM}, and "
                f"{', '.join(fields.LABELS)} for labels whose units do not follow from the first two",
            )
        entries = {str(key): str(value) for key, value in units.items()}
        labels = {label: entries.pop(label) for label in fields.LABELS if label in entries}
        return cls(**entries, labels=labels)

    def unit(self, name: str) -> str:
        """In which unit the file has a field; empty for counts and weights."""
        row = fields.field(name).unit
        return self.labels.get(name) or row.replace(_ENERGY, self.energy).replace(_LENGTH, self.length)

    def factor(self, name: str) -> float:
        """What to multiply values of a field by, to have them in the package's own units and signs."""
        sign = STRESS_SIGNS[self.stress_sign] if name == fields.STRESS else 1.0
        if name in self.labels:
            return sign * parse_unit(self.labels[name], name).factor
        dimension = parse_unit(row, name) if (row := fields.field(name).unit) else Unit(1.0)
        energy, length = parse_unit(self.energy, "energy").factor, parse_unit(self.length, "length").factor
        scale = sign * energy**dimension.energy
        return scale * length**dimension.length if dimension.length >= 0 else scale / length**-dimension.length

    def lines(self, labels: Iterable[str]) -> list[str]:
        """What was done to a file's labels, for tables: ``forces: Hartree/Bohr, x 51.4221``.

        Args:
            labels: The labels that the file has.

        Returns:
            ``["eV, Angstrom"]`` where nothing was to do, else a line for each label (and for positions that are not
            in Angstrom) with the unit in the file and the factor to the package's own.

        Example:
            >>> Units(energy="Hartree", length="Bohr").lines(["total_energy", "forces"])
            ['positions: Bohr, x 0.529177', 'total_energy: Hartree, x 27.2114', 'forces: Hartree/Bohr, x 51.4221']
        """
        names = [*([fields.POSITIONS] if self.factor(fields.POSITIONS) != 1.0 else []), *labels]
        if all(self.factor(name) == 1.0 for name in names):
            return [str(self)]
        titles = {fields.POSITIONS: "positions"}
        return [f"{titles.get(name, name)}: {self.unit(name)}, x {self.factor(name):.6g}" for name in names]

    def __str__(self) -> str:
        """Short form: ``eV, Angstrom``, and labels with units of their own."""
        flipped = ", stress positive under compression" if self.stress_sign == "compression" else ""
        label_units = "".join(f", {label} {unit}" for label, unit in self.labels.items())
        return f"{self.energy}, {self.length}{label_units}{flipped}"


def list_unused_units(units: Units, labels: Collection[str]) -> list[str]:
    """What a user should know about declared units that do nothing.

    Args:
        units: Units of a data set.
        labels: The labels that were read.
    """
    of = {fields.STRESS: fields.VIRIAL, fields.VIRIAL: fields.STRESS}
    notes = []
    for label, unit in units.labels.items():
        if label not in labels:
            instead = f"; '{of[label]}' is read in {units.unit(of[label])}" if of.get(label) in labels else ""
            notes.append(f"the unit {unit} of '{label}' is not used, no label '{label}' was read{instead}")
    return notes


def _check_unit(key: str, text: str, field_unit: str) -> str:
    """A unit in the table's spelling, if it measures what ``field_unit`` does.

    Raises:
        ConfigError: If it does not, or cannot be read.
    """
    unit = parse_unit(str(text), key)
    if unit.is_like(parse_unit(field_unit, key)):
        return normalise_unit(str(text))
    quantity, examples = _MEASURES[field_unit]
    hint = ""
    if key == fields.STRESS and unit.is_like(parse_unit(_ENERGY, key)):
        hint = "if it is a virial, map its name to 'virial' with key_mapping; else "
    elif unit.amount == 1:
        hint = f"did you mean '{normalise_unit(str(text))}/mol'? "
    raise ConfigError(
        f"units: '{text}' is {_describe_quantity(unit)}, and no unit of {key}", f"{hint}write {quantity}: {examples}"
    )


def _describe_quantity(unit: Unit) -> str:
    for field_unit, (quantity, _) in _MEASURES.items():
        if unit.is_like(parse_unit(field_unit, field_unit)):
            return quantity
    return "an energy of moles" if (unit.energy, unit.length, unit.amount) == (1, 0, 1) else "another quantity"

"""Units as people write them: products, quotients and powers of known ones, as a number of eV and Angstrom.

``Hartree/Bohr``, ``kcal/(mol A)``, ``eV A^-3``, ``eV/Å³`` and ``GPa`` are units of forces or of stress. Each is a
number times powers of eV and Angstrom: a pressure is an energy by a volume.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import ase.units

from nequip_like.errors import ConfigError, closest_hint


@dataclass(frozen=True)
class Unit:
    """A unit, as a number times powers of the package's own.

    Attributes:
        factor: Its size in eV, Angstrom, and powers of these.
        energy: Power of the energy.
        length: Power of the length.
        amount: Power of mol. An energy by mol is one of a structure; kcal without mol is none.
    """

    factor: float
    energy: int = 0
    length: int = 0
    amount: int = 0

    def __mul__(self, other: Unit) -> Unit:
        """Product of two units."""
        return Unit(
            self.factor * other.factor,
            self.energy + other.energy,
            self.length + other.length,
            self.amount + other.amount,
        )

    def __pow__(self, power: int) -> Unit:
        """A unit to a whole power."""
        return Unit(self.factor**power, self.energy * power, self.length * power, self.amount * power)

    def is_like(self, other: Unit) -> bool:
        """Whether both measure the same quantity."""
        return (self.energy, self.length, self.amount) == (other.energy, other.length, other.amount)


def _energy(electronvolts: float) -> Unit:
    return Unit(electronvolts, energy=1)


def _of_mole(electronvolts: float) -> Unit:
    return Unit(electronvolts, energy=1, amount=1)


def _length(angstroms: float) -> Unit:
    return Unit(angstroms, length=1)


def _pressure(pascals: float) -> Unit:
    return Unit(pascals * 1e-9 * ase.units.GPa, energy=1, length=-3)


# In the order in which messages list them; the first spelling of several is the one shown.
KNOWN: dict[str, Unit] = {
    "eV": _energy(1.0),
    "meV": _energy(1e-3),
    "Hartree": _energy(ase.units.Hartree),
    "mHartree": _energy(1e-3 * ase.units.Hartree),
    "Ry": _energy(ase.units.Rydberg),
    "mRy": _energy(1e-3 * ase.units.Rydberg),
    "kcal": _of_mole(ase.units.kcal / ase.units.mol),
    "kJ": _of_mole(ase.units.kJ / ase.units.mol),
    "J": _of_mole(1e-3 * ase.units.kJ / ase.units.mol),
    "mol": Unit(1.0, amount=1),
    "Angstrom": _length(1.0),
    "Bohr": _length(ase.units.Bohr),
    "nm": _length(10.0),
    "pm": _length(0.01),
    "Pa": _pressure(1.0),
    "MPa": _pressure(1e6),
    "GPa": _pressure(1e9),
    "bar": _pressure(1e5),
    "kbar": _pressure(1e8),
    "Mbar": _pressure(1e11),
    "atm": _pressure(101325.0),
}
_SYNONYMS = {
    "electronvolt": "eV",
    "Ha": "Hartree",
    "Eh": "Hartree",
    "mHa": "mHartree",
    "mEh": "mHartree",
    "Rydberg": "Ry",
    "mRydberg": "mRy",
    "A": "Angstrom",
    "Å": "Angstrom",
    "Ang": "Angstrom",
    "Angstroms": "Angstrom",
    "Ångström": "Angstrom",
    "Ångstrom": "Angstrom",
    "Angström": "Angstrom",
    "a0": "Bohr",
    "kB": "kbar",  # as VASP writes it beside its pressure
}
_NAMES = {name: name for name in KNOWN} | _SYNONYMS
_BY_LOWER = {name.lower(): name for name in _NAMES}
# Upper and lower case are the same, but not those of a prefix: a megaelectronvolt or a millibar is another unit.
_PREFIXED = frozenset({"meV", "mHartree", "mHa", "mEh", "mRy", "mRydberg", "MPa", "Mbar", "nm", "pm"})
_FOREIGN = frozenset({"pA", "nM", "pM"})  # a picoampere, and what chemists call nanomolar
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+")
_LINE = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
# What papers and word processors set for the signs of a keyboard: dots, a minus and an en dash, slashes.
_TYPOGRAPHY = str.maketrans("\u22c5\u2219\u2212\u2013\u2215\u2044", "··--//")
_NAME = re.compile(r"a0(?!\w)|[^\W\d_]+", re.IGNORECASE)
_TOKEN = re.compile(rf"\s*(?:({_NAME.pattern})|(\*\*|\^)?\s*([+-]?\d{{1,2}})(?!\w)|([*/·()]))", re.IGNORECASE)
_SUBSCRIPT = re.compile(r"(?<!\w)(?:E_h|a_0)(?!\w)", re.IGNORECASE)
_MOST = 200  # characters; more is no unit


@lru_cache(maxsize=256)  # asked for each label of each frame
def parse_unit(text: str, key: str) -> Unit:
    """Read a unit.

    Args:
        text: Names in :data:`KNOWN` (upper and lower case are the same, but for a prefix such as m or M) with ``*``
            or a space between them, ``/``, powers (``^3``, ``**3``, ``³`` or ``3``) and brackets.
        key: What the unit is of, for messages.

    Raises:
        ConfigError: If a name is unknown, or the text is no product of units.

    Example:
        >>> round(parse_unit("Hartree/Bohr", "forces").factor, 4), round(parse_unit("kcal/(mol A)", "forces").factor, 6)
        (51.4221, 0.043364)
        >>> parse_unit("eV/Å³", "stress") == parse_unit("ev Ang^-3", "stress")
        True
        >>> parse_unit("Mev", "energy")
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: ...
          -> did you mean 'meV'? 'M' and 'm' are different prefixes; ...
    """
    parser = _Parser(text, key)
    try:
        result = parser.read_product()
    except ArithmeticError as error:  # a power that no number can hold, or one by what has become zero
        raise parser.build_error() from error
    if parser.tokens or not 0 < result.factor < math.inf:
        raise parser.build_error()
    return result


def normalise_unit(text: str) -> str:
    """A unit that can be read, with each name as :data:`KNOWN` spells it: ``HARTREE/a0`` becomes ``Hartree/Bohr``.

    Example:
        >>> normalise_unit("HARTREE/a0"), normalise_unit("eV/Å³")
        ('Hartree/Bohr', 'eV/Angstrom^3')
    """
    return _NAME.sub(lambda match: _find_spelling(match[0]), _on_line(text))


def _on_line(text: str) -> str:
    """The text with raised digits as powers, and one of the characters that look alike: Å has three spellings."""
    one_sign = unicodedata.normalize("NFC", text).translate(_TYPOGRAPHY).strip()
    one_sign = _SUBSCRIPT.sub(lambda match: match[0].replace("_", ""), one_sign)
    return _SUPERSCRIPT.sub(lambda match: "^" + match[0].translate(_LINE), one_sign)


def _find_spelling(name: str) -> str:
    """A name as the table spells it; empty if it is in none of its spellings, or could be another unit."""
    if name in _NAMES:
        return _NAMES[name]
    if len(name) > len("Bohr") and name[-1] in "sS":  # a plural; the s of a short name is another unit's
        name = name[:-1]
    spelling = _BY_LOWER.get(name.lower())
    if spelling is None or name in _FOREIGN or _has_other_prefix(name, spelling):
        return ""
    return _NAMES[spelling]


def _has_other_prefix(name: str, spelling: str) -> bool:
    return spelling in _PREFIXED and name[0] != spelling[0]


def _guess_meaning(name: str, key: str) -> str:
    """What may have been meant by a name that is not known, for an advice."""
    lower_name = name.lower()
    if lower_name == "au":
        return "for atomic units write Hartree and Bohr; "
    if lower_name in ("atom", "atoms"):
        if key == "atomic_energy":
            return "leave the atom out, each is the energy of one atom; "
        return "energies are totals of a structure: multiply those by atom in the file by its number of atoms; "
    spelling = _BY_LOWER.get(lower_name, "")
    if spelling and _has_other_prefix(name, spelling):
        return f"did you mean '{spelling}'? '{name[0]}' and '{spelling[0]}' are different prefixes; "
    return closest_hint(name, filter(str.isascii, _NAMES), any_case=True)


class _Parser:
    """Reads ``factor {(* | / | nothing) factor}``, where a factor is a name or a bracket, with a power or without."""

    def __init__(self, text: str, key: str) -> None:
        self.text, self.key = text, key
        self.tokens: list[tuple[str, str]] = []
        line = _on_line(text)
        position = 0
        while position < len(line):
            match = _TOKEN.match(line, position)
            if match is None or len(line) > _MOST:
                raise self.build_error()
            name, _, power, sign = match.groups()
            self.tokens.append(("name", name) if name else ("power", power) if power else ("sign", sign))
            position = match.end()

    def build_error(self) -> ConfigError:
        """The error for a text that is no unit."""
        excerpt = self.text if len(self.text) <= 40 else self.text[:40] + "..."
        return ConfigError(
            f"units: the unit '{excerpt}' of {self.key} cannot be read",
            "write names with *, / and powers between them, such as Hartree/Bohr or eV/Angstrom^3",
        )

    def read_product(self) -> Unit:
        """A product up to the end, or to the bracket that closes it."""
        result = self.read_factor()
        while self.tokens and self.tokens[0] != ("sign", ")"):
            divides = self.tokens[0] == ("sign", "/")
            if divides or self.tokens[0] in (("sign", "*"), ("sign", "·")):
                self.tokens.pop(0)
            result = result * self.read_factor() ** (-1 if divides else 1)
        return result

    def read_factor(self) -> Unit:
        """A name or a bracket, with its power."""
        kind, value = self.tokens.pop(0) if self.tokens else ("", "")
        if kind == "name":
            result = self.look_up_unit(value)
        elif (kind, value) == ("sign", "("):
            result = self.read_product()
            if not self.tokens:
                raise self.build_error()
            self.tokens.pop(0)
        else:
            raise self.build_error()
        if self.tokens and self.tokens[0][0] == "power":
            result = result ** int(self.tokens.pop(0)[1])
        return result

    def look_up_unit(self, name: str) -> Unit:
        """The unit of a name."""
        if spelling := _find_spelling(name):
            return KNOWN[spelling]
        raise ConfigError(
            f"units: unknown unit '{name}' of {self.key}",
            f"{_guess_meaning(name, self.key)}known are: {', '.join(KNOWN)}",
        )

"""Energies of species under conditions: some are given, reference compounds decide, or frames drawn at random do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from ase.data import atomic_numbers as number_of
from ase.data import chemical_symbols as symbol_of
from ase.formula import Formula

from nequip_like.arguments import Count, NotNegative, Range, check, check_key
from nequip_like.data import fields
from nequip_like.data.species import checked_species
from nequip_like.data.tables.equations import set_up_equations
from nequip_like.data.tables.frame_table import FrameTable
from nequip_like.errors import ConfigError, DataError

AUTO = "auto"
_SECTION = "reference_energies"
_BLOCK = 100_000  # frames whose compositions are held at once
_SAME = 1e-6  # of fractions, and of what counts as zero beside 1
_Energy = Annotated[float, Range(low_open=True, high_open=True)]
_Fraction = Annotated[float, Range(low=0, high=1, low_open=True, high_open=True)]


@dataclass(frozen=True)
class Conditions:
    """How a config wants the energies of species to be found.

    Attributes:
        fixed: Energies that are given, eV by species; the others are found beside them.
        compounds: ``{formula: energy of the formula, eV}``, None where the data tell it: then it is the lowest energy
            per atom of the frames with this composition. ``auto``: every composition in the data, each with its
            lowest energy. None: all frames, by least squares.
        subset: So many frames, or this fraction of them, drawn at random; all by default.
        seed: Seed of the draw.
    """

    fixed: Mapping[str, float] = dataclasses.field(default_factory=dict)
    compounds: Mapping[str, float | None] | str | None = None
    subset: float | None = None
    seed: int = 0

    @classmethod
    def read(cls, section: Mapping[str, Any]) -> Conditions:
        """Read ``data.reference_energies`` where it is such a mapping.

        Raises:
            ConfigError: If a key is unknown, or a value cannot be meant.

        Example:
            >>> Conditions.read({"compounds": ["H2O", "O2"], "fixed": {"C": -1029.5}})
            Conditions(fixed={'C': -1029.5}, compounds={'H2O': None, 'O2': None}, subset=None, seed=0)
        """
        for key in section:
            check_key(_SECTION, key, KEYS)
        fixed, subset = section.get("fixed") or {}, section.get("subset")
        check(f"{_SECTION}.fixed", fixed, Mapping[str, Any])
        if fixed:
            checked_species([str(name) for name in fixed])
        for name, energy in fixed.items():
            check(f"{_SECTION}.fixed.{name}", energy, _Energy)
        if subset is not None:
            check(f"{_SECTION}.subset", subset, _Fraction if isinstance(subset, float) else Count)
        check(f"{_SECTION}.seed", seed := section.get("seed", 0), NotNegative)
        energies = {str(name): float(energy) for name, energy in fixed.items()}
        return cls(energies, _read_compounds(section.get("compounds")), subset, seed)

    @property
    def rule(self) -> str:
        """Name of the rule, for tables."""
        return "least_squares" if self.compounds is None else "reference_compounds"

    def solve(self, table: FrameTable, names: Sequence[str]) -> tuple[dict[str, float], str]:
        """Find the energies.

        Each composition (or frame) is an equation: fractions ``x`` of the species times their energies are its energy
        per atom, ``sum_s x_s e_s = E / n``. Energies that are given go to the right side. As many independent
        equations as species are met exactly; more by least squares.

        Args:
            table: The frames.
            names: Species that need an energy.

        Returns:
            ``{species: energy}``, eV, and what they come from, in one sentence.

        Raises:
            ConfigError: If no composition tells the energy of a species.
            DataError: If no frame has the composition of a compound, or none an energy.

        Example:
            A2B has the energy ``2 a + b = -7``, B2 has ``2 b = -10``: a is -1 and b is -5.

            >>> from nequip_like.data.tables.frame_table import tabulate
            >>> conditions = Conditions.read({"compounds": {"H2O": -7.0, "O2": -10.0}})
            >>> energies, origin = conditions.solve(tabulate([]), ["H", "O"])
            >>> {name: round(energy, 6) for name, energy in energies.items()}, origin
            ({'H': -1.0, 'O': -5.0}, 'from H2O, O2')
        """
        table, drawn = self._draw(table)
        fractions, energies, titles = self._collect_equations(table, names)
        fixed = {name: self.fixed[name] for name in names if name in self.fixed}
        unknown = [name for name in names if name not in self.fixed]
        is_unknown = np.array([name not in self.fixed for name in names], dtype=bool)
        fixed_energies = np.array([fixed.get(name, 0.0) for name in names])
        origin = self._describe(titles, fixed, drawn)
        if not unknown:
            return fixed, origin
        sides = fractions[:, is_unknown]
        if undetermined := find_undetermined(sides, unknown):
            equations = f"the compounds {', '.join(titles)}" if titles else f"{len(table)} frames with an energy"
            raise ConfigError(
                f"{_SECTION}: the energies of {', '.join(undetermined)} do not follow from {equations}",
                "add compounds or frames with other proportions of these species, or give their energies: "
                f"{_SECTION}.fixed={{{undetermined[0]}: ENERGY IN EV}}",
            )
        solution = np.linalg.lstsq(sides, energies - fractions @ fixed_energies, rcond=None)[0]
        values = fixed | dict(zip(unknown, solution.tolist(), strict=True))
        return {name: values[name] for name in names}, origin

    def _draw(self, table: FrameTable) -> tuple[FrameTable, str]:
        """The frames with an energy, or those of them that are drawn, and how many these are, in words."""
        labelled = np.flatnonzero(table.find_labelled(fields.TOTAL_ENERGY))
        if self.subset is None:
            return table.select(labelled), ""
        size = int(self.subset * len(labelled)) if isinstance(self.subset, float) else self.subset
        size = min(max(int(size), 1), len(labelled))
        sample = np.sort(np.random.default_rng(self.seed).permutation(labelled)[:size])
        return table.select(sample), f"{size} of {len(labelled)} frames, drawn at random"

    def _collect_equations(self, table: FrameTable, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Fractions (equations, species), energies per atom (equations,), and the compounds that they are of."""
        if self.compounds is None:
            if not len(table):
                raise DataError("no frame has an energy to fit reference energies to", f"write {_SECTION}: null")
            equations = set_up_equations(table, names)
            return equations.composition, equations.energies, []
        lowest = find_lowest_energies(table) if self.compounds == AUTO else self._look_up_compounds(table)
        if not lowest:
            raise DataError(f"{_SECTION}: no frame has an energy to find compounds by", "give their energies")
        for formula in lowest:
            if foreign := [symbol for symbol in Formula(formula).count() if symbol not in names]:
                raise ConfigError(
                    f"{_SECTION}.compounds: {formula} has {foreign[0]}, which is no species of the training data",
                    f"leave it out; the species are {', '.join(names)}",
                )
        counts = [Formula(formula).count() for formula in lowest]
        fractions = [[count.get(name, 0) / sum(count.values()) for name in names] for count in counts]
        return np.array(fractions), np.array(list(lowest.values())), list(lowest)

    def _look_up_compounds(self, table: FrameTable) -> dict[str, float]:
        """``{formula: energy per atom}`` of the compounds, from the data where the config does not tell it."""
        compounds = self.compounds if isinstance(self.compounds, Mapping) else {}
        of_data = find_lowest_energies(table) if None in compounds.values() else {}
        lowest: dict[str, float] = {}
        for formula, energy in compounds.items():
            if energy is not None:
                lowest[formula] = energy / sum(Formula(formula).count().values())
                continue
            reduced = reduce_formula(Formula(formula).count())
            if reduced not in of_data:
                raise DataError(
                    f"{_SECTION}.compounds: no training frame with an energy has the composition of {formula}",
                    f"give its energy, {_SECTION}.compounds.{formula}=ENERGY IN EV, or leave it out",
                )
            lowest[formula] = of_data[reduced]
        return lowest

    def _describe(self, titles: Sequence[str], fixed: Mapping[str, float], drawn: str) -> str:
        parts = [f"from {', '.join(titles)}"] if titles else []
        parts += [f"{', '.join(fixed)} given"] if fixed else []
        parts += [drawn] if drawn else []
        return "; ".join(parts)


KEYS = tuple(entry.name for entry in dataclasses.fields(Conditions))


def find_undetermined(fractions: np.ndarray, names: Sequence[str]) -> list[str]:
    """Species whose energies could be moved without a change of any equation.

    Args:
        fractions: Left sides (equations, species).
        names: The species.

    Example:
        Of H2O and its multiples neither H nor O follows; C does, from its own equation.

        >>> find_undetermined(np.array([[0.0, 2 / 3, 1 / 3], [1.0, 0.0, 0.0]]), ["C", "H", "O"])
        ['H', 'O']
    """
    # The triangle has the same null space, and is small.
    triangle = np.linalg.qr(fractions, mode="r") if len(fractions) > len(names) else fractions
    _, sizes, directions = np.linalg.svd(triangle, full_matrices=True)
    rank = int((sizes > _SAME * max(1.0, sizes.max(initial=0.0))).sum())
    is_free = np.abs(directions[rank:]).max(axis=0, initial=0.0) > _SAME
    return [name for name, free in zip(names, is_free, strict=True) if free]


def find_lowest_energies(table: FrameTable) -> dict[str, float]:
    """``{formula: lowest energy per atom}`` of each composition, eV; H2O and H4O2 are the same one.

    Args:
        table: Frames with energies.
    """
    lowest: dict[str, float] = {}
    for formula, energy in _list_compositions(table):
        if energy < lowest.get(formula, math.inf):
            lowest[formula] = energy
    return lowest


def _list_compositions(table: FrameTable) -> Iterator[tuple[str, float]]:
    """Each composition of a block of frames, with its lowest energy per atom."""
    names = list(table.count_species())
    numbers = [number_of[name] for name in names]
    energies = table.energy / table.atoms
    for start in range(0, len(table), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(table)))
        fractions = np.round(table.compute_fractions(numbers, block), 9)
        _, firsts, kinds = np.unique(fractions, axis=0, return_index=True, return_inverse=True)
        lowest = np.full(len(firsts), np.inf)
        np.minimum.at(lowest, kinds.reshape(-1), energies[block])
        for first, energy in zip(firsts, lowest.tolist(), strict=True):
            part = table.select([int(block[first])])
            counts = {symbol_of[n]: int(count) for n, count in zip(part.number, part.count, strict=True)}
            yield reduce_formula(counts), energy


def reduce_formula(counts: Mapping[str, int]) -> str:
    """The smallest formula of a composition, elements by atomic number.

    Example:
        >>> reduce_formula({"O": 2, "H": 4})
        'H2O'
    """
    divisor = math.gcd(*counts.values())
    ordered = sorted(counts, key=number_of.__getitem__)
    return "".join(f"{name}{counts[name] // divisor if counts[name] > divisor else ''}" for name in ordered)


def _read_compounds(entry: Any) -> Mapping[str, float | None] | str | None:
    if entry is None or entry == AUTO:
        return entry
    if not isinstance(entry, Mapping) and (isinstance(entry, str) or not isinstance(entry, Sequence)):
        raise ConfigError(
            f"{_SECTION}.compounds is {entry!r}",
            "give formulas, [H2O, O2], with their energies, {H2O: -14.2, O2: -9.9}, or auto",
        )
    compounds: dict[str, float | None] = dict(entry) if isinstance(entry, Mapping) else dict.fromkeys(entry)
    if not compounds:
        raise ConfigError(f"{_SECTION}.compounds is empty", "give formulas: [H2O, O2], or auto")
    for formula, energy in compounds.items():
        try:
            count = Formula(formula).count() if isinstance(formula, str) else {}
        except ValueError:
            count = {}
        if not count:
            raise ConfigError(f"{_SECTION}.compounds: {formula!r} is no formula", "write it as H2O; put NO into quotes")
        checked_species(list(count))
        if energy is not None:
            check(f"{_SECTION}.compounds.{formula}", energy, _Energy)
    return compounds

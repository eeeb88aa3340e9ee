"""Reference energies: one energy per species that a model adds for each atom, so that it learns only what is left.

Total energies are large and mostly a sum over atoms. The rule by which the references were found is kept with them.
"""

from __future__ import annotations

import glob
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols as symbol_of

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.sources import below, file_source
from nequip_like.data.species import checked_species
from nequip_like.data.tables.conditions import KEYS, Conditions
from nequip_like.data.tables.equations import Equations, set_up_equations
from nequip_like.data.tables.frame_table import ISOLATED_DISTANCE, FrameTable, tabulate
from nequip_like.errors import ConfigError, DataError, closest_hint
from nequip_like.whole_files import path_of

Frames = Sequence[Graph] | FrameTable  # graphs, or what is known of them

_SAME_ENERGY = 1e-3  # eV; two isolated atoms of one species must agree to this
_FEW_FRAMES = 5  # a species in fewer of them takes up their errors instead of its own energy
_FEWEST_KNOWN = 3  # other species, to take an expectation from


@dataclass(frozen=True)
class ReferenceEnergies:
    """Reference energies and where they come from.

    Attributes:
        energies: eV per species.
        rule: ``user``, ``isolated_atoms``, ``least_squares``, ``reference_compounds`` or ``per_atom_energy_mean``.
        residual_rms: Root mean square of (energy - sum of references) / atoms over the frames they were found on,
            eV/atom; None if there are no such frames.
        note: Why this rule, in one sentence.
        warning: What is doubtful about the energies, in one sentence.
    """

    energies: dict[str, float]
    rule: str
    residual_rms: float | None = None
    note: str = ""
    warning: str = ""

    def describe(self) -> str:
        """One line for people: energies, rule and what is left.

        Example:
            >>> ReferenceEnergies({"H": -13.6, "O": -432.0}, "user", residual_rms=0.5).describe()
            "reference energies (eV) by rule 'user': H -13.600000, O -432.000000; what is left is 0.5000 eV/atom rms"
        """
        energies = ", ".join(f"{name} {energy:.6f}" for name, energy in self.energies.items())
        residual = "" if self.residual_rms is None else f"; what is left is {self.residual_rms:.4f} eV/atom rms"
        return f"reference energies (eV) by rule '{self.rule}': {energies}{residual}" + (
            f"; {self.note}" if self.note else ""
        )


def from_user(energies: Mapping[str, float], type_names: Sequence[str]) -> ReferenceEnergies:
    """Reference energies that the user gives, eV per chemical symbol.

    Raises:
        ConfigError: If a species lacks its energy, a name is no chemical symbol, or a value is no number.

    Example:
        >>> from_user({"H": -13.6, "O": -432.0}, ["H", "C", "O"])
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: reference_energies: no energy for C
          -> give one energy in eV for each of H, C, O
    """
    checked_species([str(name) for name in energies])
    if missing := [name for name in type_names if name not in energies]:
        raise ConfigError(
            f"reference_energies: no energy for {', '.join(missing)}",
            f"give one energy in eV for each of {', '.join(type_names)}",
        )
    values: dict[str, float] = {}
    for name in type_names:
        value = energies[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"reference_energies: {name} is {value!r}", "give a finite number in eV")
        values[name] = float(value)
    return ReferenceEnergies(values, "user")


def from_isolated_atoms(
    frames: Frames, type_names: Sequence[str], *, origins: Sequence[str] | None = None
) -> ReferenceEnergies:
    """Energies of isolated atoms; all other frames are left alone.

    Args:
        frames: Graphs; those that are isolated atoms with an energy are used.
        type_names: The species that need an energy.
        origins: File and frame of each graph, for messages.

    Raises:
        DataError: If a species has no isolated atom, or two that differ by more than 1 meV.
    """
    return _take_isolated(tabulate(frames), type_names, origins)


def _take_isolated(table: FrameTable, type_names: Sequence[str], origins: Sequence[str] | None) -> ReferenceEnergies:
    energies: dict[str, tuple[float, str]] = {}
    for i in _find_isolated(table):
        symbol, energy = _get_symbol(table, i), float(table.energy[i])
        origin = origins[i] if origins is not None else f"frame {i}"
        first_energy, first_origin = energies.setdefault(symbol, (energy, origin))
        if abs(first_energy - energy) > _SAME_ENERGY:
            raise DataError(
                f"two isolated {symbol} atoms have different energies: {first_energy:.6f} eV ({first_origin}) "
                f"and {energy:.6f} eV ({origin})",
                "keep one of them, or give reference_energies: {symbol: energy}",
            )
    if missing := [name for name in type_names if name not in energies]:
        raise DataError(
            f"no isolated atom (one atom, not periodic or images at least {ISOLATED_DISTANCE:g} Angstrom away, with "
            f"an energy) for {', '.join(missing)}",
            "add these frames, or write reference_energies: auto",
        )
    return ReferenceEnergies({name: energies[name][0] for name in type_names}, "isolated_atoms")


def fit_least_squares(frames: Frames, type_names: Sequence[str] | None = None) -> ReferenceEnergies:
    """Energies per species that reproduce the energies per atom best, in the sense of least squares.

    Minimises the sum over frames of ``((E - sum_s n_s e_s) / N)^2``. Where at least three species occur in five frames
    or more, those in fewer frames are held near to these by a further term ``(sigma / tau)^2 (e_s - m)^2``: ``m`` and
    ``tau`` are mean and standard deviation of the energies of the others, ``sigma`` the standard deviation of the
    energy per atom from the plain fit. This is the most likely energy if ``m`` and ``tau`` are what one expects of it
    (ridge regression; Hoerl and Kennard, Technometrics 12, 55, 1970). A fit that leaves nothing over is not changed.

    Args:
        frames: Graphs; those with an energy are used.
        type_names: Species; those that occur by default.

    Raises:
        DataError: If no frame has an energy, or the compositions do not tell the species apart.

    Example:
        H2O, H2 and O2 whose energies are sums of -1 eV for H and -5 eV for O: nothing is left over.

        >>> import torch
        >>> from ase import Atoms
        >>> from ase.build import molecule
        >>> from nequip_like.data.io.structures import graph_from_atoms
        >>> frames = [
        ...     {**graph_from_atoms(molecule(name)), "total_energy": torch.tensor([[energy]])}
        ...     for name, energy in (("H2O", -7.0), ("H2", -2.0), ("O2", -10.0))
        ... ]
        >>> fitted = fit_least_squares(frames)
        >>> {name: round(energy, 6) for name, energy in fitted.energies.items()}, round(fitted.residual_rms, 6)
        ({'H': -1.0, 'O': -5.0}, 0.0)
    """
    table = tabulate(frames)
    names = list(type_names) if type_names is not None else list(table.count_species())
    equations = set_up_equations(table, names)
    if equations.frames == 0:
        raise DataError("no frame has an energy to fit reference energies to", "write reference_energies: null")
    rare = equations.counts < _FEW_FRAMES
    if (~rare).sum() < _FEWEST_KNOWN or equations.frames <= len(names):
        rare[:] = False
    _check_told_apart(names, equations, rare)
    solution = np.linalg.lstsq(equations.composition, equations.energies, rcond=None)[0]
    warning = ""
    if rare.any():
        expected, spread = float(solution[~rare].mean()), max(float(solution[~rare].std(ddof=1)), _SAME_ENERGY)
        sigma = equations.compute_residual(solution) * math.sqrt(equations.frames / (equations.frames - len(names)))
        ridge = np.eye(len(names))[rare] * sigma / spread
        # What is left beside the expectation; of mixed equations it is no longer the energy less a number.
        goals = equations.energies - equations.composition @ np.full(len(names), expected)
        rows, goals = np.concatenate([equations.composition, ridge]), np.append(goals, np.zeros(len(ridge)))
        solution = expected + np.linalg.lstsq(rows, goals, rcond=None)[0]
        rare_species = ", ".join(
            f"{name} ({count})" for name, count, few in zip(names, equations.counts, rare, strict=True) if few
        )
        warning = (
            f"fewer than {_FEW_FRAMES} frames have {rare_species}: their reference energies are held near to the mean "
            f"of the other species, {expected:.2f} eV, within {spread:.2f} eV; add frames, or give reference_energies"
        )
    values = dict(zip(names, solution.tolist(), strict=True))
    return ReferenceEnergies(values, "least_squares", equations.compute_residual(solution), warning=warning)


def _check_told_apart(names: list[str], equations: Equations, rare: np.ndarray) -> None:
    """Refuse compositions from which the energies of the species that are not rare do not follow."""
    absent = [name for name, count in zip(names, equations.counts, strict=True) if count == 0]
    # What is held near to an expectation is determined by it.
    rank = int(np.linalg.matrix_rank(np.concatenate([equations.composition, np.eye(len(names))[rare]]), tol=1e-6))
    if rank < len(names):
        reason = f"no frame with an energy holds {', '.join(absent)}" if absent else (
            f"the compositions of {equations.frames} frames have only {rank} independent directions"
        )  # fmt: skip
        raise DataError(
            f"reference energies of {', '.join(names)} cannot be told apart: {reason}",
            "add isolated atoms or other compositions, give reference_energies: {symbol: energy}, or write "
            "reference_energies: auto, which then takes the mean energy per atom",
        )


def from_mean(frames: Frames, type_names: Sequence[str], note: str = "") -> ReferenceEnergies:
    """The mean energy per atom, for every species.

    Raises:
        DataError: If no frame has an energy.

    Example:
        -7 eV of three atoms and -2 eV of two: the mean of -7/3 and -1 for every species.

        >>> import torch
        >>> from ase.build import molecule
        >>> from nequip_like.data.io.structures import graph_from_atoms
        >>> frames = [
        ...     {**graph_from_atoms(molecule(name)), "total_energy": torch.tensor([[energy]])}
        ...     for name, energy in (("H2O", -7.0), ("H2", -2.0))
        ... ]
        >>> {name: round(energy, 4) for name, energy in from_mean(frames, ["H", "O"]).energies.items()}
        {'H': -1.6667, 'O': -1.6667}
    """
    table = tabulate(frames)
    labelled = np.flatnonzero(table.find_labelled(fields.TOTAL_ENERGY))
    if len(labelled) == 0:
        raise DataError("no frame has an energy to take reference energies from", "write reference_energies: null")
    mean = float((table.energy[labelled] / table.atoms[labelled]).mean())
    reference = ReferenceEnergies(dict.fromkeys(type_names, mean), "per_atom_energy_mean", note=note)
    return add_residual(reference, frames)


def auto(
    frames: Frames,
    type_names: Sequence[str],
    *,
    isolated: Frames = (),
    origins: Sequence[str] | None = None,
) -> ReferenceEnergies | None:
    """The first rule that the data allow: isolated atoms, least squares, the mean energy per atom.

    Args:
        frames: Training frames.
        type_names: Species.
        isolated: Frames to look for isolated atoms in, beside ``frames``.
        origins: File and frame of each graph of ``isolated`` and then of ``frames``, for messages.

    Returns:
        The reference energies; None if no frame has an energy.
    """
    tables = isolated, frames = tabulate(isolated), tabulate(frames)
    if not any(table.find_labelled(fields.TOTAL_ENERGY).any() for table in tables):
        return None
    covered = {_get_symbol(table, i) for table in tables for i in _find_isolated(table)}
    if covered >= set(type_names):
        return _take_isolated(FrameTable.join(tables), type_names, origins)
    try:
        return fit_least_squares(frames, type_names)
    except DataError as error:
        return _fit_near(from_mean(frames, type_names, note=f"because {error.message}"), frames)


def _fit_near(mean: ReferenceEnergies, frames: Frames) -> ReferenceEnergies:
    """Energies that follow from the frames where some do, as of two sets without a species in common; the mean else."""
    equations = set_up_equations(tabulate(frames), list(mean.energies))
    solution = equations.solve_near(next(iter(mean.energies.values())))
    residual = equations.compute_residual(solution)
    if mean.residual_rms is None or residual > (1 - _SAME_ENERGY) * mean.residual_rms:
        return mean
    values = dict(zip(mean.energies, solution.tolist(), strict=True))
    note = f"{mean.note}; of all that fit, these are nearest to the mean energy per atom"
    return ReferenceEnergies(values, "least_squares", residual, note=note)


def add_residual(reference: ReferenceEnergies, frames: Frames) -> ReferenceEnergies:
    """The same references, with what they leave over on the given frames."""
    equations = set_up_equations(tabulate(frames), list(reference.energies))
    if equations.frames == 0:
        return reference
    values = np.array(list(reference.energies.values()))
    return replace(reference, residual_rms=equations.compute_residual(values))


def _find_isolated(table: FrameTable) -> np.ndarray:
    """Indices of isolated atoms with an energy."""
    return np.flatnonzero(table.isolated & table.find_labelled(fields.TOTAL_ENERGY))


def _get_symbol(table: FrameTable, frame: int) -> str:
    """Chemical symbol of a frame of one atom."""
    return symbol_of[int(table.number[table.first_groups[frame]])]


RULES = ("auto", "isolated_atoms", "least_squares")

Choice = str | Path | Mapping[str, Any] | None


def is_rule(choice: Choice) -> bool:
    """Whether the choice is the name of a rule, not a file or the energies themselves."""
    return isinstance(choice, str) and choice in RULES


def names_file(choice: Choice) -> bool:
    """Whether the choice is a file with isolated atoms."""
    if isinstance(choice, Mapping):
        return bool({"file", "path"} & set(choice))
    return choice is not None and not is_rule(choice)


def has_conditions(choice: Choice) -> bool:
    """Whether the choice is a mapping of conditions: compounds, energies that are given, a part of the frames."""
    return isinstance(choice, Mapping) and bool(set(KEYS) & set(choice))


def references_below(folder: str | Path | None, choice: Choice) -> Choice:
    """The choice, with a relative file name put below ``folder``."""
    return choice if is_rule(choice) or has_conditions(choice) else below(folder, choice)


def uses_isolated_frames(choice: Choice, table: FrameTable, type_names: Sequence[str]) -> bool:
    """Whether the isolated atoms among training frames become the references (and are then not trained on)."""
    if choice not in ("auto", "isolated_atoms"):
        return False
    species = {_get_symbol(table, i) for i in _find_isolated(table)}
    return choice == "isolated_atoms" or species >= set(type_names)


def choose(
    choice: Choice,
    frames: Frames,
    type_names: Sequence[str],
    *,
    isolated: Frames = (),
    origins: Sequence[str] | None = None,
    key_mapping: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
) -> ReferenceEnergies | None:
    """Find the reference energies.

    Args:
        choice: A rule (``auto``, ``isolated_atoms``, ``least_squares``), energies ``{symbol: eV}``, a file with
            isolated atoms (or ``{file: ..., key_mapping: ..., units: ...}``), conditions ``{compounds: ..., fixed:
            ..., subset: ...}`` (see :class:`~nequip_like.data.tables.conditions.Conditions`), or None.
        frames: Training frames.
        type_names: Species.
        isolated: Isolated atoms taken out of the training frames.
        origins: File and frame of each graph of ``isolated`` and then of ``frames``, for messages.
        key_mapping: For a file without its own.
        units: For a file without its own.

    Returns:
        The reference energies with what they leave over on ``frames``; None without any.

    Raises:
        ConfigError: If ``choice`` cannot be understood or lacks a species.
        DataError: If the rule cannot be followed.
    """
    if choice is None:
        return None
    isolated, frames = tabulate(isolated), tabulate(frames)
    reference: ReferenceEnergies | None
    if isinstance(choice, Mapping) and has_conditions(choice):
        conditions = Conditions.read(choice)
        energies, note = conditions.solve(FrameTable.join([isolated, frames]), type_names)
        reference = ReferenceEnergies(energies, conditions.rule, note=note)
    elif isinstance(choice, Mapping) and not ({"file", "path"} & set(choice)):
        reference = from_user(choice, type_names)
    elif choice == "auto":
        reference = auto(frames, type_names, isolated=isolated, origins=origins)
    elif choice == "isolated_atoms":
        reference = _take_isolated(FrameTable.join([isolated, frames]), type_names, origins)
    elif choice == "least_squares":
        reference = fit_least_squares(frames, type_names)
    else:
        check_reference_file(choice)
        energy_names = {name: label for name, label in (key_mapping or {}).items() if label == fields.TOTAL_ENERGY}
        reading = file_source(choice, "reference_energies", energy_names, units).read()
        reference = from_isolated_atoms(reading.frames, type_names, origins=reading.origins)
    return None if reference is None else add_residual(reference, frames)


def check_reference_file(choice: object) -> None:
    """Refuse a string that is neither a rule nor a file: most likely a rule with a typing mistake.

    Raises:
        ConfigError: Naming it.
    """
    if not isinstance(choice, str) or path_of(choice).exists() or glob.glob(choice):
        return
    hint = closest_hint(choice, RULES)
    raise ConfigError(
        f"reference_energies: '{choice}' is no rule and no file ({Path(choice).absolute()})",
        f"{hint}write one of {', '.join(RULES)}, null, a file with isolated atoms, or {{symbol: energy in eV}}",
    )

"""Has a crystal an equilibrium volume, and how stiff is it there?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from nequip_like.report.units import GPA
from nequip_like.workflow.checks.derivatives import compare_stress
from nequip_like.workflow.checks.outcome.verdicts import WARN_FACTOR, CheckPlot, CheckVerdict, judge_value, skip_check
from nequip_like.workflow.checks.subject import CheckedModel, NamedStructure

NAME = "eos"
_COARSE = np.linspace(0.86, 1.18, 17)  # lengths over those of the structure
_FINE = np.linspace(0.97, 1.03, 11)  # lengths over those at the minimum
_SETTLED, _MOST_STEPS = 0.002, 200  # eV/Angstrom
_RESIDUAL = 1.0  # meV/atom
_NO_CRYSTAL = "no frame of the data is a crystal: bonded in three dimensions, with at most 64 atoms"
_NO_MADE = "no species of the model is an element with a simple crystal; give DATA with crystals"
MADE_ADVICE = (
    "the crystal was made, and the model may never have seen one like it: give DATA with crystals that it is meant for"
)
_ADVICE = (
    "add frames of this crystal at other volumes (strained by 5 % and more, both ways), with stress if there is one"
)


@dataclass(frozen=True)
class EquationOfState:
    """The energy of a crystal over its volume.

    Attributes:
        atoms: The crystal with its atoms and its cell at a minimum of the energy.
        at_minimum: Whether it has come there.
        volumes: Shape (points,), Angstrom^3.
        energies: Shape (points,), eV.
        bulk_modulus: GPa.
        residual: How far energies are off the Birch-Murnaghan equation, eV; the RMS.
        stretch: Length of the cell over that of the structure it began as.
    """

    atoms: Atoms
    at_minimum: bool
    volumes: np.ndarray
    energies: np.ndarray
    bulk_modulus: float
    residual: float
    stretch: float


def explain_absence(model: CheckedModel) -> str:
    """Why crystals cannot be asked; empty if they can."""
    if not model.crystals:
        return _NO_MADE if model.data is None else _NO_CRYSTAL
    if not model.has_forces:
        return "the model predicts energies only (do_derivatives is false)"
    if any(compare_stress(model, sample).excess > WARN_FACTOR for sample in model.crystals):
        return "stress is not the derivative of the energy (see stress), so cells cannot be relaxed"
    return ""


def find_settled(model: CheckedModel, sample: NamedStructure) -> Atoms | str:
    """The crystal at a minimum of its energy, or why there is none."""
    equation = find_equation(model, sample)
    if equation is None:
        return "the crystal has no equilibrium volume (see eos)"
    if not equation.at_minimum:
        return f"the crystal has not come to a minimum of its energy in {_MOST_STEPS} steps"
    return equation.atoms


def ask_equation_of_state(model: CheckedModel) -> Iterator[CheckVerdict | CheckPlot]:
    """Fit the Birch-Murnaghan equation to energies over volumes."""
    reason = explain_absence(model)
    if reason:
        yield skip_check(NAME, reason)
        return
    curves = {}
    for sample in model.crystals:
        advice = MADE_ADVICE if sample.is_made else _ADVICE
        equation = find_equation(model, sample)
        if equation is None:
            text = f"the energy of {sample.name} has no minimum between 0.64 and 1.64 of its volume"
            yield judge_value(NAME, sample.name, float("nan"), 0.0, "GPa", text, advice, fails=not sample.is_made)
            continue
        atoms = len(sample.atoms)
        text = (
            f"equilibrium at {equation.atoms.get_volume() / atoms:.2f} Å³/atom, "
            f"bulk modulus {equation.bulk_modulus:.1f} GPa (cell {100 * (equation.stretch - 1):+.1f} % in length"
            f"{')' if equation.at_minimum else '; not yet at a minimum)'}"
        )
        bulk: dict[str, Any] = {"at_least": True, "warn_to": 0.0, "fails": not sample.is_made}
        yield judge_value(NAME, f"{sample.name}: bulk modulus", equation.bulk_modulus, 0.0, "GPa", text, advice, **bulk)
        residual = 1000 * equation.residual / atoms
        limit = _RESIDUAL + 5000 * model.measure_noise(sample.atoms).energy / atoms
        text = f"energies are off the Birch-Murnaghan equation by {residual:.2g} meV/atom"
        yield judge_value(
            NAME, f"{sample.name}: fit", residual, limit, "meV/atom", text, advice, fails=not sample.is_made
        )
        lowest = equation.energies.min()
        curves[sample.name] = [
            (volume / atoms, 1000 * (energy - lowest) / atoms)
            for volume, energy in zip(equation.volumes.tolist(), equation.energies.tolist(), strict=True)
        ]
    if curves:
        yield CheckPlot(NAME, "energy over volume", "volume (Å³/atom)", "energy (meV/atom)", curves)


def find_equation(model: CheckedModel, sample: NamedStructure) -> EquationOfState | None:
    """The equation of state of a crystal; None if its energy has no minimum near its volume. Found once."""
    if sample.name not in model.equations:
        model.equations[sample.name] = _find_equation(model, sample.atoms)
    equation: EquationOfState | None = model.equations[sample.name]
    return equation


def _find_equation(model: CheckedModel, crystal: Atoms) -> EquationOfState | None:
    energies = model.energies([_scale_cell(crystal, factor) for factor in _COARSE])
    lowest = int(np.argmin(energies)) if np.isfinite(energies).all() else 0
    if lowest in (0, len(_COARSE) - 1):
        return None
    # Only where no stress is left is the second derivative by strain a question of stability.
    start = _scale_cell(crystal, _COARSE[lowest])
    atoms, at_minimum = model.relax(start, _SETTLED, _MOST_STEPS, with_cell=True)
    fine = [_scale_cell(atoms, factor) for factor in _FINE]
    volumes, energies = np.array([structure.get_volume() for structure in fine]), model.energies(fine)
    volume, bulk_modulus, residual = fit_birch_murnaghan(volumes, energies)
    if not volumes[0] <= volume <= volumes[-1]:
        return None
    stretch = (atoms.get_volume() / crystal.get_volume()) ** (1 / 3)
    return EquationOfState(atoms, at_minimum, volumes, energies, GPA * bulk_modulus, residual, stretch)


def fit_birch_murnaghan(volumes: np.ndarray, energies: np.ndarray) -> tuple[float, float, float]:
    """Fit the Birch-Murnaghan equation of third order: a cubic polynomial in ``V^(-2/3)``.

    Args:
        volumes: Shape (points,), Angstrom^3.
        energies: Shape (points,), eV.

    Returns:
        Volume of lowest energy (NaN if the fit has none), bulk modulus in eV/Angstrom^3, RMS of the residual in eV.

    Example:
        >>> x0, volumes = 40.0 ** (-2 / 3), np.linspace(36.0, 44.0, 9)
        >>> found = fit_birch_murnaghan(volumes, 9.0 * 40.0 * (volumes ** (-2 / 3) / x0 - 1) ** 2)
        >>> round(found[0], 6), round(found[1], 6), found[2] < 1e-9
        (40.0, 8.0, True)
    """
    x = volumes ** (-2 / 3)
    centre, width = x.mean(), np.ptp(x) / 2
    scaled = (x - centre) / width
    polynomial = np.polynomial.Polynomial.fit(scaled, energies, 3, domain=[-1, 1])
    residual = float(np.sqrt(np.mean((polynomial(scaled) - energies) ** 2)))
    constant, linear, quadratic = map(float, polynomial.deriv().coef)
    discriminant = linear**2 - 4 * constant * quadratic
    if linear <= 0 or discriminant <= 0:
        return float("nan"), float("nan"), residual
    bend = np.sqrt(discriminant)  # the slope of the derivative where it is zero and rising
    # So written, the zero is exact also where the third power has no share.
    minimum = -2 * constant / (linear + bend)
    x_minimum = centre + width * minimum
    if x_minimum <= 0:
        return float("nan"), float("nan"), residual
    volume = float(x_minimum**-1.5)
    return volume, float(4 / 9 * bend / width**2 * volume ** (-7 / 3)), residual


def _scale_cell(atoms: Atoms, factor: float) -> Atoms:
    scaled = atoms.copy()
    scaled.set_cell(factor * atoms.cell.array, scale_atoms=True)
    return scaled

"""Does the total energy stay what it is while atoms move without a thermostat?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from ase import Atoms, units
from ase.md.velocitydistribution import Stationary, thermalize_momenta
from ase.md.verlet import VelocityVerlet

from nequip_like.errors import ModelError
from nequip_like.workflow.checks.outcome.verdicts import CheckPlot, CheckVerdict, judge_value, skip_check
from nequip_like.workflow.checks.subject import CheckedModel, NamedStructure

NAME = "drift"
_TIME_STEP, _LIGHT_TIME_STEP = 1.0, 0.5  # fs; the light one where there is hydrogen
_LIMIT = 2.0  # meV/atom/ps
_SETTLING = 0.2  # share of the run that is left out: velocity Verlet's energy settles first
_PERIOD = 30.0  # fs: an oscillation of the energy takes about so long
_FEWEST_ATOMS = 8  # of a crystal
_TOO_HOT = 20.0  # times the temperature that it began with
_ADVICE = (
    "energy is not conserved: look at forces, cutoff and bonds above first; if they pass, halve the time step, or the"
    " structure is one that the model does not hold together"
)


def ask_drift(model: CheckedModel) -> Iterator[CheckVerdict | CheckPlot]:
    """Run short dynamics at constant energy, and fit a line to the total energy."""
    if not model.has_forces:
        yield skip_check(NAME, "the model predicts energies only (do_derivatives is false)")
        return
    samples = _choose_structures(model)
    if not samples:
        yield skip_check(NAME, "all frames of the data are single atoms")
        return
    curves = {}
    for sample in samples:
        try:
            times, energies = _run_dynamics(model, sample)
        except ModelError as error:
            if sample.is_made:
                yield skip_check(
                    NAME, f"{sample.name}: {error.message}; give DATA that the model is meant for", sample.name
                )
                continue
            text = f"the dynamics of {sample.name} ended: {error.message}"
            yield judge_value(NAME, sample.name, float("inf"), _LIMIT, "meV/atom/ps", text, _ADVICE)
            continue
        slope, uncertainty = fit_slope(times, energies)
        text = (
            f"{slope:+.3g} meV/atom/ps in {times[-1]:.2f} ps of {sample.name} from {model.settings.temperature:g} K, "
            f"oscillating by {np.std(energies - np.polyval(np.polyfit(times, energies, 1), times)):.2g} meV/atom"
        )
        limit = _LIMIT + 2 * uncertainty
        yield judge_value(NAME, sample.name, abs(slope), limit, "meV/atom/ps", text, _ADVICE)
        curves[sample.name] = list(zip(times.tolist(), energies.tolist(), strict=True))
    if curves:
        yield CheckPlot(NAME, "total energy without a thermostat", "time (ps)", "energy (meV/atom)", curves)


def fit_slope(times: np.ndarray, energies: np.ndarray) -> tuple[float, float]:
    """The slope of energies over time, and how uncertain their oscillation makes it.

    Args:
        times: Shape (points,), ps.
        energies: Shape (points,), meV/atom.

    Returns:
        Both in meV/atom/ps.

    Example:
        >>> t = np.linspace(0.0, 1.0, 101)
        >>> slope, uncertainty = fit_slope(t, 3.0 * t)
        >>> round(slope, 9), uncertainty < 1e-9
        (3.0, True)
    """
    line = np.polyfit(times, energies, 1)
    spread = float(np.std(energies - np.polyval(line, times)))
    length = float(times[-1] - times[0])
    oscillations = max(1.0, 1000 * length / _PERIOD)
    return float(line[0]), spread * float(np.sqrt(12.0 / oscillations)) / length


def _choose_structures(model: CheckedModel) -> list[NamedStructure]:
    """The smallest molecule and the smallest periodic structure; of made ones, the crystal of an element."""
    # An atom alone does not move.
    of_data = [n for n in model.structures if not (n.is_made and n.is_crystal) and (len(n.atoms) > 1 or n.is_crystal)]
    offered = of_data + [n for n in model.crystals if n.is_made]
    samples = []
    for kind in (False, True):
        of_kind = [sample for sample in offered if sample.is_crystal is kind]
        if of_kind:
            samples.append(min(of_kind, key=lambda sample: len(sample.atoms)))
    return samples


def _run_dynamics(model: CheckedModel, sample: NamedStructure) -> tuple[np.ndarray, np.ndarray]:
    """Times in ps, and the total energy in meV per atom over its first value."""
    atoms: Atoms = model.relax(sample.atoms)[0] if sample.is_made else sample.atoms.copy()
    if sample.is_crystal and len(atoms) < _FEWEST_ATOMS:
        atoms = atoms.repeat(2)
    atoms.calc = model.calculator
    temperature = model.settings.temperature
    thermalize_momenta(atoms, temperature, rng=np.random.default_rng(model.settings.seed))
    Stationary(atoms)
    step = _LIGHT_TIME_STEP if 1 in atoms.numbers else _TIME_STEP
    dynamics = VelocityVerlet(atoms, step * units.fs)
    total = round(1000 * model.settings.picoseconds / step)
    # What falls into a minimum heats up; it may by what it has, and blows up with more.
    hottest = _TOO_HOT * max(temperature, 300.0)
    energies: list[float] = []
    for _ in dynamics.irun(total):
        if not atoms.get_temperature() <= hottest:
            raise ModelError(f"after {len(energies) * step:g} fs the atoms are hotter than {hottest:g} K", "see above")
        energies.append(atoms.get_total_energy())
    times = step * np.arange(len(energies)) / 1000
    settled = slice(round(_SETTLING * len(energies)), None)
    energies_per_atom = 1000 * (np.array(energies) - energies[0]) / len(atoms)
    return times[settled], energies_per_atom[settled]

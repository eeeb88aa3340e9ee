"""Are forces and stress the derivatives of the energy? Central differences of fourth order tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from ase import Atoms

from nequip_like.testing.derivatives import displace_coordinates, strain_symmetrically
from nequip_like.workflow.checks.cutoff import measure_gaps
from nequip_like.workflow.checks.outcome.verdicts import CheckVerdict, judge_value, skip_check
from nequip_like.workflow.checks.subject import CheckedModel, NamedStructure, Noise

FORCES_NAME, STRESS_NAME = "forces", "stress"
_MOST_COORDINATES = 24  # of a structure
_SHARE = 1e-3  # of the largest derivative, at least of 1 eV/Angstrom or 1 eV
_NOISE = 5.0  # standard deviations of what rounding makes of a difference
_ALIKE = 0.02
_FORCE_ADVICE = (
    "energy and forces do not belong together, so energy is not conserved and relaxations end anywhere: let forces be"
    " autograd's derivative of the energy (no detach(), no forces of their own); with a built-in family try"
    " kernel=reference, and report it"
)
_STRESS_ADVICE = (
    "stress has to be dE/dstrain / volume, positive under tension: mend the sign or unit in the model, and do no"
    " dynamics at constant pressure and no relaxation of cells before"
)


def ask_forces(model: CheckedModel) -> Iterator[CheckVerdict]:
    """Compare forces with finite differences of the energy."""
    if not model.has_forces:
        yield skip_check(FORCES_NAME, "the model predicts energies only (do_derivatives is false)")
        return
    rng = np.random.default_rng(model.settings.seed)
    found = []
    for sample in model.structures:
        noise = model.measure_noise(sample.atoms)
        step, free = _choose_atoms(model, sample.atoms, noise)
        usable = (3 * free[:, None] + np.arange(3)).ravel()
        coordinates = sorted(rng.choice(usable, min(len(usable), _MOST_COORDINATES), replace=False).tolist())
        predicted = model.forces([sample.atoms])[0]
        near, far = (
            -_differentiate(model, displace_coordinates(sample.atoms, width, coordinates), width)
            for width in (step, 2 * step)
        )
        limit = _SHARE * max(1.0, float(np.abs(predicted).max())) + _NOISE * noise.energy / step
        found.append(
            DerivativeComparison(predicted.reshape(-1)[coordinates], (4 * near - far) / 3, limit, sample.name, step)
        )
    yield _judge_worst(FORCES_NAME, found, "eV/Å", _FORCE_ADVICE)


def ask_stress(model: CheckedModel) -> Iterator[CheckVerdict]:
    """Compare stress with finite differences of the energy under strain; as energies, that is times the volume."""
    crystals = [sample for sample in model.structures if sample.is_crystal]
    if not model.has_forces or not crystals:
        reason = "no frame of the data is periodic in all directions" if model.has_forces else "the model predicts none"
        yield skip_check(STRESS_NAME, reason)
        return
    found = [compare_stress(model, sample) for sample in crystals]
    yield _judge_worst(STRESS_NAME, found, "eV", _STRESS_ADVICE)


class DerivativeComparison(NamedTuple):
    """Derivatives of a structure, predicted and by finite differences.

    Attributes:
        predicted: Any shape, eV/Angstrom or eV.
        numerical: The same shape.
        limit: How far they may be apart.
        where: What messages call the structure.
        step: Of the differences, Angstrom or strain.
    """

    predicted: np.ndarray
    numerical: np.ndarray
    limit: float
    place: str
    step: float

    @property
    def excess(self) -> float:
        """The largest difference over the limit."""
        difference = float(np.abs(self.predicted - self.numerical).max())
        return difference / self.limit if np.isfinite(difference) else np.inf


def compare_stress(model: CheckedModel, sample: NamedStructure) -> DerivativeComparison:
    """Volume times stress of a crystal, predicted and by finite differences, eV. Computed once."""
    if sample.name not in model.stress_comparisons:
        model.stress_comparisons[sample.name] = _compare_stress(model, sample)
    found: DerivativeComparison = model.stress_comparisons[sample.name]
    return found


def _compare_stress(model: CheckedModel, sample: NamedStructure) -> DerivativeComparison:
    noise = model.measure_noise(sample.atoms)
    # A strain moves neighbours at 3 Angstrom by the step of forces, and those at the cutoff not across it.
    gap = float(measure_gaps(model, sample.atoms).min())
    step = min(noise.best_step / 3, max(noise.smallest_step, gap / (2 * model.potential.cutoff + 2 * gap)))
    predicted = sample.atoms.get_volume() * model.stresses([sample.atoms])[0]
    near, far = (
        _differentiate(model, strain_symmetrically(sample.atoms, width), width).reshape(3, 3)
        for width in (step, 2 * step)
    )
    limit = _SHARE * max(1.0, float(np.abs(predicted).max())) + _NOISE * noise.energy / step
    return DerivativeComparison(predicted, (4 * near - far) / 3, limit, sample.name, step)


def _choose_atoms(model: CheckedModel, atoms: Atoms, noise: Noise) -> tuple[float, np.ndarray]:
    """The step of differences, and the atoms that it takes across nobody's cutoff: half of them at least, if possible.

    Where a model jumps at its cutoff, the check of the cutoff says so; its forces can be right nevertheless.
    """
    gaps = measure_gaps(model, atoms)
    step = max(noise.smallest_step, min(noise.best_step, float(np.median(gaps)) / 2))
    free = np.flatnonzero(gaps >= 2 * step)
    return step, free if len(free) else np.arange(len(atoms))


def _differentiate(model: CheckedModel, structures: list[Atoms], step: float) -> np.ndarray:
    """``(E(+) - E(-)) / 2h`` of structures that alternate between plus and minus."""
    energies = model.energies(structures).reshape(-1, 2)
    return (energies[:, 0] - energies[:, 1]) / (2 * step)


def _judge_worst(name: str, found: list[DerivativeComparison], unit: str, advice: str) -> CheckVerdict:
    """The verdict on the structure whose difference is largest for its limit; one that is not finite is that."""
    worst = max(found, key=lambda comparison: comparison.excess)
    predicted, numerical, limit, place, step = worst
    difference = float(np.abs(predicted - numerical).max())
    quantity = "volume times stress" if name == STRESS_NAME else "force"
    text = (
        f"{quantity} of {place}: off by {difference:.2e} of {np.abs(numerical).max():.3g} {unit} (steps of {step:.1e})"
    )
    if difference > limit:
        text += _describe_factor(predicted, numerical)
    return judge_value(
        name, "1 structure" if len(found) == 1 else f"{len(found)} structures", difference, limit, unit, text, advice
    )


def _describe_factor(predicted: np.ndarray, numerical: np.ndarray) -> str:
    """Whether the prediction is a multiple of what it should be."""
    square = float((numerical**2).sum())
    factor = float((predicted * numerical).sum()) / square if square else 0.0
    if not np.abs(predicted - factor * numerical).max() <= _ALIKE * np.abs(predicted).max():
        return ""
    if abs(factor + 1) <= _ALIKE:
        return "; it has the other sign"
    return f"; it is {factor:.4g} times what it should be"

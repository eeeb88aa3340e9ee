"""Are forces and stress the derivatives of the energy? Central differences of fourth order tell."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nequip_like.data import fields
from nequip_like.testing.derivatives import numerical_forces, numerical_stress
from nequip_like.testing.structures import predict
from nequip_like.workflow.checks.outcome.verdicts import CheckVerdict, judge_value, skip_check
from nequip_like.workflow.checks.subject import CheckedModel

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
    for named in model.structures:
        noise = model.measure_noise(named.atoms)
        step = model.choose_step(noise)
        size = 3 * len(named.atoms)
        coordinates = sorted(rng.choice(size, min(size, _MOST_COORDINATES), replace=False).tolist())
        predicted = predict(model.potential, named.atoms)[fields.FORCES].numpy()
        near, far = (
            numerical_forces(model.potential, named.atoms, width, coordinates).numpy() for width in (step, 2 * step)
        )
        limit = _SHARE * max(1.0, float(np.abs(predicted).max())) + _NOISE * noise.energy / step
        found.append((predicted.reshape(-1)[coordinates], (4 * near - far) / 3, limit, named.name, step))
    yield _judge_worst(FORCES_NAME, found, "eV/Å", _FORCE_ADVICE)


def ask_stress(model: CheckedModel) -> Iterator[CheckVerdict]:
    """Compare stress with finite differences of the energy under strain; as energies, that is times the volume."""
    crystals = [named for named in model.structures if named.is_crystal]
    if not model.has_forces or not crystals:
        reason = "no frame of the data is periodic in all directions" if model.has_forces else "the model predicts none"
        yield skip_check(STRESS_NAME, reason)
        return
    found = []
    for named in crystals:
        noise = model.measure_noise(named.atoms)
        step = model.choose_step(noise) / 3  # a strain, which moves neighbours at 3 Angstrom by that step
        volume = named.atoms.get_volume()
        predicted = volume * predict(model.potential, named.atoms)[fields.STRESS].numpy()
        near, far = (
            volume * numerical_stress(model.potential, named.atoms, width).numpy() for width in (step, 2 * step)
        )
        limit = _SHARE * max(1.0, float(np.abs(predicted).max())) + _NOISE * noise.energy / step
        found.append((predicted, (4 * near - far) / 3, limit, named.name, step))
    yield _judge_worst(STRESS_NAME, found, "eV", _STRESS_ADVICE)


def _judge_worst(
    name: str, found: list[tuple[np.ndarray, np.ndarray, float, str, float]], unit: str, advice: str
) -> CheckVerdict:
    """The verdict on the structure whose difference is largest for its limit; one that is not finite is that."""

    def measure_excess(entry: tuple[np.ndarray, np.ndarray, float, str, float]) -> float:
        difference = float(np.abs(entry[0] - entry[1]).max())
        return difference / entry[2] if np.isfinite(difference) else np.inf

    predicted, numerical, limit, where, step = max(found, key=measure_excess)
    difference = float(np.abs(predicted - numerical).max())
    what = "volume times stress" if name == STRESS_NAME else "force"
    text = f"{what} of {where}: off by {difference:.2e} of {np.abs(numerical).max():.3g} {unit} (steps of {step:.1e})"
    if difference > limit:
        text += _describe_factor(predicted, numerical)
    return judge_value(name, f"{len(found)} structures", difference, limit, unit, text, advice)


def _describe_factor(predicted: np.ndarray, numerical: np.ndarray) -> str:
    """Whether the prediction is a multiple of what it should be."""
    square = float((numerical**2).sum())
    factor = float((predicted * numerical).sum()) / square if square else 0.0
    if not np.abs(predicted - factor * numerical).max() <= _ALIKE * np.abs(predicted).max():
        return ""
    if abs(factor + 1) <= _ALIKE:
        return "; it has the other sign"
    return f"; it is {factor:.4g} times what it should be"

"""Are energies off by so much for each atom of a species? Then reference energies are missing, or are others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nequip_like.data import fields
from nequip_like.inference.predictor import Predictor
from nequip_like.testing.structures import device_of
from nequip_like.workflow.checks.outcome.verdicts import WARN_FACTOR, CheckPlot, CheckVerdict, judge_value, skip_check
from nequip_like.workflow.checks.subject import CheckedModel

NAME = "references"
_LIMIT = 10.0  # meV/atom
_CERTAINLY_SHIFTED = 1000.0  # meV/atom: no model is as poor
_FRAMES_PER_SHIFT = 3
_SCATTER = 3.0  # times what is left: a model that is poor anyway is not blamed for its references
_MOST_FRAMES, _MOST_ATOMS = 500, 50_000
_ATOMS_AT_A_TIME = 2000
_FAR_FROM_ZERO = 1.0  # eV
_ADVICE = (
    "energies are shifted by composition: the labels and the model have different reference energies. Train with"
    " reference_energies of the same calculations as the labels (statistics of the training data by default), or give"
    " DATA of the level of theory that the model was trained on"
)
_ZERO_ADVICE = "give reference_energies of all species in training, or check with DATA that has energies"


@dataclass(frozen=True)
class ShiftFit:
    """Errors of energies as sums of shifts of species.

    Attributes:
        shifts: What labels have more for an atom of each species, eV; the smallest shifts, where several would do.
        explained: RMS of what the shifts explain, eV/atom.
        remaining: What they leave, eV/atom; for as many frames as it takes to fit them.
        is_determined: Whether compositions tell the species apart.
        is_certain: Whether there are frames enough to tell shifts from errors that a poor model has.
    """

    shifts: np.ndarray
    explained: float
    remaining: float
    is_determined: bool
    is_certain: bool


def ask_references(model: CheckedModel) -> Iterator[CheckVerdict | CheckPlot]:
    """Fit the errors of energies by composition; without labels only look whether a species has no energy at all."""
    energies = _collect_energies(model)
    if energies is None:
        yield _judge_isolated(model, "no DATA" if model.data is None else "DATA has no energies")
        return
    labels, predicted, counts = energies
    fit = fit_shifts(labels - predicted, counts)
    value, remaining = 1000 * fit.explained, 1000 * fit.remaining
    limit = max(_LIMIT, _SCATTER * remaining)
    shift_list = ", ".join(
        f"{name} {shift:+.4g}" for name, shift in zip(model.potential.type_names, fit.shifts, strict=True)
    )
    text = (
        f"labels less predictions are {shift_list} eV per atom{'' if fit.is_determined else ' (one of several ways)'}, "
        f"{value:.4g} meV/atom in {len(labels)} frames; {remaining:.3g} meV/atom are left"
    )
    warn_to = max(WARN_FACTOR * _LIMIT if fit.is_certain else _CERTAINLY_SHIFTED, limit)
    yield judge_value(NAME, "shifts by species", value, limit, "meV/atom", text, _ADVICE, warn_to=warn_to)


def fit_shifts(errors: np.ndarray, counts: np.ndarray) -> ShiftFit:
    """Fit errors of energies by a shift of each species.

    Args:
        errors: Label less prediction, shape (frames,), eV.
        counts: Atoms of each species, shape (frames, species).

    Example:
        >>> counts = np.array([[2, 1], [4, 2], [1, 1], [2, 2], [0, 2], [3, 1]])
        >>> fit_shifts(counts @ [0.0, -432.0], counts).shifts.round(6) + 0.0
        array([   0., -432.])
    """
    atoms = counts.sum(1)
    shares = counts / atoms[:, None]
    # Where compositions do not tell species apart, these are the smallest shifts that do it.
    shifts = np.linalg.lstsq(shares, errors / atoms, rcond=1e-9)[0]
    explained = shares @ shifts
    rank = int(np.linalg.matrix_rank(shares, tol=1e-6))
    squares = float(((errors / atoms - explained) ** 2).sum())
    return ShiftFit(
        shifts,
        float(np.sqrt(np.mean(explained**2))),
        float(np.sqrt(squares / (len(errors) - rank))) if len(errors) > rank else 0.0,
        bool(rank == counts.any(0).sum()),
        len(errors) >= _FRAMES_PER_SHIFT * rank,
    )


def _collect_energies(model: CheckedModel) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Labels and predictions (frames,) in eV, and atoms of each species (frames, species); None without labels."""
    if model.data is None:
        return None
    frames = [
        frame
        for frame in model.data.frames
        if fields.TOTAL_ENERGY in frame and bool(frame[fields.TOTAL_ENERGY].isfinite().all())
    ]
    if not frames:
        return None
    atoms = sum(len(frame[fields.ATOM_TYPES]) for frame in frames)
    frames = frames[:: max(-(-len(frames) // _MOST_FRAMES), -(-atoms // _MOST_ATOMS))]
    predictor = Predictor(model.potential, device_of(model.potential), {"atoms": _ATOMS_AT_A_TIME})
    predictions = predictor.predict(frames)
    species = len(model.potential.type_names)
    counts = [np.bincount(frame[fields.ATOM_TYPES].numpy(), minlength=species) for frame in frames]
    return _read_energies(frames), _read_energies(predictions), np.array(counts)


def _read_energies(frames: Sequence[fields.Graph]) -> np.ndarray:
    return np.array([float(frame[fields.TOTAL_ENERGY]) for frame in frames])


def _judge_isolated(model: CheckedModel, reason: str) -> CheckVerdict:
    energies = model.isolated_energies
    listing = ", ".join(f"{name} {energy:.4g}" for name, energy in energies.items())
    zeros = [name for name, energy in energies.items() if energy == 0.0]
    if zeros and max(map(abs, energies.values())) > _FAR_FROM_ZERO:
        text = f"isolated atoms have {listing} eV: of {', '.join(zeros)} exactly 0, of others not"
        return CheckVerdict(NAME, "isolated atoms", "warn", text, advice=_ZERO_ADVICE)
    return skip_check(NAME, f"{reason}; isolated atoms have {listing} eV")

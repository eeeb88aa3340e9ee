"""How good predicted uncertainties are, beside the errors that they are to tell.

An uncertainty ``sigma`` claims that an error ``e`` is drawn from a Gaussian of this width. So a share ``p`` of all
errors should be within ``z_p sigma``, where ``z_p = sqrt(2) erfinv(p)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.summaries import Summarized

COVERAGES = (0.5, 0.9, 0.95)
PER_ATOM_ENERGY, FORCES = "per_atom_energy", "forces"
_GRID = np.linspace(0.0, 1.0, 101)  # of the calibration curve
_REJECTED = np.linspace(0.0, 0.9, 10)  # shares of the least certain that are left out


@dataclass(frozen=True, repr=False)
class UncertaintyQuality(Summarized):
    """Quality of the uncertainty of one quantity.

    Of energies there is one value for each structure, per atom. Of forces, what counts errors counts components, and
    what ranks them ranks atoms: by the mean of ``sigma`` over x, y and z, beside the root mean square of their errors.

    Attributes:
        quantity: ``per_atom_energy`` (eV) or ``forces`` (eV/Angstrom).
        count: Number of errors.
        errors: Of what is ranked, absolute values, shape (ranked,).
        spreads: Uncertainties of what is ranked, shape (ranked,).
        coverage: ``{p: share of errors within z_p sigma}`` for p of 0.5, 0.9 and 0.95.
        curve: The same for p from 0 to 1, shape (101,).
        miscalibration_area: Integral of ``|curve(p) - p|`` over p: 0 is perfect, 0.5 the worst.
        sharpness: Root mean square of ``sigma``: of two calibrated uncertainties the smaller is the better.
        negative_log_likelihood: Mean of ``log(2 pi sigma^2) / 2 + e^2 / (2 sigma^2)``; infinite where ``sigma`` is 0.
        spearman: Rank correlation of uncertainties and absolute errors: 1 if the least certain are the worst in order.
        rejection: Root mean square error without the least certain 0, 10, ..., 90 % of what is ranked, shape (10,).
    """

    quantity: str
    count: int
    errors: np.ndarray
    spreads: np.ndarray
    coverage: dict[float, float]
    curve: np.ndarray
    miscalibration_area: float
    sharpness: float
    negative_log_likelihood: float
    spearman: float
    rejection: np.ndarray

    def summary(self) -> dict[str, Any]:
        """The numbers that are looked at first."""
        return {
            "quantity": self.quantity,
            "coverage": {str(share): value for share, value in self.coverage.items()},
            "spearman": self.spearman,
        }

    def list_values(self) -> dict[str, Any]:
        """All numbers as JSON values, without the single errors."""
        return {
            "count": self.count,
            **{f"coverage_{100 * share:g}": value for share, value in self.coverage.items()},
            "miscalibration_area": self.miscalibration_area,
            "sharpness": self.sharpness,
            "negative_log_likelihood": self.negative_log_likelihood,
            "spearman": self.spearman,
            "calibration_curve": self.curve.tolist(),
            "rejection_curve": self.rejection.tolist(),
        }


def judge_uncertainty(
    quantity: str, errors: np.ndarray, spreads: np.ndarray, ranked: tuple[np.ndarray, np.ndarray] | None = None
) -> UncertaintyQuality:
    """Compare uncertainties with errors.

    Args:
        quantity: What they are of.
        errors: Prediction minus label, shape (count,).
        spreads: Uncertainties, shape (count,).
        ranked: Errors (not negative) and uncertainties of what is ranked; by default the absolute values of the same.

    Example:
        Errors of the size that is claimed, twice that, and half of it:

        >>> quality = judge_uncertainty("per_atom_energy", np.array([0.1, -0.4, 0.05]), np.array([0.1, 0.2, 0.1]))
        >>> [round(share, 3) for share in quality.coverage.values()], round(quality.sharpness, 4)
        ([0.333, 0.667, 0.667], 0.1414)
    """
    sizes = np.abs(errors)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(sizes == 0.0, 0.0, sizes / spreads)
        likelihoods = 0.5 * np.log(2 * np.pi * spreads**2) + 0.5 * ratios**2
    # Of each error, the share of a Gaussian that is closer to its middle.
    places = np.sort(torch.special.erf(torch.from_numpy(ratios / math.sqrt(2.0))).numpy())
    curve = np.searchsorted(places, _GRID, side="right") / len(places)
    ranked_errors, ranked_spreads = (sizes, spreads) if ranked is None else ranked
    coverage = {share: float(np.searchsorted(places, share, side="right") / len(places)) for share in COVERAGES}
    return UncertaintyQuality(
        quantity,
        len(errors),
        ranked_errors,
        ranked_spreads,
        coverage,
        curve,
        _integrate(np.abs(curve - _GRID)),
        float(np.sqrt(np.mean(spreads**2))),
        float(np.mean(likelihoods)) if bool((spreads > 0).all()) else math.inf,
        correlate_ranks(ranked_spreads, ranked_errors),
        reject_uncertain(ranked_errors, ranked_spreads),
    )


def _integrate(values: np.ndarray) -> float:
    """Integral over the grid, by the trapezoidal rule; numpy's own has other names in other versions."""
    return float(np.mean((values[1:] + values[:-1]) / 2.0))


def correlate_ranks(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation; equal values share the mean of their ranks. NaN if all values of one are equal.

    Example:
        >>> round(correlate_ranks(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0])), 6)
        0.5
    """
    ranks = [_rank(values) for values in (first, second)]
    deviations = [vector - vector.mean() for vector in ranks]
    norms = [float(np.linalg.norm(vector)) for vector in deviations]
    return float(deviations[0] @ deviations[1] / (norms[0] * norms[1])) if all(norms) else math.nan


def _rank(values: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: np.ndarray = (last - (counts - 1) / 2.0)[places]
    return ranks


def reject_uncertain(errors: np.ndarray, spreads: np.ndarray) -> np.ndarray:
    """Root mean square error without the least certain 0, 10, ..., 90 %, shape (10,); one value stays at least.

    Args:
        errors: Shape (ranked,).
        spreads: Shape (ranked,).
    """
    squares = errors[np.argsort(spreads, kind="stable")] ** 2
    kept_counts = np.maximum(1, np.round(len(squares) * (1.0 - _REJECTED)).astype(int))
    return np.sqrt(np.cumsum(squares)[kept_counts - 1] / kept_counts)


def judge_predictions(frames: Sequence[Graph], predictions: Sequence[Graph]) -> dict[str, UncertaintyQuality]:
    """Judge the uncertainties of predictions, of whatever has uncertainties and labels.

    Args:
        frames: Structures with labels; those that are NaN are left out.
        predictions: The prediction of each.

    Returns:
        ``{per_atom_energy: ..., forces: ...}``, empty for a potential without uncertainties.
    """
    result = {}
    for quantity, label in ((PER_ATOM_ENERGY, fields.TOTAL_ENERGY), (FORCES, fields.FORCES)):
        uncertainty = fields.UNCERTAINTIES[label]
        if uncertainty not in predictions[0] or not any(label in frame for frame in frames):
            continue
        errors, spreads = [], []
        for frame, prediction in zip(frames, predictions, strict=True):
            if label in frame:
                divisor = len(frame[fields.POSITIONS]) if label == fields.TOTAL_ENERGY else 1
                errors.append((prediction[label] - frame[label]).numpy() / divisor)
                spreads.append(prediction[uncertainty].numpy() / divisor)
        error, spread = np.concatenate(errors), np.concatenate(spreads)
        labelled = ~np.isnan(error).any(1)
        if not labelled.any():
            continue
        error, spread = error[labelled], spread[labelled]
        ranked = np.sqrt((error**2).mean(1)), spread.mean(1)
        result[quantity] = judge_uncertainty(quantity, error.flatten(), spread.flatten(), ranked)
    return result

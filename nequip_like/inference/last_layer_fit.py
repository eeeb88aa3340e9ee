"""Fits the uncertainty of a trained potential: one pass over its training structures, one over held-out ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_type_hints

import numpy as np
import torch
from torch import Tensor

from nequip_like.arguments import Count, Range, check, check_known_keys, shown
from nequip_like.data import fields
from nequip_like.data.batches.batch_size import BatchSize, SizeOfBatch
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.graph import collate, to_device
from nequip_like.errors import ConfigError, DataError, ModelError
from nequip_like.inference.predictor import DEFAULT_BATCH_SIZE, check_fits
from nequip_like.model.last_layer import Calibration, LastLayerUncertainty, announce_features
from nequip_like.model.potential import Potential

NONE, AUTO, LLPR, COMMITTEE = "none", "auto", "llpr", "committee"
SCALE, CONFORMAL = "scale", "conformal"
_Share = Annotated[float, Range(low=0.0, high=1.0, low_open=True, high_open=True)]
_FRAMES_OF_AUTO = 500  # of features that are 16 to 128; a run that did not ask should not notice
LEAST_FRAMES = 2  # of the calibration: one error says nothing of a spread
# Regularizers that are tried, as shares of the largest eigenvalue; smaller ones are below its rounding.
_REGULARIZERS = [10.0**power for power in range(-14, 1)]


@dataclass(frozen=True)
class UncertaintySettings:
    """What a config says of the uncertainty that a model file gets.

    Attributes:
        method: ``llpr``: from last-layer features. ``auto``: the same where the family has such features and there
            are energies to tell the scale by, else none. ``committee``: from the spread of a committee's members, of
            which a run trains one; nothing is fitted to it alone.
        calibration: ``scale`` or ``conformal``, see :class:`~nequip_like.model.last_layer.Calibration`; ``auto``:
            conformal where there are errors enough for the coverage, else scale.
        coverage: Of ``conformal``, the share of errors that are to be below ``z sigma``, where ``z`` is the
            quantile of a Gaussian; 0.9 by default.
        frames: Most training structures that the covariance is made of, and most held-out ones that tell the scale;
            500 of the word ``auto``.
    """

    method: Literal["auto", "llpr", "committee"] = "llpr"
    calibration: Literal["auto", "scale", "conformal"] = "auto"
    coverage: _Share = 0.9
    frames: Count = 2000

    @classmethod
    def read(cls, value: Any) -> UncertaintySettings | None:
        """Read the key ``uncertainty`` of a config; None if it asks for none.

        Raises:
            ConfigError: If it is no such thing.

        Example:
            >>> UncertaintySettings.read("none"), UncertaintySettings.read({"method": "llpr", "frames": 500})
            (None, UncertaintySettings(method='llpr', calibration='auto', coverage=0.9, frames=500))
        """
        if value is None or value == NONE:
            return None
        if value in (AUTO, LLPR, COMMITTEE):
            return cls(method=value, frames=_FRAMES_OF_AUTO if value == AUTO else cls.frames)
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"uncertainty is {shown(value)}",
                "write auto, none, llpr, committee, or {method: llpr, calibration: scale}",
            )
        annotations = get_type_hints(cls, include_extras=True)
        check_known_keys("uncertainty", value, annotations)
        for key, entry in value.items():
            check(f"uncertainty.{key}", entry, annotations[str(key)])
        return cls(**{str(key): entry for key, entry in value.items()})


def count_uncertainty_frames(value: Any) -> int:
    """Training frames, at most, that the key ``uncertainty`` of a config has gone through after training.

    Example:
        >>> [count_uncertainty_frames(value) for value in ("auto", "none", {"method": "llpr", "frames": 50})]
        [500, 0, 50]
    """
    settings = UncertaintySettings.read(value)
    return 0 if settings is None or settings.method == COMMITTEE else settings.frames


def fit_uncertainty(
    potential: Potential,
    train: GraphDataset,
    held_out: GraphDataset | None = None,
    settings: UncertaintySettings | None = None,
    batch_size: SizeOfBatch | BatchSize = DEFAULT_BATCH_SIZE,
) -> LastLayerUncertainty:
    """Give a potential the uncertainty of its energies, from features of its last layer.

    Args:
        potential: The trained potential, in evaluation mode; it predicts ``energy_uncertainty`` from now on.
        train: The structures that it was trained on; no more than ``settings.frames`` are used, evenly spread.
        held_out: Structures with energies that tell the scale, as many at most. Without any it is told by the training
            structures, whose errors are smaller than those elsewhere: uncertainties are then too small.
        settings: What to do.
        batch_size: Structures at a time.

    Returns:
        The uncertainty, which is the potential's ``uncertainty`` now.

    Raises:
        ModelError: If the family does not tell its features, these or the energies are not finite, or a data set was
            made for another model.
        DataError: If fewer than two structures have an energy, or too few for the coverage that was asked for.
    """
    settings = settings or UncertaintySettings()
    check_fits(potential, train)
    potential.uncertainty = None
    features, errors = compute_features(potential, train, spread_evenly(len(train), settings.frames), batch_size)
    trained = features
    is_held_out = held_out is not None
    if held_out is not None:
        check_fits(potential, held_out)
        labelled = np.flatnonzero(~np.isnan(held_out.table.energy))
        _check_enough(len(labelled))
        chosen = labelled[spread_evenly(len(labelled), settings.frames)].tolist()
        features, errors = compute_features(potential, held_out, chosen, batch_size)
    told = ~errors.isnan()
    root, calibration = fit_root(trained, features[told], errors[told], settings, is_held_out)
    potential.uncertainty = LastLayerUncertainty(root, calibration).to(features.device)
    return potential.uncertainty


def fit_root(
    trained: Tensor, features: Tensor, errors: Tensor, settings: UncertaintySettings, is_held_out: bool = True
) -> tuple[Tensor, Calibration]:
    """``R`` with ``R R^T = a^2 (F^T F + s^2 I)^-1``: the features of the training decide ``F``, errors ``s`` and ``a``.

    Args:
        trained: Features of training structures, ``F``, shape (training frames, features).
        features: Of the structures that calibrate, shape (frames, features).
        errors: Of their energies, shape (frames,), eV, none of them NaN.
        settings: Method and coverage.
        is_held_out: Whether these structures were kept from the training.

    Raises:
        DataError: If there are fewer than two errors, or too few for the coverage that was asked for.
    """
    _check_enough(len(errors))
    values, vectors = torch.linalg.eigh(trained.T @ trained)
    projected = (features @ vectors).square()
    regularizer = choose_regularizer(values, projected, errors)
    variances = (projected / (values.clamp(min=0) + regularizer)).sum(1)
    method = choose_method(settings, len(errors))
    coverage = settings.coverage if method == CONFORMAL else None
    scale = calibrate(errors, variances.sqrt(), coverage)
    root = scale * vectors / (values.clamp(min=0) + regularizer).sqrt()
    return root, Calibration(method, len(errors), is_held_out, coverage, math.sqrt(regularizer), scale, len(trained))


def _check_enough(energies: int) -> None:
    if energies < LEAST_FRAMES:
        raise DataError(
            f"{energies} structures have an energy that the scale of the uncertainty could be told by",
            "give validation data with energies, or write uncertainty: none",
        )


def spread_evenly(count: int, most: int) -> range:
    """Numbers of no more than so many of a set's structures, at equal distances.

    Args:
        count: Size of the set.
        most: How many.

    Example:
        >>> list(spread_evenly(10, 4)), list(spread_evenly(3, 4))
        ([0, 3, 6, 9], [0, 1, 2])
    """
    return range(0, count, max(1, math.ceil(count / most)))


def compute_features(
    potential: Potential, dataset: GraphDataset, frames: Sequence[int], batch_size: SizeOfBatch | BatchSize
) -> tuple[Tensor, Tensor]:
    """Last-layer features of structures, and the errors of their energies.

    Args:
        potential: The potential.
        dataset: The structures.
        frames: Which of them.
        batch_size: Structures at a time.

    Returns:
        Features (frames, features) and prediction minus label (frames,), eV, NaN without a label.

    Raises:
        ModelError: If the family does not tell its features, or these or the energies are not finite.
    """
    announce_features(potential.energy_model)
    device = next(potential.parameters()).device
    features, errors = [], []
    graphs = [dataset[i] for i in frames]
    for indices in BatchSize.read("batch_size", batch_size).cut(graphs):
        batch = to_device(collate([graphs[i] for i in indices]), device)
        with torch.no_grad():
            prediction, rows = potential.predict_with_features(batch)
        predicted = prediction[fields.TOTAL_ENERGY].detach()
        if not bool(rows.isfinite().all() and predicted.isfinite().all()):
            raise ModelError(
                f"energies that the potential predicts for '{dataset.name}' are not finite, or their features are not",
                "look at its predictions with nequip-test, or write uncertainty: none",
            )
        features.append(rows.detach())
        label = batch.get(fields.TOTAL_ENERGY)
        errors.append((predicted - label if label is not None else torch.full_like(predicted, torch.nan)).flatten())
    return torch.cat(features), torch.cat(errors)


def choose_regularizer(values: Tensor, projected: Tensor, errors: Tensor) -> float:
    """The ``s^2`` under which held-out errors are most likely, each with its own best scale.

    With ``q = f^T (F^T F + s^2 I)^-1 f`` and ``a^2 = mean(e^2 / q)``, the negative log likelihood of errors ``e`` is
    ``mean(log q) / 2 + log(a^2) / 2`` up to a constant.

    Args:
        values: Eigenvalues of ``F^T F``, shape (features,).
        projected: Squares of held-out features along the eigenvectors, shape (frames, features).
        errors: Shape (frames,), eV.
    """
    largest = float(values.max().clamp(min=torch.finfo(values.dtype).tiny))

    def measure(share: float) -> float:
        variances = (projected / (values.clamp(min=0) + share * largest)).sum(1).clamp(min=1e-300)
        scale = (errors.square() / variances).mean().clamp(min=1e-300)
        return float(variances.log().mean() + scale.log())

    return largest * min(_REGULARIZERS, key=measure)


def choose_method(settings: UncertaintySettings, count: int) -> str:
    """``scale`` or ``conformal``: what was asked for, or of ``auto`` the second where it is possible.

    Args:
        settings: What to do.
        count: Number of held-out errors.

    Example:
        >>> choose_method(UncertaintySettings(), 9), choose_method(UncertaintySettings(), 8)
        ('conformal', 'scale')
    """
    if settings.calibration != AUTO:
        return settings.calibration
    return CONFORMAL if math.ceil((count + 1) * settings.coverage) <= count else SCALE


def estimate_coverage_error(count: int, coverage: float = 0.9, asked: int | None = None) -> float:
    """How far the share of errors within a conformal interval is from the stated one by chance: a standard deviation.

    By the held-out errors that the interval was made of, the share has a beta distribution, whatever that of the
    errors. Among so many errors that are asked about the number within is beta-binomial.

    Args:
        count: Number of independent held-out errors that the interval was made of.
        coverage: The stated share.
        asked: Number of independent errors that are asked about; None: so many that their own chance is nothing.

    Example:
        >>> [round(100 * estimate_coverage_error(count), 1) for count in (9, 60, 200, 1000)]
        [9.0, 3.8, 2.1, 0.9]
        >>> round(100 * estimate_coverage_error(200, asked=200), 1)
        3.0
    """
    rank = math.ceil((count + 1) * coverage)
    share = 0.0 if asked is None else 1.0 / asked
    of_interval = rank * (count + 1 - rank) / ((count + 1) ** 2 * (count + 2))
    return math.sqrt(of_interval * (1.0 + (count + 1) * share))


def describe_aim(coverage: float | None, count: int) -> str:
    """What errors an uncertainty was made for, in words that go on with "the errors of ...".

    Args:
        coverage: The stated share; None of ``scale``.
        count: Number of energies that told the scale; 0 if there were none.

    Example:
        >>> describe_aim(None, 200)
        'scaled to'
        >>> describe_aim(0.9, 200)
        '90 % coverage (of energies give or take 2.1 points, by chance of so few) of'
    """
    if coverage is None:
        return "scaled to"
    aim = f"{100 * coverage:g} % coverage"
    if count:
        points = 100 * estimate_coverage_error(count, coverage)
        aim += f" (of energies give or take {points:.1f} points, by chance of so few)"
    return f"{aim} of"


def calibrate(errors: Tensor, spreads: Tensor, coverage: float | None = None) -> float:
    """The factor that makes spreads standard deviations.

    Args:
        errors: Shape (frames,), eV.
        spreads: Standard deviations up to the factor, shape (frames,).
        coverage: None: the root mean square of ``errors / spreads``. A share ``c``: the smallest factor with which
            ``ceil((n + 1) c)`` of the ``n`` errors are below the quantile ``z_c`` of a Gaussian: then a new error,
            of the same distribution, is below with a probability of at least ``c`` (split conformal prediction).

    Raises:
        DataError: If there are too few errors for the coverage.

    Example:
        >>> calibrate(torch.tensor([3.0, -4.0]), torch.tensor([1.0, 1.0]))
        3.535...
    """
    ratios = errors.abs() / spreads.clamp(min=1e-150)
    if coverage is None:
        return float(ratios.square().mean().sqrt())
    rank = math.ceil((len(ratios) + 1) * coverage)
    if rank > len(ratios):
        raise DataError(
            f"{len(ratios)} held-out structures are too few for a coverage of {coverage:g}",
            f"hold out {math.ceil(coverage / (1 - coverage))} or more, or write uncertainty.calibration: scale",
        )
    quantile = math.sqrt(2.0) * float(torch.erfinv(torch.tensor(coverage, dtype=torch.float64)))
    return float(ratios.sort().values[rank - 1]) / quantile

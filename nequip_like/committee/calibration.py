"""Calibrates a committee on structures that no member was trained on: its spread becomes the size of its errors."""

from __future__ import annotations

import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.batches.batch_size import BatchSize, SizeOfBatch
from nequip_like.data.dataset import GraphDataset
from nequip_like.errors import DataError
from nequip_like.inference.last_layer_fit import CONFORMAL, UncertaintySettings, calibrate, choose_method, describe_aim
from nequip_like.inference.predictor import DEFAULT_BATCH_SIZE, Predictor, check_fits
from nequip_like.model.committee import CommitteePotential, SpreadCalibration

_LEAST = 2  # errors: one says nothing of their size


def calibrate_committee(
    committee: CommitteePotential,
    held_out: GraphDataset,
    settings: UncertaintySettings | None = None,
    batch_size: SizeOfBatch | BatchSize = DEFAULT_BATCH_SIZE,
    source: str = "",
) -> SpreadCalibration:
    """Find what the spreads of energies and forces are multiplied by, each by itself.

    Components of the forces of one structure depend on each other. So many of them tell a quantile with a smaller
    error than energies do, but the guarantee of conformal prediction, which is one of independent errors, holds for
    forces on average over structures only.

    Args:
        committee: The committee; its uncertainties are calibrated from now on.
        held_out: Structures with labels that were not trained on, of the kind that is to be predicted.
        settings: Method and coverage.
        batch_size: Structures at a time.
        source: Where the structures come from, for the card of the model file; by default the name of the data set.

    Returns:
        The calibration, which is the committee's ``calibration`` now.

    Raises:
        ModelError: If the data set was made for another model.
        DataError: If no label that is predicted is there, or too few for the coverage.
    """
    settings = settings or UncertaintySettings()
    check_fits(committee, held_out)
    committee.calibration = None
    labels = [label for label, name in fields.UNCERTAINTIES.items() if name in committee.predicted_fields]
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {label: [] for label in labels}
    device = next(committee.parameters()).device
    for batch, prediction in Predictor(committee, device, batch_size).batches(held_out):  # type: ignore[arg-type]
        for label in labels:
            if label in batch:
                errors = (prediction[label] - batch[label]).flatten()
                pairs[label].append((errors, prediction[fields.UNCERTAINTIES[label]].flatten()))
    errors_and_spreads = {label: _join(parts) for label, parts in pairs.items()}
    counts = {label: len(errors) for label, (errors, _) in errors_and_spreads.items() if len(errors) >= _LEAST}
    if not counts:
        raise DataError(
            f"the data set '{held_out.name}' has fewer than two energies or forces to calibrate a committee with",
            "give validation data with labels, or write uncertainty: none",
        )
    method = choose_method(settings, min(counts.values()))  # the same for energies and forces
    coverage = settings.coverage if method == CONFORMAL else None
    scales = {label: calibrate(*errors_and_spreads[label], coverage) for label in counts}
    name = source or str(held_out.name)
    committee.calibration = SpreadCalibration(method, coverage, scales, counts, len(held_out), name)
    return committee.calibration


def _join(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Errors and spreads of one label. Where all members agree exactly there is nothing to be scaled."""
    if not parts:
        return torch.zeros(0), torch.zeros(0)
    errors, spreads = (torch.cat([part[i] for part in parts]) for i in (0, 1))
    told = ~errors.isnan() & (spreads > 0)
    return errors[told], spreads[told]


def describe_calibration(calibration: SpreadCalibration) -> str:
    """How a committee is calibrated, in words."""
    factors = " and ".join(
        f"{'energies' if label == fields.TOTAL_ENERGY else label} times {scale:.3g}"
        for label, scale in calibration.scales.items()
    )
    how = describe_aim(calibration.coverage, calibration.counts.get(fields.TOTAL_ENERGY, 0))
    return f"calibration: spreads of {factors}, {how} the errors of {calibration.frames} frames ({calibration.source})"

"""The uncertainty of the potential that a run has trained, where its config asks for one."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console

from nequip_like.data import fields
from nequip_like.data.batches.out_of_memory import is_out_of_memory
from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import GraphDataset
from nequip_like.errors import NequipLikeError, first_line
from nequip_like.inference.last_layer_fit import (
    AUTO,
    COMMITTEE,
    LEAST_FRAMES,
    UncertaintySettings,
    describe_aim,
    fit_uncertainty,
)
from nequip_like.model.last_layer import LastLayerModel, LastLayerUncertainty
from nequip_like.model.potential import Potential
from nequip_like.nn.evaluation_mode import evaluation_mode
from nequip_like.summaries import print_line


def add_uncertainty(
    console: Console,
    potential: Potential,
    data: DataModule,
    config: Mapping[str, Any],
    stopped_by: signal.Signals | None,
    device: torch.device | None = None,
) -> None:
    """Give a trained potential the uncertainty that its config asks for, and say how it is calibrated.

    Args:
        console: Where to print.
        potential: The potential with its final weights.
        data: What it was trained on; the first validation set tells the scale.
        config: The config, resolved.
        stopped_by: The signal that ended training: there is no time then.
        device: Where to compute: Lightning leaves the weights of a finished training on the CPU. By default where the
            potential is.

    Raises:
        ModelError: If an uncertainty was asked for by name, and the family does not tell its features, or they are not
            finite.
        DataError: If it was, and too few validation structures have an energy.
    """
    settings = UncertaintySettings.read(config.get("uncertainty"))
    if settings is None:
        return
    held_out = next(iter(data.val_sets.values()), None)
    if stopped_by is not None:
        line = f"uncertainty: none, for {stopped_by.name} ended training; a run that goes on and ends makes it"
    elif settings.method == COMMITTEE:
        line = "uncertainty: that of a committee, which nequip-committee makes of several such runs"
    elif settings.method == AUTO and (reason := find_obstacle(potential, held_out)):
        line = f"uncertainty: none, for {reason}"
    else:
        line = _fit(potential, data, held_out, settings, device)
    print_line(console, line)


def _fit(
    potential: Potential,
    data: DataModule,
    held_out: GraphDataset | None,
    settings: UncertaintySettings,
    device: torch.device | None,
) -> str:
    """Fit it and say how; where nobody asked for it by name, what keeps it from being made is said, and no error."""
    home = next(potential.parameters()).device
    try:
        with evaluation_mode(potential):
            potential.to(device or home)
            uncertainty = fit_uncertainty(potential, data.train_set, held_out, settings, data.val_batch_size)
    except (NequipLikeError, MemoryError, RuntimeError) as error:
        reason = "there was not enough memory" if is_out_of_memory(error) else first_line(error)
        if settings.method != AUTO or not (is_out_of_memory(error) or isinstance(error, NequipLikeError)):
            raise
        return f"uncertainty: none, for {reason}"
    finally:
        potential.to(home)
    return describe_uncertainty(uncertainty)


def find_obstacle(potential: Potential, held_out: GraphDataset | None) -> str:
    """Why a run that does not ask for an uncertainty by name gets none; empty if it gets one.

    Args:
        potential: The trained potential.
        held_out: The first validation set.
    """
    if not isinstance(potential.energy_model, LastLayerModel):
        return f"{type(potential.energy_model).__name__} does not tell the features of its last layer"
    labelled = 0 if held_out is None else held_out.labels.get(fields.TOTAL_ENERGY, 0)
    if labelled < LEAST_FRAMES:
        return f"{labelled} validation frames have an energy to tell its scale by, of {LEAST_FRAMES} at least"
    return ""


def describe_uncertainty(uncertainty: LastLayerUncertainty) -> str:
    """How an uncertainty is calibrated, in words."""
    calibration = uncertainty.calibration
    frames = "validation frames" if calibration.held_out else "training frames, for there are no others: too small"
    how = describe_aim(calibration.coverage, calibration.frames)
    return (
        f"uncertainty: last-layer features of {calibration.train_frames} training frames, {how} the errors of "
        f"{calibration.frames} {frames}"
    )

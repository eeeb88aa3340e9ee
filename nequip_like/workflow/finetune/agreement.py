"""Check before the first step of a fine-tuning that its model equals its source."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.datamodule import DataModule
from nequip_like.errors import ModelError
from nequip_like.inference.predictor import Predictor
from nequip_like.model.potential import Potential
from nequip_like.workflow.finetune.run import FineTuning

_FRAMES = 8
# Of energies per atom and of forces, in eV and Angstrom, relative to the largest force if that is more than 1.
_EXACT = {"float64": 1e-7, "float32": 1e-4}


@dataclass(frozen=True)
class Agreement:
    """Differences between a model and its source, and between the source and the labels, on a few frames.

    Attributes:
        frames: Number of frames; with species that the source knows.
        energy: Largest difference of energies per atom, eV, beside what refitted shifts add.
        forces: Largest difference of force components, eV/Angstrom.
        energy_error: Mean of label minus source, eV/atom; NaN without labels.
        forces_error: Root mean square of the source's force errors, eV/Angstrom; NaN without labels.
    """

    frames: int
    energy: float
    forces: float
    energy_error: float
    forces_error: float


def compare_with_source(tuning: FineTuning, model: Potential, data: DataModule) -> Agreement | None:
    """Compare a model with its source.

    Args:
        tuning: The fine-tuning, which was begun and not gone on with.
        model: Its model before the first step.
        data: The data.

    Returns:
        None if no training frame has only species that the source knows.

    Raises:
        ModelError: If they differ by more than rounding.
    """
    num_types = len(tuning.source.type_names)
    known = (frame for frame in data.train_set.frames if int(frame[fields.ATOM_TYPES].max()) < num_types)
    frames = list(islice(known, _FRAMES))
    if not frames:
        return None
    changes = tuning.info["shift_changes"]
    shift_changes = torch.tensor([changes.get(name, 0.0) for name in model.type_names], dtype=torch.float64)
    source_predictions, predictions = Predictor(tuning.source).predict(frames), Predictor(model).predict(frames)
    energy = forces = 0.0
    largest = 1.0
    errors: list[Tensor] = []
    force_errors: list[Tensor] = []
    for frame, original, prediction in zip(frames, source_predictions, predictions, strict=True):
        atoms = len(frame[fields.ATOM_TYPES])
        expected_energy = original[fields.TOTAL_ENERGY] + shift_changes[frame[fields.ATOM_TYPES]].sum()
        energy = max(energy, _largest(prediction[fields.TOTAL_ENERGY] - expected_energy) / atoms)
        if fields.TOTAL_ENERGY in frame:
            errors.append((frame[fields.TOTAL_ENERGY] - original[fields.TOTAL_ENERGY]).flatten() / atoms)
        if fields.FORCES in original:
            forces = max(forces, _largest(prediction[fields.FORCES] - original[fields.FORCES]))
            largest = max(largest, _largest(original[fields.FORCES]))
            if fields.FORCES in frame:
                force_errors.append((frame[fields.FORCES] - original[fields.FORCES]).flatten())
    if not max(energy, forces) <= largest * _EXACT[model.config["arguments"]["model_dtype"]]:
        raise ModelError(
            f"the fine-tuned model does not begin as its source: energies differ by {energy:.1e} eV/atom, forces by "
            f"{forces:.1e} eV/Angstrom",
            "this is a fault of nequip_like; model.kernel=batched may help, and please report it",
        )
    return Agreement(len(frames), energy, forces, _mean(errors), _mean(force_errors, square=True))


def _largest(values: Tensor) -> float:
    return float(values.abs().max())


def _mean(parts: list[Tensor], square: bool = False) -> float:
    values = torch.cat(parts) if parts else torch.empty(0)
    values = values[~torch.isnan(values)]
    return float(values.square().mean().sqrt() if square else values.mean()) if len(values) else float("nan")

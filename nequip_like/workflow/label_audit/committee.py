"""Models that each leave a part of the frames out, so that every frame is predicted by two that have not seen it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate
from nequip_like.model.potential import Potential
from nequip_like.workflow.label_audit.fitting import ModelScales, fit_model

MODELS = 4
_BATCH = 16


@dataclass(frozen=True)
class Predictions:
    """What models say of frames that they have not seen.

    Attributes:
        energy: Of each frame (frames,), eV, the mean of the models.
        energy_spread: Half of what they differ by (frames,), eV.
        forces: Of each frame (atoms, 3), eV/Angstrom, the mean.
        forces_spread: Half of the length of their difference (atoms,) of each frame.
    """

    energy: np.ndarray
    energy_spread: np.ndarray
    forces: list[np.ndarray]
    forces_spread: list[np.ndarray]


class FoldModels:
    """Models of a data set, and the groups of frames that each has not seen.

    The frames are in as many groups as there are models. Model m leaves out the groups m and m + 1 (the first behind
    the last), so each frame was left out by two models, and each has learnt from half of the frames.

    Args:
        dataset: The frames.
        groups: Group of each frame (frames,), 0 to ``MODELS`` - 1.
        left_out: Frames that no model learns from.
        scales: What the models share.
        steps: Of each model.
        seed: Of the first model.
        tell: Called after each step.
    """

    def __init__(
        self,
        dataset: GraphDataset,
        groups: np.ndarray,
        left_out: Collection[int],
        scales: ModelScales,
        steps: int,
        seed: int,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self.dataset = dataset
        self.groups = groups
        excluded = np.isin(np.arange(len(dataset)), list(left_out))
        self.models: list[Potential] = []
        for number in range(MODELS):
            unseen = np.isin(groups, self._list_unseen(number))
            training_frames = np.flatnonzero(~unseen & ~excluded)
            self.models.append(fit_model(dataset, training_frames, scales, steps, seed + number, tell))

    def _list_unseen(self, number: int) -> list[int]:
        return [number, (number + 1) % MODELS]

    def _list_judges(self, group: int) -> list[Potential]:
        """The models that have not seen a group."""
        return [model for number, model in enumerate(self.models) if group in self._list_unseen(number)]

    def predict(self) -> Predictions:
        """Predict every frame by the models that have not seen it."""
        count = len(self.dataset)
        energy, energy_spread = np.full(count, np.nan), np.full(count, np.nan)
        forces: list[np.ndarray] = [np.zeros(0)] * count
        forces_spread: list[np.ndarray] = [np.zeros(0)] * count
        for group in range(MODELS):
            members = np.flatnonzero(self.groups == group).tolist()
            frames = [self.dataset[i] for i in members]
            predictions_a, predictions_b = (list(_predict(model, frames)) for model in self._list_judges(group))
            for i, (energy_a, forces_a), (energy_b, forces_b) in zip(
                members, predictions_a, predictions_b, strict=True
            ):
                energy[i], energy_spread[i] = (energy_a + energy_b) / 2, abs(energy_a - energy_b) / 2
                forces[i] = (forces_a + forces_b) / 2
                forces_spread[i] = np.linalg.norm(forces_a - forces_b, axis=1) / 2
        return Predictions(energy, energy_spread, forces, forces_spread)

    def predict_changed(self, index: int, changed: Sequence[Graph]) -> list[tuple[float, np.ndarray]]:
        """Energy and forces of other forms of a frame, by the models that have not seen it.

        Args:
            index: The frame.
            changed: The forms, as graphs with edges.
        """
        predictions_a, predictions_b = (
            list(_predict(model, changed)) for model in self._list_judges(int(self.groups[index]))
        )
        return [((a[0] + b[0]) / 2, (a[1] + b[1]) / 2) for a, b in zip(predictions_a, predictions_b, strict=True)]


def _predict(model: Potential, frames: Sequence[Graph]) -> Iterator[tuple[float, np.ndarray]]:
    """Energy (eV) and forces (atoms, 3) of each frame."""
    for start in range(0, len(frames), _BATCH):
        batch = collate(frames[start : start + _BATCH])
        predicted = model(batch)
        energies = predicted[fields.TOTAL_ENERGY].detach().flatten().tolist()
        forces = predicted[fields.FORCES].detach().numpy()
        ends = np.cumsum(batch[fields.NUM_ATOMS].numpy())
        yield from zip(energies, np.split(forces, ends[:-1]), strict=True)

"""Forces of a part of the frames: which frames train with their forces in an epoch."""

from __future__ import annotations

import numpy as np
import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import batch_index
from nequip_like.data.samplers import make_epoch_generator
from nequip_like.data.sampling.policies import FIXED, Sampling
from nequip_like.data.tables.frame_table import FrameTable

_STREAM = 0x5DEECE66D  # apart from the streams that the order of frames is drawn from


class ForceSupervision:
    """Which frames train with their forces: a function of (seed, epoch), the same in all processes.

    Of ``N`` frames with forces these are ``n = min(max(int(N f), m), N)``, with ``f`` and ``m`` of
    ``force_fraction`` and ``force_min_structures_per_epoch``. The forces of the others become missing labels.

    Args:
        table: The table of the frames that training may see.
        sampling: What the config says.
        seed: Seed of the draw.

    Example:
        >>> from ase.build import molecule
        >>> from nequip_like.data.io.structures import graph_from_atoms
        >>> from nequip_like.data.tables.frame_table import tabulate
        >>> frames = [graph_from_atoms(molecule("H2O")) | {"forces": torch.zeros(3, 3)} for _ in range(10)]
        >>> supervision = ForceSupervision(tabulate(frames), Sampling(force_fraction=0.3), seed=0)
        >>> int(supervision.draw(epoch=0).sum())
        3
    """

    def __init__(self, table: FrameTable, sampling: Sampling, seed: int) -> None:
        self.sampling = sampling
        self.labelled_atoms = np.bincount(table.frame_of, table.force_counts, len(table)) / 3.0
        self._seed = seed
        self._drawn: tuple[int, np.ndarray] = (-1, np.zeros(0, dtype=bool))

    @property
    def scales(self) -> bool:
        """Whether errors of forces are scaled."""
        return self.sampling.force_scale_unbiased

    def count_frames(self) -> tuple[int, int]:
        """How many frames train with their forces, and how many have forces."""
        labelled = int((self.labelled_atoms > 0).sum())
        asked = int(labelled * self.sampling.force_fraction + 1e-9)  # 0.29 of 100 are 29, and 28.999999999999996
        return min(max(asked, self.sampling.force_min_structures_per_epoch), labelled), labelled

    def find_window(self, epoch: int) -> int:
        """Number of the draw that an epoch has."""
        every = self.sampling.force_resample_num_epochs
        return 0 if self.sampling.force_sampling == FIXED or every == 0 else epoch // every

    def draw(self, epoch: int) -> np.ndarray:
        """Whether each frame trains with its forces (frames,); not to be changed."""
        if (window := self.find_window(epoch)) != self._drawn[0]:
            labelled = np.flatnonzero(self.labelled_atoms > 0)
            generator = make_epoch_generator(self._seed ^ _STREAM, window)
            order = torch.randperm(len(labelled), generator=generator).numpy()
            supervised = np.zeros(len(self.labelled_atoms), dtype=bool)
            supervised[labelled[order[: self.count_frames()[0]]]] = True
            self._drawn = window, supervised
        return self._drawn[1]

    def mask(self, batch: Graph, epoch: int) -> Graph:
        """The batch (or frame) without the forces that are not trained on in an epoch."""
        if fields.FORCES not in batch:
            return batch
        supervised = torch.from_numpy(self.draw(epoch)[batch[fields.FRAME_INDEX].numpy()])
        if bool(supervised.all()):
            return batch
        of_atoms = supervised[batch_index(batch)].unsqueeze(1)
        return {**batch, fields.FORCES: torch.where(of_atoms, batch[fields.FORCES], torch.nan)}

    def count_atoms(self, frames: np.ndarray, epoch: int) -> tuple[float, float]:
        """Atoms of some frames whose forces are trained on, and of those that have forces.

        Args:
            frames: Indices of the frames; one that is drawn twice counts twice, a process without a frame has -1.
            epoch: The epoch.
        """
        frames = frames[frames >= 0]
        labelled = self.labelled_atoms[frames]
        return float(labelled[self.draw(epoch)[frames]].sum()), float(labelled.sum())

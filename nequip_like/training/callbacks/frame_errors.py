"""Errors of the energies of the frames that an epoch draws, by which the next one draws them."""

from __future__ import annotations

from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.loader import ResumableLoader
from nequip_like.data.sampling.samplers import ErrorWeightedSampler
from nequip_like.distributed import gather, is_distributed
from nequip_like.training.module import NequIPLightningModule


class FrameErrors(Callback):
    """Tells a sampler the mean absolute error of the energy per atom that each frame had in an epoch.

    ``data.sampling.policy=error_weighted`` adds it. Errors are those of the predictions that a step was made of, before
    it; those of forces never count. A frame without an energy keeps its score. In checkpoints, also within an epoch.
    """

    updates_scores = True  # for the data, which cannot be sampled by errors that nobody tells

    def __init__(self) -> None:
        self._sums = np.zeros(0)
        self._draws = np.zeros(0)
        self._epoch = 0  # that they are of
        self._scores: np.ndarray | None = None  # of the sampler; of a checkpoint before it is known

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look at the predictions of each step."""
        if not isinstance(pl_module, NequIPLightningModule) or (sampler := _find_sampler(trainer)) is None:
            return
        if self._scores is not None:
            sampler.go_on(self._scores)
        self._scores = sampler.scores
        if len(self._sums) != len(sampler.scores) or trainer.global_rank > 0:
            # The sums of a checkpoint are those of all processes; the first one goes on with them.
            self._sums, self._draws = np.zeros(len(sampler.scores)), np.zeros(len(sampler.scores))
        if self._see not in pl_module.prediction_observers:  # a fit that failed leaves it there
            pl_module.prediction_observers.append(self._see)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell the sampler the errors of the last epoch, before the order of this one is drawn.

        Not when that epoch ends: checkpoints are written before, at its validation.
        """
        if self._epoch != trainer.current_epoch:
            self._tell(trainer)
        self._epoch = trainer.current_epoch

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop looking.

        The sampler is not told here: training may end within an epoch, whose order goes by the scores that it began
        with, and a checkpoint that is written after this has to go on with it. The errors stay until the next epoch.
        """
        self._collect(trainer)
        if isinstance(pl_module, NequIPLightningModule) and self._see in pl_module.prediction_observers:
            pl_module.prediction_observers.remove(self._see)

    def state_dict(self) -> dict[str, Any]:
        """Scores, and errors of the epoch so far, of all processes."""
        sums, draws = self._sum_processes()
        scores = None if self._scores is None else torch.from_numpy(self._scores.copy())
        return {"scores": scores, "sums": sums, "draws": draws, "epoch": self._epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the errors of a checkpoint."""
        self._sums, self._draws = state_dict["sums"].numpy().copy(), state_dict["draws"].numpy().copy()
        self._epoch = int(state_dict["epoch"])
        self._scores = None if state_dict["scores"] is None else state_dict["scores"].numpy()

    def _collect(self, trainer: lightning.Trainer) -> None:
        """Let the first process have the sums of all, as in a checkpoint."""
        sums, draws = self._sum_processes()
        self._sums, self._draws = sums.numpy().copy(), draws.numpy().copy()
        if trainer.global_rank > 0:
            self._sums[:], self._draws[:] = 0.0, 0.0

    def _tell(self, trainer: lightning.Trainer) -> None:
        if (sampler := _find_sampler(trainer)) is not None:
            sums, draws = self._sum_processes()
            sampler.update(sums.numpy(), draws.numpy())
            self._scores = sampler.scores
            self._sums[:], self._draws[:] = 0.0, 0.0

    def _see(self, batch: Graph, prediction: Graph) -> None:
        with torch.no_grad():
            difference = prediction[fields.TOTAL_ENERGY] - batch[fields.TOTAL_ENERGY]
            errors = (difference.flatten().abs() / batch[fields.NUM_ATOMS]).cpu().numpy()
        frames = batch[fields.FRAME_INDEX].cpu().numpy()
        labelled = ~torch.isnan(batch[fields.TOTAL_ENERGY]).flatten().cpu().numpy()
        np.add.at(self._sums, frames[labelled], errors[labelled])
        np.add.at(self._draws, frames[labelled], 1.0)

    def _sum_processes(self) -> tuple[torch.Tensor, torch.Tensor]:
        both = torch.from_numpy(np.stack([self._sums, self._draws]))
        if is_distributed():
            both = gather(both.flatten()).sum(0).reshape(2, -1).cpu()
        sums, draws = both.clone()
        return sums, draws


def _find_sampler(trainer: lightning.Trainer) -> ErrorWeightedSampler | None:
    loader: Any = trainer.train_dataloader
    sampler = loader.frame_order if isinstance(loader, ResumableLoader) else None
    return sampler if isinstance(sampler, ErrorWeightedSampler) else None

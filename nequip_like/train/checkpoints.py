"""Checkpoint callbacks: written where a run can be resumed exactly, whole or not at all."""

from __future__ import annotations

import copy
import re
import shutil
import warnings
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from torch import Tensor

from nequip_like.errors import ConfigError, OutputError
from nequip_like.model.checkpoint_format import CHECKPOINT_KEY, read_checkpoint
from nequip_like.train.resume_points import ends_within_epoch, epoch_ends_next, validation_comes_next
from nequip_like.whole_files import written_whole

_PARTIAL = re.compile(r"\..*\.\d+\.ckpt")  # what a killed process leaves, see whole_files.written_whole


class ResumableCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, whose files continue a run exactly.

    - A checkpoint that falls due at a batch which a validation or the end of the epoch follows is written after these:
      Lightning would leave them out on resuming.
    - Without ``monitor``, a checkpoint is also written where training is stopped within an epoch (a signal, a limit of
      time or steps, early stopping). An epoch that was not finished never counts as finished.
    - In another folder, it brings along the best checkpoints so far. Lightning forgets them, and would export the
      best epoch since the resumption.

    Args:
        on_failed_save: What a checkpoint that cannot be written (disk full, no permission) does: ``stop`` ends the run
            with an error, ``warn`` says so and goes on. The checkpoint before it stays in both cases.
        **arguments: Arguments of :class:`lightning.pytorch.callbacks.ModelCheckpoint`.

    Raises:
        ConfigError: If ``on_failed_save`` is something else.
    """

    def __init__(self, on_failed_save: Literal["stop", "warn"] = "stop", **arguments: Any) -> None:
        super().__init__(**arguments)
        if on_failed_save not in ("stop", "warn"):
            raise ConfigError(f"on_failed_save of a checkpoint is {on_failed_save!r}", "write stop or warn")
        self.on_failed_save = on_failed_save
        self._after_batch = False
        self._due = False

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Find the folder."""
        with warnings.catch_warnings():
            # A run that goes on in its folder finds its own checkpoints there.
            warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
            super().setup(trainer, pl_module, stage)

    # --- when

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Remove what a killed run may have left half-written."""
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero and self.dirpath is not None and Path(self.dirpath).is_dir():
            for path in Path(self.dirpath).iterdir():
                if _PARTIAL.fullmatch(path.name):
                    path.unlink(missing_ok=True)

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any, **kwargs: Any) -> None:
        """Save if it is time and a run can be resumed from here."""
        self._after_batch = True
        super().on_train_batch_end(trainer, *args, **kwargs)
        self._after_batch = False
        self._save_due(trainer, ends_within_epoch(trainer))

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save if the validation was awaited."""
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and not epoch_ends_next(trainer):
            self._save_due(trainer, ends_within_epoch(trainer), here=True)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save at the end of an epoch, but not at the end of a part of one: it would count as the whole."""
        if epoch_ends_next(trainer):
            super().on_train_epoch_end(trainer, pl_module)
            self._save_due(trainer, False, here=True)

    def _save_due(self, trainer: lightning.Trainer, stops: bool, here: bool = False) -> None:
        due = self._due or (stops and self.monitor is None and not self._should_skip_saving_checkpoint(trainer))
        if not due or not (here or _resumable_after_batch(trainer)):
            return
        self._due = False
        candidates = self._monitor_candidates(trainer)
        self._save_topk_checkpoint(trainer, candidates)
        self._save_last_checkpoint(trainer, candidates)

    def _save_topk_checkpoint(self, trainer: lightning.Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        if self._after_batch and not _resumable_after_batch(trainer):
            self._due = True
            return
        before = copy.deepcopy(self.state_dict())
        try:
            super()._save_topk_checkpoint(trainer, monitor_candidates)
        except OutputError as error:
            # What was not written is not the best, and what was to make room for it stays.
            for name, value in before.items():
                setattr(self, name, value)
            self._failed(error)

    def _save_last_checkpoint(self, trainer: lightning.Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        if self._due:
            return
        try:
            super()._save_last_checkpoint(trainer, monitor_candidates)
        except OutputError as error:
            self._failed(error)

    def check_monitor_top_k(self, trainer: lightning.Trainer, current: Tensor | None = None) -> bool:
        """Whether a value is among the best: never one that is not finite, not even as the first."""
        if current is not None and not bool(torch.isfinite(current)):
            return False
        return super().check_monitor_top_k(trainer, current)

    # --- how

    def _save_checkpoint(self, trainer: lightning.Trainer, filepath: str) -> None:
        """Save; if that fails, it fails on all processes, which would otherwise wait for the one that writes."""
        failure = None
        try:
            super()._save_checkpoint(trainer, filepath)
        except OutputError as error:
            failure = error
            trainer.strategy.barrier("Trainer.save_checkpoint")
        told = trainer.strategy.broadcast(None if failure is None else (failure.message, failure.advice))
        if told is not None:
            raise failure or OutputError(*told)

    def _failed(self, error: OutputError) -> None:
        if self.on_failed_save == "stop":
            raise error
        rank_zero_warn(f"{error.message}; training goes on without this checkpoint")

    # --- resuming

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what an earlier run found."""
        if self.monitor is None or self.dirpath is None:
            return  # the last checkpoint: there is nothing to remember
        old = {str(path): score for path, score in state_dict["best_k_models"].items()}
        if lost := [path for path, score in old.items() if not self._is_still(path, score)]:
            # In the same folder the steps that wrote it over are about to be done again.
            if any(Path(path).parent != Path(self.dirpath) or not Path(path).is_file() for path in lost):
                rank_zero_warn(f"{lost[0]} is gone or was written over later: the best is sought from here on")
            return
        if not old:
            return
        self.current_score = state_dict["current_score"]
        new = {path: str(Path(self.dirpath) / Path(path).name) for path in old}
        for path, target in new.items():
            _copy(path, target)
        moved = {name: new.get(str(state_dict[name]), "") for name in ("best_model_path", "kth_best_model_path")}
        scores = {new[path]: score for path, score in old.items()}
        super().load_state_dict({**state_dict, **moved, "dirpath": self.dirpath, "best_k_models": scores})

    def _is_still(self, path: str, score: Tensor) -> bool:
        """Whether a file is the checkpoint that had this score."""
        if not Path(path).is_file():
            return False
        found = read_checkpoint(path)[CHECKPOINT_KEY]["logged"].get(self.monitor)
        return found is not None and found == float(score)


def _resumable_after_batch(trainer: lightning.Trainer) -> bool:
    return not epoch_ends_next(trainer) and not validation_comes_next(trainer)


@rank_zero_only
def _copy(path: str, target: str) -> None:
    if Path(path).absolute() != Path(target).absolute():
        with written_whole(target) as partial:
            shutil.copyfile(path, partial)

"""Checkpoint callbacks: written where a run can be resumed exactly, whole or not at all."""

from __future__ import annotations

import copy
import shutil
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from torch import Tensor

from nequip_like.arguments import Count, Form, Positive, check
from nequip_like.errors import ConfigError, OutputError, TrainingError
from nequip_like.model.checkpoint_format import CHECKPOINT_KEY, read_checkpoint
from nequip_like.training.checkpointing.cycles import list_matching_files, take_cycle, take_newest
from nequip_like.training.checkpointing.io import find_waiting, write_waiting_checkpoints
from nequip_like.training.checkpointing.ranking import RankedCheckpoint, give_name, rank_checkpoints, write_ranking
from nequip_like.training.checkpointing.upload import RemoteStorageSync, hand_over, takes_files
from nequip_like.training.checkpointing.waiting import WaitingCheckpoints
from nequip_like.training.lightning_internals import (
    copy_callback_metrics,
    ends_within_epoch,
    epoch_ends_next,
    find_callback,
    take_back_batch,
    training_ends_next,
    validation_comes_next,
)
from nequip_like.whole_files import is_partial, written_whole

RunName = Annotated[str, Form(r"[A-Za-z0-9+=,_-][A-Za-z0-9+=,._-]*", "a name of letters, digits and +=,._- only")]
EXCEPTION = "exception"  # what a run that failed leaves behind, see ResumableCheckpoint.on_exception


class ResumableCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, whose files continue a run exactly.

    - A checkpoint that falls due at a batch which a validation or the end of the epoch follows is written after these:
      Lightning would leave them out on resuming.
    - Without ``monitor``, a checkpoint is also written where training is stopped within an epoch (a signal, a limit of
      time or steps, early stopping). An epoch that was not finished never counts as finished.
    - In another folder, it brings along the best checkpoints so far. Lightning forgets them, and would export the
      best epoch since the resumption.
    - A file that would be written again within ten seconds waits in memory, see :meth:`_find_place_to_wait`.
    - Of several best checkpoints (``save_top_k`` above 1) the files are named after epoch and step;
      :mod:`~nequip_like.training.checkpointing.ranking` tells which is which.

    Args:
        on_failed_save: What a checkpoint that cannot be written (disk full, no permission) does: ``stop`` ends the run
            with an error, ``warn`` says so and goes on. The checkpoint before it stays in both cases.
        run_name: All names of files begin with it: ``{run_name}_best.ckpt``.
        every_n_updates: Write after each n-th optimizer update, whatever the length of an epoch.
        every_n_minutes: Write when so many minutes are over since the last time; the first process decides.
        keep_newest: Keep so many of these checkpoints, the newest; without ``monitor``.
        **arguments: Arguments of :class:`lightning.pytorch.callbacks.ModelCheckpoint`.

    Attributes:
        saved_at: Epoch and step of the best checkpoints, by name.
        newest: Names of the checkpoints that ``keep_newest`` keeps, the newest last.

    Raises:
        ConfigError: If an argument is out of range, or two of them exclude each other.
    """

    def __init__(
        self,
        on_failed_save: Literal["stop", "warn"] = "stop",
        run_name: RunName | None = None,
        every_n_updates: Count | None = None,
        every_n_minutes: Positive | None = None,
        keep_newest: Count | None = None,
        **arguments: Any,
    ) -> None:
        if on_failed_save not in ("stop", "warn"):
            raise ConfigError(f"on_failed_save of a checkpoint is {on_failed_save!r}", "write stop or warn")
        check("run_name", run_name, RunName | None)
        take_cycle(arguments, every_n_updates, every_n_minutes)
        if keep_newest is not None:
            take_newest(arguments, keep_newest)
        self.on_failed_save = on_failed_save
        self.keep_newest = keep_newest
        self.saved_at: dict[str, list[int]] = {}
        self.newest: list[str] = []
        prefix = "" if run_name is None else f"{run_name}_"
        name = arguments.get("filename")
        self._alias: str | None = None
        # Lightning numbers files of one fixed name, best-v1.ckpt, best-v2.ckpt, and no number says which is the best.
        if name and "{" not in name and arguments.get("save_top_k", 1) not in (0, 1):
            self._alias = f"{prefix}{name}" if arguments.get("monitor") else None
            suffix = "{epoch}-{step}" if arguments.get("auto_insert_metric_name", True) else "epoch{epoch}-step{step}"
            name = f"{name}-{suffix}"
        if prefix:
            arguments["filename"] = prefix + (name or "{epoch}-{step}")
            # An attribute of Lightning's class: set on this object only, other callbacks keep theirs.
            self.CHECKPOINT_NAME_LAST = f"{prefix}{self.CHECKPOINT_NAME_LAST}"
        else:
            arguments["filename"] = name
        self._prefix = prefix
        super().__init__(**arguments)
        # Lightning saves from several hooks by the same two methods; only after a batch may a save have to wait.
        self._after_batch = False
        self._due = False
        self._waiting: WaitingCheckpoints | None = None  # where those of this callback may wait

    @property
    def state_key(self) -> str:
        """Lightning's, and what tells two callbacks apart that are otherwise alike."""
        key: str = super().state_key
        # Without keep_newest the key stays Lightning's, under which checkpoints of earlier versions have the state.
        return key if self.keep_newest is None else f"{key}[{self.filename}]"

    def state_dict(self) -> dict[str, Any]:
        """The state of Lightning's callback, and the names of the files that this one keeps."""
        best_state = {"saved_at": self.saved_at} if self.monitor else {}
        return {**super().state_dict(), **best_state, **({} if self.keep_newest is None else {"newest": self.newest})}

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Find the folder."""
        with warnings.catch_warnings():
            # A run that goes on in its folder finds its own checkpoints there.
            warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
            super().setup(trainer, pl_module, stage)

    # --- when

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Remove what a killed run may have left half-written."""
        # Lightning restores the state of callbacks between setup and here: only now the best files are known to us.
        super().on_train_start(trainer, pl_module)
        self._tell_ranks(trainer)
        self._waiting = self._find_place_to_wait(trainer)
        # Before the first step nothing of this run is being written: whatever is partial, an earlier one left behind.
        if trainer.is_global_zero and self.dirpath is not None and Path(self.dirpath).is_dir():
            for path in Path(self.dirpath).iterdir():
                if path.suffix in (".ckpt", ".json") and is_partial(path.name):
                    path.unlink(missing_ok=True)

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any, **kwargs: Any) -> None:
        """Save if it is time and a run can be resumed from here."""
        if self._every_n_train_steps >= 1 or self._train_time_interval is not None:  # else it saves by epochs only
            self._after_batch = True
            super().on_train_batch_end(trainer, *args, **kwargs)
            self._after_batch = False
        # Where training stops here no later hook saves, and the steps since the last checkpoint would be lost.
        self._save_due(trainer, ends_within_epoch(trainer))
        if self._waiting is not None:
            self._waiting.write_in_time()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save if the validation was awaited."""
        super().on_validation_end(trainer, pl_module)
        # After the last batch the end of the epoch is still to come: a run that goes on from here would leave it out.
        # Lightning calls this hook in trainer.validate() and in the sanity check as well, where nothing was trained.
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and not epoch_ends_next(trainer):
            self._save_due(trainer, ends_within_epoch(trainer), resumable=True)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save at the end of an epoch, but not at the end of a part of one: it would count as the whole."""
        if epoch_ends_next(trainer):
            super().on_train_epoch_end(trainer, pl_module)
            self._save_due(trainer, False, resumable=True)
        # Here, and not at the end only: other callbacks read the files there. Before the last one saves it is too soon.
        if trainer.checkpoint_callbacks[-1] is self and training_ends_next(trainer):
            write_waiting_checkpoints(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Write what waits."""
        super().on_train_end(trainer, pl_module)
        write_waiting_checkpoints(trainer)

    def _save_due(self, trainer: lightning.Trainer, stops: bool, resumable: bool = False) -> None:
        due = self._due or (stops and self.monitor is None and not self._should_skip_saving_checkpoint(trainer))
        if not due or not (resumable or _can_resume_after_batch(trainer)):
            return
        # First of all, for as long as it is set the last checkpoint is not written.
        self._due = False
        candidates = self._monitor_candidates(trainer)
        self._save_topk_checkpoint(trainer, candidates)
        self._save_last_checkpoint(trainer, candidates)

    def _save_topk_checkpoint(self, trainer: lightning.Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        if self._after_batch and not _can_resume_after_batch(trainer):
            self._due = True
            return
        # Lightning lists a file before it writes it, and changes its lists in place: a reference would change as well.
        state_before = {
            name: copy.copy(value) if isinstance(value, dict | list) else value
            for name, value in self.state_dict().items()
        }
        try:
            super()._save_topk_checkpoint(trainer, monitor_candidates)
        except OutputError as error:
            # What was not written is not the best, and what was to make room for it stays.
            for name, value in state_before.items():
                setattr(self, name, value)
            self._handle_failed_save(error)
        else:
            if state_before["best_k_models"] != self.best_k_models:
                self._tell_ranks(trainer)

    def _tell_ranks(self, trainer: lightning.Trainer) -> None:
        """Give the best of several its name, and write the order of all."""
        if self._alias is None or not self.best_k_models or not trainer.is_global_zero:
            return
        folder = Path(str(self.dirpath))
        names = [folder / f"{self._alias}{self.FILE_EXTENSION}", folder / f"{self._alias}.json"]
        try:
            give_name(Path(self.best_model_path), names[0])
            write_ranking(names[1], str(self.monitor), self.ranking())
        except OutputError as error:
            self._handle_failed_save(error)
        else:
            hand_over(trainer, *names)

    def ranking(self) -> list[RankedCheckpoint]:
        """The best checkpoints, the best first."""
        values = {str(path): float(value) for path, value in self.best_k_models.items()}
        return rank_checkpoints(values, self.saved_at, self.mode == "min")

    def _save_last_checkpoint(self, trainer: lightning.Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        # Lightning calls this right after the one above: where that has to wait for a later hook, this has to, too.
        if self._due:
            return
        try:
            super()._save_last_checkpoint(trainer, monitor_candidates)
        except OutputError as error:
            self._handle_failed_save(error)

    def _monitor_candidates(self, trainer: lightning.Trainer) -> dict[str, Tensor]:
        # Lightning's, at less cost.
        return copy_callback_metrics(trainer)

    def check_monitor_top_k(self, trainer: lightning.Trainer, current: Tensor | None = None) -> bool:
        """Whether a value is among the best: never one that is not finite, not even as the first."""
        # Lightning would enter NaN as infinity while there are fewer than k. All processes have the same value, so all
        # return here together, and none waits in the vote that Lightning holds.
        if current is not None and not bool(torch.isfinite(current)):
            return False
        return super().check_monitor_top_k(trainer, current)

    # --- how

    def _save_checkpoint(self, trainer: lightning.Trainer, filepath: str) -> None:
        """Save; if that fails, it fails on all processes, which would otherwise wait for the one that writes."""
        failure = None
        # Before the file is written, because the lists are part of what is written into it.
        superfluous = self._count_in(trainer, filepath)
        try:
            with nullcontext() if self._waiting is None else self._waiting.allowed(is_listed=self.monitor is not None):
                super()._save_checkpoint(trainer, filepath)
        except OutputError as error:
            failure = error
            # The other processes wait at the barrier with which Lightning ends a save, and this one left before it. It
            # has to go there all the same: else the broadcast below would meet the barrier, and the run would hang.
            trainer.strategy.barrier("Trainer.save_checkpoint")
        # Only the first process writes and knows. Two texts travel; an exception with its cause may not be picklable.
        failure_text = trainer.strategy.broadcast(None if failure is None else (failure.message, failure.advice))
        if failure_text is not None:
            raise failure or OutputError(*failure_text)
        hand_over(trainer, filepath)
        # Only now: until the new file is whole, the one that makes room for it may be the only good one.
        for name in superfluous:
            self._remove_checkpoint(trainer, str(Path(filepath).with_name(name)))

    def _find_place_to_wait(self, trainer: lightning.Trainer) -> WaitingCheckpoints | None:
        """Where checkpoints of this callback may wait before they are written; None if they may not.

        Those by updates and minutes may not, for the user has chosen the time. None may where somebody takes each file
        (an upload, a logger), where files are told apart by epoch or step, where one that fails is only warned of, and
        with several processes.
        """
        must_be_files = find_callback(trainer, RemoteStorageSync) is not None or any(map(takes_files, trainer.loggers))
        # A file that is removed meanwhile would be missed by one that waits and lists it.
        simple = all(
            isinstance(callback, ResumableCheckpoint)
            and callback.on_failed_save == "stop"
            and (callback.monitor is None or callback._is_written_over())
            for callback in trainer.checkpoint_callbacks
        )
        may_wait = self._is_written_over() and simple and not must_be_files and trainer.world_size == 1
        return find_waiting(trainer) if may_wait else None

    def _is_written_over(self) -> bool:
        """Whether this is one file, written anew after epochs or validations."""
        by_epochs = self._every_n_train_steps < 1 and self._train_time_interval is None
        named_once = self.filename is not None and "{" not in self.filename
        return by_epochs and named_once and self.save_top_k == 1 and self.keep_newest is None

    def _count_in(self, trainer: lightning.Trainer, filepath: str) -> list[str]:
        """Note a checkpoint that is about to be written, for it holds this note; gives names that it pushes out."""
        name = Path(filepath).name
        if self.monitor is not None:
            best = {Path(path).name for path in self.best_k_models}
            positions = {**self.saved_at, name: [trainer.current_epoch, trainer.global_step]}
            self.saved_at = {file_name: positions[file_name] for file_name in positions if file_name in best}
        # Lightning notes this path before it saves; last.ckpt is written over each time and takes no place.
        if self.keep_newest is None or filepath == self.last_model_path:
            return []
        # A run that went on from an earlier step writes a name again: it moves to the end, and counts once.
        names = [*(file_name for file_name in self.newest if file_name != name), name]
        self.newest = names[-self.keep_newest :]
        return names[: -self.keep_newest]

    def _handle_failed_save(self, error: OutputError) -> None:
        if self.on_failed_save == "stop":
            raise error
        rank_zero_warn(f"{error.message}; training goes on without this checkpoint")

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Write what waits, and with ``save_on_exception`` ``exception.ckpt``: the weights after the last whole step.

        The batch that failed is half done, so a run that goes on from this file is not bit for bit the one that never
        failed; ``resume: auto`` does not take it. Nothing is written by several processes: only one may have failed.
        """
        try:
            write_waiting_checkpoints(trainer)
        except OutputError as error:  # of the two errors, the first is the one to be raised
            rank_zero_warn(f"{error.message}; the checkpoint before it stays")
        saves = self._should_save_on_exception(trainer) and trainer.world_size == 1
        if not saves or isinstance(exception, KeyboardInterrupt) or self.dirpath is None:
            return
        # The first interrupt ends a run in order (GracefulStop); who interrupts again wants to be out at once.
        # The file has its own name and is in no list: it is not the best, and no run goes on exactly from it.
        path = Path(self.dirpath) / f"{self._prefix}{EXCEPTION}{self.FILE_EXTENSION}"
        take_back_batch(trainer)
        try:
            trainer.save_checkpoint(path, self.save_weights_only)
        except (OutputError, TrainingError) as error:  # as above
            rank_zero_warn(f"{path} was not written: {error.message}")
            return
        rank_zero_warn(f"after {type(exception).__name__}, the weights of the last whole step were written to {path}")
        hand_over(trainer, path)

    # --- resuming

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what an earlier run found."""
        if self.dirpath is None:
            return
        folder = Path(self.dirpath)
        if self.keep_newest is not None:
            self.newest = list_matching_files(folder, self.filename or "{epoch}-{step}", self.FILE_EXTENSION)
        if self.monitor is None:
            return  # the last checkpoint: there is nothing else to remember
        best_scores = {str(path): score for path, score in state_dict["best_k_models"].items()}
        if lost := [path for path, score in best_scores.items() if not self._is_still(path, score)]:
            # In the same folder the steps that wrote it over are about to be done again.
            if any(Path(path).parent != folder or not Path(path).is_file() for path in lost):
                rank_zero_warn(f"{lost[0]} is gone or was written over later: the best is sought from here on")
            best_scores = {path: score for path, score in best_scores.items() if path not in lost}
        if not best_scores:
            return
        # Lightning saves this one and does not restore it: later checkpoints would not be those of one long run.
        self.current_score = state_dict["current_score"]
        self.saved_at = {name: list(at) for name, at in state_dict.get("saved_at", {}).items()}
        targets = {path: str(folder / Path(path).name) for path in best_scores}
        for path, target in targets.items():
            _copy(path, target)
        # What Lightning noted as the best may be among the lost.
        best = (min if self.mode == "min" else max)(best_scores, key=lambda path: float(best_scores[path]))
        best_paths = {
            "best_model_path": targets[best],
            "kth_best_model_path": targets.get(str(state_dict["kth_best_model_path"]), ""),
        }
        scores = {targets[path]: score for path, score in best_scores.items()}
        # Lightning drops the lists of another folder with a warning; the files were copied, so it is told of this one.
        folder_state = {"dirpath": self.dirpath, "best_k_models": scores, "best_model_score": best_scores[best]}
        super().load_state_dict({**state_dict, **best_paths, **folder_state})

    def _is_still(self, path: str, score: Tensor) -> bool:
        """Whether a file is the checkpoint that had this score."""
        if not Path(path).is_file():
            return False
        logged_value = read_checkpoint(path)[CHECKPOINT_KEY]["logged"].get(self.monitor)
        # Exactly: the same name with another value is the work of a run that went on from before it.
        return logged_value is not None and logged_value == float(score)


def _can_resume_after_batch(trainer: lightning.Trainer) -> bool:
    return not epoch_ends_next(trainer) and not validation_comes_next(trainer)


@rank_zero_only
def _copy(path: str, target: str) -> None:
    if Path(path).absolute() != Path(target).absolute():
        with written_whole(target) as partial:
            shutil.copyfile(path, partial)

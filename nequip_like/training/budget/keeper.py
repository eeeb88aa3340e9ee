"""Keeps a run within its budget of time: measures steps, plans the rest, and ends the training annealed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import GraphDataset
from nequip_like.errors import ConfigError
from nequip_like.optim.schedules.learning_rate import LearningRate
from nequip_like.optim.schedules.progress import Record, RunProgress
from nequip_like.training.budget.clock import Clock
from nequip_like.training.budget.durations import format_seconds
from nequip_like.training.budget.planner import BudgetPlanner
from nequip_like.training.budget.record_file import BUDGET_FILE, write_records
from nequip_like.training.budget.reserve import Reserve
from nequip_like.training.lightning_internals import count_steps_of_epoch, find_callback

_MOST_CONTENTION = 5.0  # where a process waits for a device, its processor time tells nothing
_SAID_AGAIN = 1.25  # a plan that differs from the one that was told by this factor is told, too


class BudgetKeeper(lightning.Callback):
    """Plans how many steps a run with a budget has left, and ends it where its progress reaches 1.

    The first process decides, and tells the others. All that follows the progress follows the records of these plans,
    which are in each checkpoint and in ``budget.json``: a run that is resumed has those of its checkpoint, one that
    repeats another has that one's and needs no clock.

    After the last step, in the middle of an epoch or not, a validation follows.

    It has to come before the callbacks that ask whether a validation follows, and after ``ValidationCycle``.

    Args:
        seconds: The budget; None to repeat the records.
        clock: Seconds since the command began.
        tasks: The tasks of the run, for the time that is to be left for those after the training.
        folder: Where ``budget.json`` is written.
        progress: Records of a run to repeat.
        uncertainty_frames: Training frames, at most, that the uncertainty of the model file will be made of.
        page: Whether ``report.html`` is written at the end.

    Attributes:
        progress: The share of the run that is done, by steps.
        used_before: Seconds that earlier runs, which this one goes on from, took up to their checkpoint.
    """

    def __init__(
        self,
        seconds: float | None,
        clock: Clock,
        *,
        tasks: Sequence[str] = ("train",),
        folder: str | Path = ".",
        progress: RunProgress | None = None,
        uncertainty_frames: int = 0,
        page: bool = False,
    ) -> None:
        self.seconds = seconds
        self.progress = progress or RunProgress()
        self.used_before = 0.0
        self._clock = clock
        self._tasks = tuple(tasks)
        self._uncertainty_frames = uncertainty_frames
        self._page = page
        self._path = Path(folder) / BUDGET_FILE
        self._planner: BudgetPlanner | None = None
        self._paused = False
        self._steps = 0
        self._validation_began = 0.0
        self._told: int | None = None
        self._other_budget = False
        self._at_plan: tuple[float, float] | None = None
        self._check_every_n_epoch: int | None = None

    @property
    def used(self) -> float:
        """Seconds of the budget that are used up."""
        return self.used_before + self._clock()

    # --- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Budget, time that was used, and the records."""
        return {"seconds": self.seconds, "used": self.used, "records": self.progress.to_lists()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the records of a checkpoint, and with what is left of the time."""
        self.used_before = float(state_dict["used"])
        if self.seconds is None:
            return  # the file that is repeated has the records of the whole run
        self._other_budget = state_dict["seconds"] != self.seconds
        self.progress.records = RunProgress.from_lists(state_dict["records"]).records

    # --- a run

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin to plan; do not begin to train if nothing is left."""
        self._steps = trainer.global_step
        self._check_every_n_epoch = trainer.check_val_every_n_epoch
        if self.seconds is not None:
            # After each epoch there is a pause; others show themselves when there were two.
            cycle = count_steps_of_epoch(trainer, trainer.num_training_batches)
            self._planner = BudgetPlanner(self.seconds, self.progress, self._find_reserve(trainer), cycle)
            # Up to its checkpoint: what this command has done so far is no time of steps.
            record = self._planner.begin_again(self._steps, self.used_before, self._other_budget)
            self._take(trainer, record)
        if self._steps >= self.progress.end:
            _say(f"the budget{self._name()} is used up: {self._steps} steps are done; to train on, give a larger one")
            self._stop(trainer)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Measure how long a validation takes."""
        self._validation_began = self._clock()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Measure how long a validation takes."""
        if self._planner is not None and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._planner.validation_seconds = self._clock() - self._validation_began
            self._paused = True

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The time around the end of an epoch is not that of a step."""
        self._paused = True

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any, **kwargs: Any) -> None:
        """Plan again if it is time; end the training if it is done."""
        if trainer.global_step == self._steps:
            return  # a batch of an accumulation
        self._steps = trainer.global_step
        if self._planner is not None:
            self._follow_clock(trainer, self._planner)
        if self._steps >= self.progress.end:
            self._stop(trainer)

    def _follow_clock(self, trainer: lightning.Trainer, planner: BudgetPlanner) -> None:
        used = self.used
        planner.see_step(self._steps, used, self._paused)
        self._paused = False
        due = trainer.is_global_zero and planner.is_due(self._steps, used)
        if trainer.world_size > 1:
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if not due:
            return
        record, complaint = None, None
        if trainer.is_global_zero:
            self._measure_contention(planner)
            record = planner.plan(self._steps, used)
            begins = not self.progress.is_measured and not self.used_before
            complaint = planner.complain(record) if begins else None
        if trainer.world_size > 1:
            record, complaint = trainer.strategy.broadcast((record, complaint))
        if complaint is not None:
            least = format_seconds(planner.least_budget())
            raise ConfigError(f"the budget{self._name()} is {complaint}", f"give more time, from about {least} on")
        self._take(trainer, None if record is None else Record(*record))

    def _measure_contention(self, planner: BudgetPlanner) -> None:
        """Compare the time that went by since the last plan with what this process had of the processors."""
        before, self._at_plan = self._at_plan, (self._clock(), time.process_time())
        if before is not None:
            wall, processor = (now - then for now, then in zip(self._at_plan, before, strict=True))
            contention = min(max(1.0, wall / max(processor, 1e-9)), _MOST_CONTENTION)
            planner.contention = 0.5 * (planner.contention + contention)

    def _take(self, trainer: lightning.Trainer, record: Record | None) -> None:
        """Add a plan, and let all that follows the progress see it."""
        if record is None:
            return
        self.progress.add(record)
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, LearningRate):
                config.scheduler.refresh()
        if trainer.is_global_zero:
            self._write()
            self._tell(trainer, record)

    def _tell(self, trainer: lightning.Trainer, record: Record) -> None:
        total = record.step + record.remaining
        if self._planner is None or (self._told is not None and 1 / _SAID_AGAIN < total / self._told < _SAID_AGAIN):
            return
        per_epoch = count_steps_of_epoch(trainer, trainer.num_training_batches)
        epochs = "" if per_epoch is None else f"about {total / per_epoch:.1f} epochs "
        steps = f"({total} steps)" if epochs else f"about {total} steps"
        usual = 1000 * (self._planner.step_seconds or 0.0)
        _say(
            f"budget{self._name()}: {epochs}{steps} planned {'' if self._told is None else 'now '}at {usual:.3g} ms a "
            f"step, {format_seconds(self.used)} used, {format_seconds(self._planner.reserved())} kept for the end"
        )
        self._told = total

    def _name(self) -> str:
        return "" if self.seconds is None else f" {format_seconds(self.seconds)}"

    # --- the end

    def _stop(self, trainer: lightning.Trainer) -> None:
        """End the training after this batch, with a validation as if it were in the schedule."""
        trainer.fit_loop.min_epochs = 0
        # By schedule, and not because training stops: the last checkpoint waits for it, and holds its values.
        trainer.val_check_batch, trainer.check_val_every_n_epoch = 1, 1
        trainer.should_stop = True

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the last records, and leave the trainer as it was."""
        trainer.check_val_every_n_epoch = self._check_every_n_epoch
        if trainer.is_global_zero:
            self._write()

    def describe_end(self, trainer: lightning.Trainer) -> str:
        """What was used of the budget, in one line; to be called when all tasks are done."""
        rates = [
            max(config.scheduler.rates_at(max(0, trainer.global_step - 1)))
            for config in trainer.lr_scheduler_configs
            if isinstance(config.scheduler, LearningRate)
        ]
        rate = f"the last one at a learning rate of {rates[0]:.2e}" if rates else "at a constant learning rate"
        steps = f"{trainer.global_step} steps, {rate}"
        if self.seconds is None:
            return f"budget repeated: {steps}; {format_seconds(self._clock())} this time"
        share = self.used / self.seconds
        # Where another limit or a signal ended the run, the records have more steps than it did.
        whole = trainer.global_step >= self.progress.end
        again = f"; to repeat these steps, budget={{repeat:{self._path}}}" if whole else ""
        return f"budget {format_seconds(self.seconds)}: {self.used:.1f} s used ({share:.1%}), {steps}{again}"

    def finish(self) -> None:
        """Write the time that the whole run took into ``budget.json``; on the first process only."""
        self._write()

    def _write(self) -> None:
        seconds = {} if self.seconds is None else {"seconds": self.seconds}
        write_records(self._path, self.progress, **seconds, used=round(self.used, 3))

    # --- sizes

    def _find_reserve(self, trainer: lightning.Trainer) -> Reserve:
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, DataModule):
            return Reserve.of(self._tasks, page=self._page)
        of_frame = _count_atoms(data.train_set) / len(data.train_set)
        batch = data.batch_size.count_process_frames(data.train_set.table, trainer.world_size, data.global_batch_size)
        # Each process goes through its part of the sets; what is written of the test, the first one does alone.
        return Reserve.of(
            self._tasks,
            step_atoms=of_frame * batch * trainer.accumulate_grad_batches,
            val_atoms=sum(map(_count_atoms, data.val_sets.values())) // trainer.world_size,
            test_atoms=sum(map(_count_atoms, data.test_sets.values())),
            test_sets=len(data.test_sets),
            uncertainty_atoms=self._count_uncertainty_atoms(data, of_frame),
            page=self._page,
        )

    def _count_uncertainty_atoms(self, data: DataModule, of_frame: float) -> int:
        """Those of the training frames that it is made of, and of the first validation set that tell its scale."""
        if not self._uncertainty_frames:
            return 0
        held_out = next(iter(data.val_sets.values()), None)
        most = self._uncertainty_frames
        told = 0.0 if held_out is None else _count_atoms(held_out) * min(1.0, most / max(1, len(held_out)))
        return round(of_frame * min(len(data.train_set), most) + told)


def _count_atoms(dataset: GraphDataset) -> int:
    return int(dataset.table.atoms.sum())


def find_keeper(trainer: lightning.Trainer) -> BudgetKeeper | None:
    """The keeper of a run's budget; None if it has no budget."""
    return find_callback(trainer, BudgetKeeper)


@rank_zero_only
def _say(line: str) -> None:
    print(line, flush=True)

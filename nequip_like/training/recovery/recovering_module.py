"""A Lightning module that goes back to its last good weights, with a lower learning rate, when its run diverges."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from torch import Tensor

from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate
from nequip_like.errors import TrainingError
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.terms import WEIGHTED_SUM
from nequip_like.optim.lowered_rate import lowered_rate
from nequip_like.training.gradient_norm import MeasuredGradients
from nequip_like.training.guarded_module import GuardedModule
from nequip_like.training.nonfinite_guard import finite_frames
from nequip_like.training.recovery.divergence import BLOCK, DivergenceSettings, DivergenceWatch
from nequip_like.training.recovery.snapshot import Snapshot

FAR_WORSE = 3.0  # a step's loss beside that of the last good weights on its batches: from this factor on, they are it
LONGEST = 1000  # steps without a look for good weights, where epochs are longer and have no validation
_ADVICE = "give the optimizer a lower lr, below {rate:.2g}, or clip gradients (training_module.gradient_clip)"


def find_rate_factor(module: object) -> float:
    """What a module multiplies the learning rate of its schedule by; 1 for one that never goes back."""
    return module.rate_factor if isinstance(module, RecoveringModule) else 1.0


class RecoveringModule(GuardedModule):
    """Base class: keeps the last good weights, averages and state of the optimizer, and goes back to them.

    A suspicion of the :class:`~nequip_like.training.recovery.divergence.DivergenceWatch` is settled by a comparison:
    the loss of the present step's batches with the last good weights. Only where that is far smaller are the weights at
    fault, and not the batch, the weights of the loss or the data. Numbers that are not finite are judged likewise.

    What is counted goes on: steps, epochs, the order of data, the place in a schedule of the learning rate. The step at
    which a run goes back is left out. The learning rate is a part of what the schedule gives from then on.

    Args:
        on_divergence: See :class:`~nequip_like.training.recovery.divergence.DivergenceSettings`.
        **arguments: Arguments of :class:`~nequip_like.training.guarded_module.GuardedModule`.

    Attributes:
        watch: Follows losses, gradient norms and validation errors.
        rollbacks: How often the run went back so far; a checkpoint keeps it.
        rate_factor: What the learning rate of the schedule is multiplied by; a checkpoint keeps it.

    Raises:
        ConfigError: If a setting is out of range.
    """

    def __init__(self, on_divergence: Any = "rollback", **arguments: Any) -> None:
        super().__init__(**arguments)
        self._divergence = DivergenceSettings.of(on_divergence)
        self.watch = DivergenceWatch()
        self.rollbacks = 0
        self.rate_factor = 1.0
        self._rollbacks_to_snapshot = 0
        self._went_back_at: int | None = None  # number of steps that were done then
        self._snapshot: Snapshot | None = None
        self._range: dict[str, list[float]] = {}  # of the watch, when the snapshot was made
        self._problem: str | None = None  # for which the run goes back as soon as it can
        self._step_batches: list[tuple[Graph, Tensor | None]] = []
        self._epoch_is_undone = False  # as far as it has come

    # --- good weights

    def _keep_weights(self) -> None:
        """Keep the present weights as the last good ones."""
        if self._snapshot is None:
            self._snapshot = Snapshot(self, self.trainer.optimizers[0], self.global_step)
        else:
            self._snapshot.renew(self.global_step)
        self._range, self._rollbacks_to_snapshot = self.watch.get_range(), 0

    def _keep_good_weights(self) -> None:
        """Keep the present weights if they are good ones, and not kept yet."""
        if self._snapshot is None or self._snapshot.step == self.global_step:
            return
        # Those that came back have to show first that they train now.
        has_shown = self._went_back_at is None or self.global_step - self._went_back_at > BLOCK
        if has_shown and self.watch.calm:
            self._keep_weights()

    def _keep_weights_of_long_epoch(self) -> None:
        """Before a batch: keep good weights where an epoch goes on for long."""
        if self._snapshot is not None and self.global_step - self._snapshot.step >= LONGEST:
            self._keep_good_weights()

    # --- steps

    def _note_batch(self, batch: Graph, counts: Tensor | None) -> None:
        """Keep a batch until its step is judged, with the counts of labels that its loss was divided by."""
        self._epoch_is_undone = False
        if self._snapshot is not None:
            self._step_batches.append((batch, counts))

    def _judge_step(self, loss: MetricsManager) -> None:
        """Take a step out that is not finite, or by which it is seen that the run diverged."""
        super()._judge_step(loss)
        measured = self.guard.measured
        if self._step_batches and not self.guard.left_out and measured is not None:
            problem = self.watch.see_step(self.guard.loss, measured.length)
            if problem is not None:
                self._settle(problem, loss)
        self._step_batches.clear()

    def _settle(self, problem: str, loss: MetricsManager) -> None:
        """Compare with the last good weights, and plan to go back to them if they are better by far."""
        before = self._compute_kept_loss(loss)
        if not (math.isfinite(before) and self.guard.loss > FAR_WORSE * before):
            self.watch.forget()  # the batches, or what their losses count, are others than before
            return
        problem += f"; on this step's frames the loss is {self.guard.loss:.3g}, {before:.3g} with the last good weights"
        if self._divergence.action == "warn":
            self._warn(problem)
            self.watch.forget()
            return
        self._plan_rollback(f"{self._describe_moment()}: {problem}")
        self._leave_out_gradients()
        self.guard.left_out = True

    def _compute_kept_loss(self, loss: MetricsManager, with_gradients: bool = False) -> float:
        """Loss of the present step's batches with the last good weights; NaN if something is not finite."""
        # A copy: sums of the epoch, and values of the step that others read, are not to change.
        comparison = copy.deepcopy(loss)
        snapshot, total = self._snapshot, 0.0
        if snapshot is None:
            return math.nan
        if with_gradients:
            self._leave_out_gradients()
        with snapshot.shown(), self.trainer.precision_plugin.forward_context():
            for batch, counts in self._step_batches:
                value = comparison.step(self.model(batch), batch, counts=counts)[WEIGHTED_SUM]
                total += float(value.detach())
                if with_gradients:
                    value.backward()
        if with_gradients:
            gradients = [p.grad for _, p in self._parameters_judged if p.grad is not None]
            is_finite = MeasuredGradients(gradients).is_finite()
            # Gradients are those of this process; losses are those of all.
            if not self.trainer.strategy.reduce_boolean_decision(is_finite, all=True):
                return math.nan
        return total

    def _recover_step(self, problem: str) -> bool:
        """Whether a step that is not finite is finite with the last good weights, which are taken then."""
        if self._divergence.action != "rollback" or self.loss is None or not self._step_batches:
            return False
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if not math.isfinite(self._compute_kept_loss(self.loss, with_gradients=not scaled)):
            return False  # the data are at fault
        self._plan_rollback(problem)
        return True

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step with the part of the learning rate that is left; go back, if it comes to that."""
        with lowered_rate(self.trainer.optimizers[0], self.rate_factor):
            super().optimizer_step(*args, **kwargs)
        # Only now: an optimizer may evaluate its closure several times, and change weights in between.
        self._roll_back()

    # --- weights and validations

    def _recover_weights(self, problem: str) -> bool:
        """Whether there are good weights in place of some that are not finite; they are taken at once."""
        if self._divergence.action != "rollback" or self._snapshot is None or not self._is_fitting():
            return False
        self._plan_rollback(problem)
        self._roll_back()
        return True

    def _recover_validation(self, position: int, problem: str, frames: Sequence[int]) -> bool:
        """Whether a frame that has no finite prediction has one with the last good weights, which are taken then."""
        sets, snapshot = self.list_validation_sets(), self._snapshot
        if self._divergence.action != "rollback" or snapshot is None or not (self._is_fitting() and frames and sets):
            return False
        graph = {name: value.to(self.device) for name, value in collate([sets[position][frames[0]]]).items()}
        with snapshot.shown(), self.trainer.precision_plugin.val_step_context():
            if not bool(finite_frames(self.model(graph), graph).all()):
                return False
        self._plan_rollback(problem)
        return True

    def _look_at_validation(self, values: Mapping[str, Tensor]) -> None:
        """After a validation: keep the weights, or go back.

        Args:
            values: Of the first data set, with the weights that are evaluated.
        """
        if self._snapshot is None or not self._is_fitting():
            return
        if self._problem is None and WEIGHTED_SUM in values:
            problem = self.watch.see_validation(float(values[WEIGHTED_SUM]))
            if problem is not None and self._divergence.action == "warn":
                self._warn(problem)
            elif problem is not None:
                self._plan_rollback(f"{self._describe_moment()}: {problem}")
        if self._problem is None:
            self._keep_good_weights()
        else:
            self._roll_back()

    def _is_fitting(self) -> bool:
        trainer = self._trainer
        return trainer is not None and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking

    # --- back

    def _plan_rollback(self, problem: str) -> None:
        """Go back as soon as the present step or validation is over."""
        self._problem = self._problem or problem

    def _roll_back(self) -> None:
        """Go back to the last good weights, if it is planned.

        Raises:
            TrainingError: If the run has gone back too often.
        """
        problem, self._problem = self._problem, None
        if problem is None or self._snapshot is None:
            return
        limit = self._divergence.max_rollbacks
        rate = max(float(group["lr"]) for group in self.trainer.optimizers[0].param_groups)
        if self.rollbacks >= limit:
            raise TrainingError(
                f"{problem}; the run went back to earlier weights {limit} times before, as often as "
                f"on_divergence.max_rollbacks allows; {self._name_best()}",
                _ADVICE.format(rate=rate * self.rate_factor),
            )
        self._snapshot.restore()
        self.watch.set_range(self._range)
        self._leave_out_gradients()  # of other weights, where batches accumulate
        for manager in self._collect_training_managers().values():
            manager.reset()  # the steps that are undone do not count in the values of the epoch
        self._epoch_is_undone = True
        self.rollbacks += 1
        self._went_back_at = self.global_step
        self._rollbacks_to_snapshot += 1
        self.rate_factor *= self._divergence.rate_factor**self._rollbacks_to_snapshot
        line = (
            f"{problem}: back to the weights of step {self._snapshot.step}, with {self.rate_factor:.3g} times the "
            f"schedule's learning rate, {rate * self.rate_factor:.3g} now (rollback {self.rollbacks}, at most {limit})"
        )
        rank_zero_only(print)(line, flush=True)  # at once, into log files as well

    def _warn(self, problem: str) -> None:
        rank_zero_warn(
            f"{self._describe_moment()}: {problem}; training goes on (on_divergence.action=rollback would go back)"
        )

    def _name_best(self) -> str:
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.monitor and callback.best_model_path:
                return f"the best weights are in {callback.best_model_path}"
        return "there is no checkpoint of a best validation yet"

    # --- checkpoints

    def _collect_recovery_state(self) -> dict[str, Any]:
        """What a run needs to go on: counts, the watch, and the last good weights unless they are the present ones."""
        snapshot = self._snapshot
        elsewhere = snapshot is not None and (self._trainer is None or snapshot.step != self.global_step)
        return {
            "rollbacks": self.rollbacks,
            "rate_factor": self.rate_factor,
            "rollbacks_to_snapshot": self._rollbacks_to_snapshot,
            "went_back_at": self._went_back_at,
            "watch": self.watch.state_dict(),
            "range": self._range,
            "snapshot": snapshot.state_dict() if snapshot is not None and elsewhere else None,
        }

    def _begin_recovery(self, saved: Mapping[str, Any] | None) -> None:
        """When training starts: be where the checkpoint was written, if there is one.

        Args:
            saved: What :meth:`_collect_recovery_state` gave; None at the start of a run.
        """
        self._problem, self._step_batches = None, []
        self.watch, self.rollbacks, self.rate_factor = DivergenceWatch(), 0, 1.0
        self._went_back_at = None
        if saved is not None:
            self.watch.load_state_dict(saved["watch"])
            self.rollbacks, self.rate_factor = int(saved["rollbacks"]), float(saved["rate_factor"])
            self._went_back_at = saved["went_back_at"]
        self._snapshot = None  # of another model and optimizer, if any
        if self._divergence.action == "ignore":
            return
        self._keep_weights()
        if saved is not None and self._snapshot is not None:
            self._range = dict(saved["range"]) or self._range
            self._rollbacks_to_snapshot = int(saved["rollbacks_to_snapshot"])
            if saved["snapshot"] is not None:
                self._snapshot.load_state_dict(saved["snapshot"])

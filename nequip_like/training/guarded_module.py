"""A Lightning module whose steps, weights and evaluations are looked at by a ``FiniteGuard``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from nequip_like.arguments import Count
from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.metrics.manager import MetricsManager
from nequip_like.model.potential import Potential
from nequip_like.training.lean_steps.module import LeanModule
from nequip_like.training.nonfinite_guard import FiniteGuard, Policy, Recover, SeenBatch, keep_as_it_is


@dataclass(frozen=True)
class EvaluationTask:
    """One set of weights on one data set.

    Attributes:
        prefix: What its values are logged under, such as ``val0_epoch``.
        position: Position of the data set in its stage.
        manager: Its metrics.
        model: The weights.
    """

    prefix: str
    position: int
    manager: MetricsManager
    model: nn.Module


def list_evaluations(
    stage: str, managers: Sequence[MetricsManager], model: nn.Module, kind: str = ""
) -> list[EvaluationTask]:
    """One set of weights on all data sets of a stage.

    Args:
        stage: ``val`` or ``test``.
        managers: The metrics of each data set.
        model: The weights.
        kind: What tells these weights from others in the names of values: ``val0{kind}_epoch/NAME``.
    """
    return [EvaluationTask(f"{stage}{i}{kind}_epoch", i, manager, model) for i, manager in enumerate(managers)]


class GuardedModule(LeanModule):
    """Base class: stops, or leaves a step out, when something is not finite, and names what has no value.

    Args:
        on_non_finite: ``stop`` the run, or ``skip`` the step.
        max_skipped_steps: After more skipped steps than this the run stops anyway.

    Raises:
        ConfigError: If a value is out of range.
    """

    model: Potential
    loss: MetricsManager | None
    train_metrics: MetricsManager | None

    def __init__(self, on_non_finite: Policy = "stop", max_skipped_steps: Count = 100) -> None:
        super().__init__()
        self.guard = FiniteGuard(on_non_finite, max_skipped_steps)
        self._batches_to_judge: dict[str, list[SeenBatch]] = {}
        self._before_step: list[dict[str, Any]] = []
        self._named_missing: set[str] = set()
        self._parameters_judged: list[tuple[str, nn.Parameter]] = []

    # --- steps

    def _collect_training_managers(self) -> dict[str, MetricsManager]:
        """Collect what has sums of the training batches, the loss and the metrics, as far as they are there."""
        managers = {"loss": self.loss, "train_metrics": self.train_metrics}
        return {name: manager for name, manager in managers.items() if manager is not None}

    def _begin_training(self) -> None:
        """Forget batches of a step that was never taken; find the parameters once, for it takes as long as a check."""
        self.guard.begin()
        self._parameters_judged = list(self.model.named_parameters())

    def _begin_batch(self) -> None:
        """Keep the epoch values from before a step: they are restored if the step is left out."""
        if self.guard.policy == "skip" and not self.guard.batches:
            self._before_step = [manager.running_state() for manager in self._collect_training_managers().values()]

    def _judge_step(self, loss: MetricsManager) -> None:
        """Take a step that is not sound out of gradients and epoch values, or stop."""
        # A scaler of gradients (16-bit) meets infinite ones as a matter of course, and leaves the step out itself.
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        parameters = self._parameters_judged
        origin = self._make_origin("train")
        if not self.guard.judge(parameters, loss, origin, self._describe_moment, not scaled, self._recover_step):
            self._leave_out_gradients()
            # Kept where steps may be skipped; weights that go back to earlier ones begin these values anew.
            for manager, state in zip(self._collect_training_managers().values(), self._before_step, strict=False):
                manager.set_running_state(state)
        if self.guard.policy == "skip":
            self.log("skipped_steps", float(self.guard.skipped_steps))

    def _leave_out_gradients(self) -> None:
        for _, parameter in self._parameters_judged:
            parameter.grad = None  # an optimizer passes over these, with their state

    def _recover_step(self, problem: str) -> bool:
        """Whether earlier weights are taken in place of a step that is not finite; none are kept here."""
        return False

    def _recover_weights(self, problem: str) -> bool:
        """Whether earlier weights are taken in place of some that are not finite; none are kept here."""
        return False

    def _recover_validation(self, position: int, problem: str, frames: Sequence[int]) -> bool:
        """Whether earlier weights are taken after a validation that is not finite; none are kept here."""
        return False

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Step a schedule, unless it goes by steps and this one was left out."""
        by_steps = any(
            entry.scheduler is scheduler and entry.interval == "step" for entry in self.trainer.lr_scheduler_configs
        )
        if not (by_steps and self.guard.left_out):
            super().lr_scheduler_step(scheduler, metric)

    def _check_weights(self, recover: Recover = keep_as_it_is) -> None:
        """Before weights are evaluated or saved: raises if some are not finite, and cannot be mended."""
        parameters = list(self.model.named_parameters())
        self.guard.check_weights(parameters, self._make_origin("train"), self._describe_moment(), recover)

    # --- evaluations

    def _begin_evaluation(self, evaluations: Sequence[EvaluationTask]) -> None:
        self._batches_to_judge = {evaluation.prefix: [] for evaluation in evaluations}
        for evaluation in evaluations:
            evaluation.manager.reset()

    def _evaluate(self, evaluations: Sequence[EvaluationTask], batch: Graph, position: int) -> None:
        """Add a batch to the metrics of the data set at a position of its stage."""
        for evaluation in evaluations:
            if evaluation.position == position:
                prediction = evaluation.model(batch)
                self._batches_to_judge[evaluation.prefix].append(SeenBatch.of_evaluation(batch, prediction))
                evaluation.manager.update(prediction, batch)

    def _end_evaluation(self, stage: str, evaluation: EvaluationTask) -> dict[str, Tensor]:
        """Compute the values of a data set, and judge them."""
        prefix, manager = evaluation.prefix, evaluation.manager
        values = manager.compute()
        moment = f"{self._describe_moment()}, {prefix}"
        origin = self._make_origin(stage, evaluation.position)
        recover = partial(self._recover_validation, evaluation.position) if stage == "val" else keep_as_it_is
        self.guard.judge_evaluation(self._batches_to_judge[prefix], manager, values, origin, moment, recover)
        if not self.trainer.sanity_checking:
            self._name_missing(prefix, manager)
        return values

    def _name_missing(self, prefix: str, manager: MetricsManager) -> None:
        """Warn, once, of terms that no frame of an epoch has a label for."""
        names = {f"{prefix}/{name}" for name in manager.missing_terms()} - self._named_missing
        self._named_missing |= names
        for name in sorted(names):
            rank_zero_warn(f"'{name}' has no value: no frame has a label for it that counts; it adds 0 to weighted_sum")

    def list_validation_sets(self) -> list[GraphDataset]:
        """List the data sets that are validated, in order; none if a data module of another kind has them."""
        data = getattr(self._trainer, "datamodule", None)
        return list(data.val_sets.values()) if isinstance(data, DataModule) else []

    # --- words

    def _describe_moment(self) -> str:
        return f"epoch {self.current_epoch}, step {self.global_step}"

    def _make_origin(self, stage: str, position: int = 0) -> Callable[[int], str]:
        """Make the function that tells file and frame of a ``frame_index`` of a data set."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, DataModule):
            return lambda index: f"frame {index} of {stage} set {position}"

        def tell_origin(index: int) -> str:
            # The sets are looked up when a frame is asked for: steps that are sound ask for none.
            sets: Mapping[str, Mapping[str, Any]] = {
                "train": {"train": data.trained_on},
                "val": data.val_sets,
                "test": data.test_sets,
            }
            origin: str = list(sets[stage].values())[position].origin(index)
            return origin

        return tell_origin

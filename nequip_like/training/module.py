"""The Lightning modules: one potential, its loss and metrics, its optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import lightning
import torch
from torch import Tensor

from nequip_like.arguments import Count
from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.errors import ConfigError
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.terms import WEIGHTED_SUM
from nequip_like.model.potential import Potential
from nequip_like.optim.build import build_optimizer
from nequip_like.optim.schedule_free import ScheduleFreeWeights
from nequip_like.optim.schedulers import PlateauSchedule, build_scheduler
from nequip_like.training.build import (
    Buildable,
    build_loss,
    build_manager,
    build_managers,
    build_potential,
    cast_managers,
)
from nequip_like.training.checkpointing.io import ResumableModule
from nequip_like.training.force_scaling import scale_force_errors
from nequip_like.training.gradients import (
    ExactAccumulation,
    GradientClip,
    SummedGradientsStrategy,
    compute_batch_sum,
    sum_gradients,
)
from nequip_like.training.guarded_module import EvaluationTask, list_evaluations
from nequip_like.training.lean_steps.logged_values import log_again
from nequip_like.training.lightning_internals import ends_within_epoch
from nequip_like.training.loss_shares import compute_shares
from nequip_like.training.nonfinite_guard import Policy
from nequip_like.training.run_length import begin_schedules


class NequIPLightningModule(ResumableModule):
    """Trains, validates and tests one potential.

    Logged names: ``train_loss_step/NAME``, ``train_loss_epoch/NAME``, ``train_metric_step/NAME``,
    ``train_metric_epoch/NAME``, ``val{i}_epoch/NAME``, ``test{i}_epoch/NAME``, where NAME includes ``weighted_sum``;
    ``train_loss_share/NAME`` is the share of a term in the loss of an epoch.

    Args:
        model: A potential, or a config whose ``_target_`` builds one.
        loss: A metrics manager (or its config) whose ``weighted_sum`` is minimised.
        optimizer: Config of a torch optimizer.
        lr_scheduler: Config of a schedule, in Lightning's form or the scheduler alone.
        train_metrics: Metrics manager (or config) of the training batches.
        val_metrics: Metrics manager (or config); each validation set has its own copy.
        test_metrics: Metrics manager (or config); each test set has its own copy.
        num_datasets: Number of sets of each stage, ``{"val": 1, "test": 2}``.
        info: Plain values that are kept in each checkpoint: the resolved config, versions, overrides.
        on_non_finite: What happens if a loss or a gradient is not finite: ``stop`` the run, or ``skip`` the optimizer
            step with all batches that went into it, count it as ``skipped_steps``, and warn. Either names the frames.
            Weights that are not finite always stop the run.
        max_skipped_steps: After more skipped steps than this the run stops anyway.
        on_divergence: What happens if losses, gradient norms or validation errors leave their recent range by far:
            ``rollback`` to the last good weights with a lower learning rate, ``warn``, or ``ignore``; or a mapping, see
            :class:`~nequip_like.training.recovery.divergence.DivergenceSettings`.
        gradient_clip: Largest norm and largest value of the gradient of a step, ``{"norm": 10.0, "value": 100.0}``.

    Raises:
        ConfigError: If a part cannot be built.
    """

    def __init__(
        self,
        model: Potential | Buildable,
        loss: MetricsManager | Buildable | None = None,
        optimizer: Buildable | None = None,
        lr_scheduler: Buildable | None = None,
        train_metrics: MetricsManager | Buildable | None = None,
        val_metrics: MetricsManager | Buildable | None = None,
        test_metrics: MetricsManager | Buildable | None = None,
        num_datasets: Mapping[str, int] | None = None,
        info: Mapping[str, Any] | None = None,
        on_non_finite: Policy = "stop",
        max_skipped_steps: Count = 100,
        on_divergence: Any = "rollback",  # DivergenceSettings.of checks it
        gradient_clip: Any = None,  # GradientClip.of checks it
    ) -> None:
        steps = {"on_non_finite": on_non_finite, "max_skipped_steps": max_skipped_steps}
        super().__init__(info, on_divergence=on_divergence, **steps)
        self._clip = GradientClip.of(gradient_clip)
        self._accumulation: ExactAccumulation | None = None
        self.model = build_potential(model)
        self.optimizer_config = optimizer
        self.lr_scheduler_config = lr_scheduler
        # Errors of a model that knows nothing on each validation set, by prefix; found when first asked for.
        self.baselines: dict[str, dict[str, float]] = {}
        # Called with the trainer when a step's gradients are whole, and not clipped yet.
        self.gradient_observers: list[Callable[[lightning.Trainer], None]] = []
        # Called with each batch that is trained on and what is predicted for it, before the step.
        self.prediction_observers: list[Callable[[Graph, Graph], None]] = []
        counts = {"val": 1, "test": 1, **(num_datasets or {})}
        type_names = self.model.type_names
        self.loss = build_loss(loss, type_names)
        self.train_metrics = build_manager("train_metrics", train_metrics, type_names)
        self.val_metrics = build_managers("val_metrics", val_metrics, type_names, counts["val"])
        self.test_metrics = build_managers("test_metrics", test_metrics, type_names, counts["test"])

    @property
    def evaluation_model(self) -> Potential:
        """The weights that are validated, tested and exported."""
        return self.model

    def forward(self, graph: Graph) -> Graph:
        """Predict with the weights that are trained."""
        prediction: Graph = self.model(graph)
        return prediction

    # --- training

    def on_train_batch_start(self, batch: Graph, batch_idx: int) -> None:
        """Let a schedule that follows a metric by steps act on the step before; look at a long epoch's weights."""
        self._keep_weights_of_long_epoch()
        if self._plateau is not None and self._plateau.by_steps and self._plateau.waiting:
            self._plateau.after_step(self._collect_logged(), self.global_step)

    def training_step(self, batch: Graph, batch_idx: int) -> Tensor:
        """Loss of the global batch."""
        if self.loss is None:
            raise ConfigError("loss is not given", "for example nequip_like.metrics.EnergyForceLoss")
        self._begin_batch()
        prediction = self.model(batch)
        counts = None if self._accumulation is None else self._accumulation.count_labels(self.loss, batch, batch_idx)
        values = self.loss.step(*scale_force_errors(self._trainer, prediction, batch), counts=counts)
        detached = {name: value.detach() for name, value in values.items()}
        self.guard.see(batch, prediction, detached, self.loss)
        for observe in self.prediction_observers:
            observe(batch, prediction)
        self._note_batch(batch, counts)
        if counts is not None:
            detached = {**detached, WEIGHTED_SUM: compute_batch_sum(self.loss)}
        self._log("train_loss_step", detached, batch)
        if self.train_metrics is not None:
            with torch.no_grad():
                self._log("train_metric_step", self.train_metrics.step(prediction, batch), batch)
        loss = values[WEIGHTED_SUM]
        if counts is not None:
            loss = loss * self.trainer.accumulate_grad_batches  # by which Lightning divides it
        # A wrapper that averages gradients over processes needs the factor; our own strategy sums them.
        averages = self._trainer is not None and not isinstance(self.trainer.strategy, SummedGradientsStrategy)
        return loss * self.trainer.world_size if averages and self.trainer.world_size > 1 else loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Sum the gradients over processes and judge them, before they are clipped."""
        if self.trainer.world_size > 1 and isinstance(self.trainer.strategy, SummedGradientsStrategy):
            sum_gradients(self.model.parameters())
        if self.loss is None:
            return
        self._judge_step(self.loss)
        for observe in self.gradient_observers:
            observe(self.trainer)

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> None:
        """Clip the gradients of a step, once they are summed over processes and judged."""
        measured, self.guard.measured = self.guard.measured, None  # it would keep the gradients alive
        if self.guard.left_out:
            return  # no gradients are left
        if (clip := GradientClip.choose(self._clip, *args, **kwargs)) is not None:
            clip.apply(self.trainer, optimizer, measured)

    def on_train_start(self) -> None:
        """Begin with no batch of a step; go on where a checkpoint was written, if there is one."""
        self._begin_training()
        self.baselines = {}  # the data may be others now
        self._validated = False
        if self._plateau is not None:
            self._plateau.waiting = False  # a validation before the training tells a schedule nothing
        begin_schedules(self.trainer)
        self._accumulation = ExactAccumulation(self.trainer)
        self._go_on()

    def on_train_end(self) -> None:
        """Leave the weights that are exported, if no other ones were the best."""
        self._schedule_free.show_average()
        self._schedule_free = ScheduleFreeWeights()

    def on_train_epoch_start(self) -> None:
        """Start the epoch's sums."""
        self.guard.begin_epoch()
        for manager in self._collect_training_managers().values():
            manager.reset()

    def on_train_epoch_end(self) -> None:
        """Log the epoch's loss and training metrics; a part of an epoch, at which training stops, is not one."""
        self._check_weights(self._recover_weights)
        if ends_within_epoch(self.trainer):
            return
        self.guard.end_epoch(self._describe_moment())
        self._keep_good_weights()
        for prefix, manager in (("train_loss_epoch", self.loss), ("train_metric_epoch", self.train_metrics)):
            if manager is not None:
                values = manager.compute()
                self._log(prefix, values)
                if not self._epoch_is_undone:
                    self._name_missing(prefix, manager)
                if manager is self.loss:
                    self._log("train_loss_share", compute_shares(manager, values))
        if self.rollbacks:
            count = torch.tensor(float(self.rollbacks), dtype=torch.float64)
            self.log_values({"rollbacks": count}, batch_size=1, sync_dist=True)
        if self._plateau is not None:
            self._plateau.after_epoch(self._collect_logged(), self.current_epoch + 1, self._validated)
            if self.trainer.strategy.reduce_boolean_decision(self._plateau.over is not None, all=False):
                self.trainer.should_stop = True
        self._validated = False

    # --- validation and test

    def _list_evaluations(self, stage: Literal["val", "test"]) -> list[EvaluationTask]:
        """What is evaluated, and under which names."""
        managers = self.val_metrics if stage == "val" else self.test_metrics
        return list_evaluations(stage, cast_managers(managers), self.evaluation_model)

    @property
    def validations(self) -> list[EvaluationTask]:
        """What a validation evaluates: each set, with each kind of weights."""
        return self._list_evaluations("val")

    def validation_names(self) -> list[str]:
        """Names of the values that a validation logs."""
        return [
            f"{evaluation.prefix}/{name}" for evaluation in self.validations for name in evaluation.manager.log_names
        ]

    def validation_step(self, batch: Graph, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add one batch to the metrics of its validation set."""
        self._evaluate(self._list_evaluations("val"), batch, dataloader_idx)

    def test_step(self, batch: Graph, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Add one batch to the metrics of its test set."""
        self._evaluate(self._list_evaluations("test"), batch, dataloader_idx)

    def on_validation_epoch_start(self) -> None:
        """Start the sums of each validation set."""
        self._check_weights(self._recover_weights)
        self._schedule_free.show_average()
        self._begin_evaluation(self._list_evaluations("val"))

    def on_test_epoch_start(self) -> None:
        """Start the sums of each test set."""
        self._begin_evaluation(self._list_evaluations("test"))

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of each validation set."""
        values: dict[str, Tensor] = {}  # of the first set
        for evaluation in self.validations:
            values_of_set = self._end_evaluation("val", evaluation)
            self._log(evaluation.prefix, values_of_set)
            values = values or values_of_set
        self._schedule_free.show_trained()
        self._validated = True
        self._look_at_validation(values)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of each test set."""
        for evaluation in self._list_evaluations("test"):
            self._log(evaluation.prefix, self._end_evaluation("test", evaluation))

    def log(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """Log a value; a schedule that follows it counts it once."""
        super().log(name, value, *args, **kwargs)
        self._note_logged([name])

    def _note_logged(self, names: Iterable[str]) -> None:
        if self._plateau is not None:
            for name in names:
                self._plateau.note(name)

    def _log(self, prefix: str, values: Mapping[str, Tensor], batch: Graph | None = None) -> None:
        """Log values without a graph under a prefix: those of a batch, or of the epoch."""
        if self._trainer is None:
            return
        # Values are those of all processes already: the mean that Lightning takes of an epoch's values changes nothing.
        size = None if batch is None else batch[fields.NUM_ATOMS].shape[0]
        named_values = {f"{prefix}/{name}": value for name, value in values.items()}
        self.log_values(named_values, size, sync_dist=batch is None)

    def log_values(self, values: Mapping[str, Tensor], batch_size: int | None, sync_dist: bool) -> None:
        """Do what ``log_dict`` does, faster from the second time on.

        Args:
            values: Values by name, without a graph; the same names each time from one hook.
            batch_size: Number of frames that they are of.
            sync_dist: Whether Lightning is to take the mean of all processes.
        """
        usual = (
            type(self).log is NequIPLightningModule.log and type(self).log_dict is lightning.LightningModule.log_dict
        )
        if usual and log_again(self.trainer, values):
            self._note_logged(values)
            return
        self.log_dict(values, batch_size=batch_size, sync_dist=sync_dist)

    # --- optimizer

    def configure_optimizers(self) -> Any:
        """Build what the config describes."""
        if self.optimizer_config is None:
            raise ConfigError("optimizer is not given", "for example _target_: torch.optim.Adam")
        optimizer = build_optimizer(self.optimizer_config, self.model)
        self._schedule_free = ScheduleFreeWeights.of(optimizer, self.model, self.averaging)
        if self.lr_scheduler_config is None:
            return optimizer
        entry = build_scheduler(self.lr_scheduler_config, optimizer)
        self._plateau = PlateauSchedule.take_over(entry)
        return {"optimizer": optimizer, "lr_scheduler": entry}

    @property
    def over(self) -> str | None:
        """Why the schedule of the learning rate ends the training; None as long as it goes on."""
        return None if self._plateau is None else self._plateau.over

"""Lightning modules that keep an average of the weights beside the raw ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal, cast

from torch import nn
from torch.optim.swa_utils import AveragedModel

from nequip_like.arguments import Count, Decay, NotNegative, check
from nequip_like.errors import ConfigError
from nequip_like.model.potential import Potential
from nequip_like.optim.averaging import averaged_copy, mean_copy
from nequip_like.optim.schedules.lengths import as_share, check_length
from nequip_like.training.build import cast_managers
from nequip_like.training.guarded_module import EvaluationTask, list_evaluations
from nequip_like.training.lightning_internals import epoch_ends_next
from nequip_like.training.module import NequIPLightningModule
from nequip_like.training.run_length import run_length

Evaluate = Literal["averaged", "raw", "both"]
RAW = "_raw"  # val0_raw_epoch/NAME: a value of the raw weights, where the averaged ones are evaluated, too


class AveragedLightningModule(NequIPLightningModule):
    """Base class: the averaged weights are a second copy of the model beside the raw one.

    Nothing is swapped, so every checkpoint holds both, whenever it is written.

    Args:
        evaluate: Which weights are validated and tested: ``averaged``, ``raw``, or ``both``. With ``both``, values of
            the raw weights are logged as ``val{i}_raw_epoch/NAME`` beside ``val{i}_epoch/NAME``. The weights that are
            exported are those that are evaluated; of both, those that the best checkpoint follows.
        **arguments: Arguments of :class:`~nequip_like.training.module.NequIPLightningModule`.

    Raises:
        ConfigError: If an argument is out of range.
    """

    ema: AveragedModel  # whatever the average: checkpoints of all versions have it under this name

    def __init__(self, evaluate: Evaluate = "averaged", **arguments: Any) -> None:
        super().__init__(**arguments)
        check("evaluate", evaluate, Evaluate)
        self.evaluate = evaluate
        self._follows_raw = False
        both = evaluate == "both"
        self.raw_val_metrics = copy.deepcopy(self.val_metrics) if both else nn.ModuleList()
        self.raw_test_metrics = copy.deepcopy(self.test_metrics) if both else nn.ModuleList()

    @property
    def evaluated(self) -> str:
        """Which weights are exported."""
        if self.evaluate == "both":
            return "raw" if self._follows_raw else "averaged"
        return self.evaluate

    @property
    def evaluation_model(self) -> Potential:
        """The weights that are exported."""
        return self.model if self.evaluated == "raw" else self.averaged_model

    @property
    def averaged_model(self) -> Potential:
        """The averaged weights."""
        return cast(Potential, self.ema.module)

    def _list_evaluations(self, stage: Literal["val", "test"]) -> list[EvaluationTask]:
        if self.evaluate != "both":
            return super()._list_evaluations(stage)
        sets = {"val": (self.val_metrics, self.raw_val_metrics), "test": (self.test_metrics, self.raw_test_metrics)}
        averaged, raw = map(cast_managers, sets[stage])
        return list_evaluations(stage, averaged, self.averaged_model) + list_evaluations(stage, raw, self.model, RAW)

    def on_fit_start(self) -> None:
        """Find out which of both kinds of weights the best checkpoint follows."""
        super().on_fit_start()
        monitored = [getattr(callback, "monitor", None) for callback in self.trainer.checkpoint_callbacks]
        first = next((name for name in monitored if name), "")
        self._follows_raw = f"{RAW}_epoch/" in first

    def _follow_weights(self, evaluated: str) -> None:
        self._follows_raw = evaluated == "raw"


class EMALightningModule(AveragedLightningModule):
    """Also keeps the exponential moving average of the weights, which is what is validated, tested and exported.

    Args:
        ema_decay: Decay of the average, see :func:`~nequip_like.optim.averaging.averaged_copy`.
        ema_warmup: Whether the decay grows from 2/11 to ``ema_decay``: ``min(ema_decay, (1 + n) / (10 + n))``.
        ema_start_step: The average is just the weights until so many optimizer steps are done.
        ema_bias_correction: Begin the average with zeros and divide it by the sum of its weights; needs
            ``ema_warmup=False``.
        **arguments: Arguments of :class:`AveragedLightningModule`.
    """

    averaging = "ema"

    def __init__(
        self,
        ema_decay: Decay = 0.999,
        ema_warmup: bool = True,
        ema_start_step: NotNegative = 0,
        ema_bias_correction: bool = False,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.ema = averaged_copy(
            self.model,
            ema_decay,
            warmup=ema_warmup,
            start_step=ema_start_step,
            bias_correction=ema_bias_correction,
        )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then let the average follow, unless the step was left out."""
        super().optimizer_step(*args, **kwargs)
        if not self.guard.left_out:
            self.ema.update_parameters(self.model)


class SWALightningModule(AveragedLightningModule):
    """Also keeps the mean of the weights at equal distances in training (stochastic weight averaging).

    Weights count when ``swa_start`` epochs (or optimizer steps) are done, and then after each ``swa_every`` more, all
    alike. Until then the average is the weights. The learning rate is the schedule's business.

    Args:
        swa_start: How many epochs or steps are done when the first weights count; or ``{"share": 0.75}``, which share
            of the run, for a budget of time and for any run whose number of steps is known. The epochs or steps that
            count are then those whose number is a multiple of ``swa_every``.
        swa_every: How many epochs or steps lie between two weights that count.
        swa_interval: Whether these are numbers of epochs (``epoch``) or of optimizer steps (``step``).
        **arguments: Arguments of :class:`AveragedLightningModule`.

    Raises:
        ConfigError: If an argument is out of range.
    """

    averaging = "swa"

    def __init__(
        self,
        swa_start: NotNegative | Mapping[str, float],
        swa_every: Count = 1,
        swa_interval: Literal["epoch", "step"] = "epoch",
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        if isinstance(swa_start, Mapping):
            check_length("swa_start", swa_start)
            if as_share(swa_start) is None:
                raise ConfigError(
                    f"swa_start is {dict(swa_start)}", "give a number, counted in swa_interval, or {share: 0.75}"
                )
        else:
            check("swa_start", swa_start, NotNegative)
        check("swa_every", swa_every, Count)
        check("swa_interval", swa_interval, Literal["epoch", "step"])
        self.swa_start, self.swa_every, self.swa_interval = swa_start, swa_every, swa_interval
        self.ema = mean_copy(self.model)

    @property
    def average_began(self) -> bool:
        """Whether some weights count in the mean already; until then it is the weights."""
        return int(self.ema.n_averaged) > 0

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then take the weights into the mean if it is time."""
        super().optimizer_step(*args, **kwargs)
        counts = self._should_average()
        if counts or not self.average_began:
            self.ema.update_parameters(self.model)
            if not counts:
                self.ema.n_averaged.fill_(0)  # a mere copy: the first weights that count overwrite it

    def _should_average(self) -> bool:
        """Whether the weights after this step are taken into the mean; also if nothing was left of this step."""
        if self.swa_interval == "epoch":
            # The last step of an epoch, not its end: the validation in between sees the mean.
            elapsed = self.current_epoch + 1 if epoch_ends_next(self.trainer) else -1
        else:
            elapsed = self.global_step + 1  # Lightning counts a step when this hook is over
        if isinstance(self.swa_start, Mapping):
            run = run_length(self.trainer, self.trainer.num_training_batches)
            began = run.share_at(self.global_step + 1) >= float(self.swa_start["share"])
            return began and elapsed > 0 and elapsed % self.swa_every == 0
        return elapsed >= max(self.swa_start, 1) and (elapsed - self.swa_start) % self.swa_every == 0

"""Coefficients of the loss that follow its terms: those that fall least get more."""

from __future__ import annotations

from typing import Any, Literal

import lightning
import torch
from torch import Tensor

from nequip_like.arguments import Count, Positive, check
from nequip_like.errors import ConfigError
from nequip_like.metrics.manager import MetricsManager
from nequip_like.training.callbacks.loss_weights.base import CoefficientCallback, find_loss
from nequip_like.training.lightning_internals import ends_within_epoch


class SoftAdapt(CoefficientCallback):
    """Adapts the coefficients of the loss to how its terms change (SoftAdapt, weighted by the coefficients).

    After each interval, with the changes ``d_k`` of the terms since the interval before and the present coefficients
    ``c_k``, it computes ``c_k softmax_k(beta d / |d|)``, scaled so that the sum of the coefficients stays the same.
    After ``frequency`` of these, their mean becomes the coefficients. So a term that falls less than the others gains.

    A term without a label in an interval counts as unchanged. Terms that are only observed stay so. The state is kept
    in checkpoints.

    Args:
        beta: How strongly changes act; 0 leaves the coefficients alone, below 0 terms that fall most gain.
        interval: ``epoch``: changes of the epoch's loss. ``batch``: of the loss of the (last) batch of each step of the
            optimizer.
        frequency: Number of intervals between two changes of the coefficients.
        eps: Smallest ``|d|`` to divide by.

    Raises:
        ConfigError: If an argument is out of range.
    """

    def __init__(
        self,
        beta: float = 1.1,
        interval: Literal["epoch", "batch"] = "epoch",
        frequency: Count = 1,
        eps: Positive = 1e-8,
    ) -> None:
        check("beta of SoftAdapt", beta, float)
        check("interval of SoftAdapt", interval, Literal["epoch", "batch"])
        check("frequency of SoftAdapt", frequency, Count)
        check("eps of SoftAdapt", eps, Positive)
        self.beta = float(beta)
        self.interval = interval
        self.frequency = frequency
        self.eps = float(eps)
        self._names: list[str] = []
        self._last_values: Tensor | None = None
        self._sum: Tensor | None = None
        self._collected = 0
        self._seen_step = 0

    # --- state

    def state_dict(self) -> dict[str, Any]:
        """What was collected, for checkpoints."""
        return {
            "names": list(self._names),
            "previous": self._last_values,
            "sum": self._sum,
            "collected": self._collected,
            "seen_step": self._seen_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what an earlier run collected."""
        self._names = list(state_dict["names"])
        self._last_values, self._sum = state_dict["previous"], state_dict["sum"]
        self._collected, self._seen_step = state_dict["collected"], state_dict["seen_step"]

    # --- names

    def check_loss(self, loss: MetricsManager) -> None:
        """There must be two terms to weigh against each other."""
        if sum(1 for coeff in loss.configured_coeffs.values() if coeff) < 2:
            raise ConfigError("SoftAdapt needs a loss of two or more terms with coefficients above 0", "leave it out")

    def coefficients_at(self, epoch: int, step: int, loss: MetricsManager) -> None:
        """None: coefficients that follow the loss cannot be known before the run."""
        return

    # --- the run

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look at the epoch's loss; a part of an epoch, at which training stops, is not one."""
        if self.interval == "epoch" and not ends_within_epoch(trainer):
            loss = find_loss(pl_module, type(self).__name__)
            values = loss.compute()
            self.see(torch.stack([values[term.name] for term in loss.terms]), loss)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Set the coefficients, if it is time."""
        if self.interval == "epoch":
            self.adapt(find_loss(pl_module, type(self).__name__))

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Look at the batch's loss, if it was the last one of a step."""
        if self.interval == "batch" and trainer.global_step > self._seen_step:
            self._seen_step = trainer.global_step
            loss = find_loss(pl_module, type(self).__name__)
            if loss.step_values is not None:
                self.see(torch.where(loss.in_step, loss.step_values, torch.nan), loss)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Set the coefficients, if it is time."""
        if self.interval == "batch":
            self.adapt(find_loss(pl_module, type(self).__name__))

    @torch.no_grad()
    def see(self, values: Tensor, loss: MetricsManager) -> None:
        """Take the values of the terms after an interval; nothing is synchronised with the host.

        Args:
            values: Of all terms, shape (terms,); NaN where there is none.
            loss: The loss.
        """
        coeffs = loss.coeffs
        positions = [position for position, term in enumerate(loss.terms) if coeffs[term.name]]
        names = [loss.terms[position].name for position in positions]
        if names != self._names:  # another loss than before begins anew
            self._names, self._last_values, self._sum, self._collected = names, None, None, 0
        current = values[positions]
        if self._last_values is None:
            self._last_values = torch.where(torch.isfinite(current), current, torch.nan)
            return
        last = self._last_values.to(current.device)
        change = current - last
        change = torch.where(torch.isfinite(change), change, 0.0)
        direction = change / change.norm().clamp(min=self.eps)
        shares = torch.softmax(self.beta * direction, 0) * current.new_tensor([coeffs[name] for name in names])
        shares = shares / shares.sum()
        self._sum = shares if self._sum is None else self._sum.to(shares.device) + shares
        self._collected += 1
        self._last_values = torch.where(torch.isfinite(current), current, last)

    def adapt(self, loss: MetricsManager) -> None:
        """Set the coefficients to the mean of what was collected, if that is enough."""
        if self._collected < self.frequency or self._sum is None:
            return
        coeffs = loss.coeffs
        total = sum(coeffs[name] or 0.0 for name in self._names)
        means = (self._sum / self._collected).tolist()
        loss.set_coeffs(coeffs | {name: total * mean for name, mean in zip(self._names, means, strict=True)})
        self._sum, self._collected = None, 0

"""Averages of the weights, kept beside the raw ones: exponential moving (EMA), or equal weights for all (SWA)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nequip_like.arguments import Decay, NotNegative, check
from nequip_like.errors import ConfigError
from nequip_like.nn.module_content import ModuleContent
from nequip_like.optim.weight_passes import HeldTensors, WeightPasses

_get_version = attrgetter("_version")


def averaged_copy(
    model: nn.Module, decay: float, *, warmup: bool = True, start_step: int = 0, bias_correction: bool = False
) -> AveragedModel:
    """A copy of ``model`` that follows it: ``ema <- ema + (1 - d) (w - ema)`` after each optimizer step.

    With ``warmup``, the decay grows, ``d = min(decay, (1 + n) / (10 + n))`` with n = 1 at the first step, so that the
    random initial weights are forgotten soon. Only parameters are averaged. Buffers are copied: averaging integers, an
    element table say, would turn one element into another.

    Args:
        model: The model whose weights are followed.
        decay: Final decay, within [0, 1).
        warmup: Whether the decay grows to its final value, or is the same from the first step on.
        start_step: So many steps the copy is just the weights; steps are counted from there.
        bias_correction: The average that begins with zeros, ``v <- d v + (1 - d) w``, divided by the sum of its
            weights, ``1 - d^n``: the weights before the first step count nothing.

    Raises:
        ConfigError: If an argument is out of range, or both ways to forget the initial weights are asked for.

    Example:
        Without the warm-up: 0.9 of the average and 0.1 of the new weight.

        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 1.0)
        >>> average = averaged_copy(model, decay=0.9, warmup=False)
        >>> _ = nn.init.constant_(model.weight, 2.0)
        >>> average.update_parameters(model)
        >>> round(average.module.weight.item(), 4)
        1.1
    """
    check("ema_decay", decay, Decay)
    check("ema_start_step", start_step, NotNegative)
    if warmup and bias_correction:
        raise ConfigError(
            "ema_warmup and ema_bias_correction are both true",
            "choose one: both are there to forget the initial weights",
        )

    averaged = _copy(model, _ShareOfExponential(decay, warmup, start_step, bias_correction))
    # The copy made here counts as the first average: the next update mixes, and does not overwrite.
    averaged.n_averaged.fill_(1)
    return averaged


def mean_copy(model: nn.Module) -> AveragedModel:
    """A copy of ``model`` that becomes the mean, with equal weights, of all weights that it is updated with.

    The weights that it begins with do not count: the first update overwrites them.

    Args:
        model: The model whose weights are averaged.

    Example:
        The weights that it begins with do not count: the mean of 2 and 4 is 3.

        >>> model = nn.Linear(1, 1, bias=False)
        >>> average = mean_copy(model)
        >>> for weight in (2.0, 4.0):
        ...     _ = nn.init.constant_(model.weight, weight)
        ...     average.update_parameters(model)
        >>> average.module.weight.item()
        3.0
    """
    return _copy(model, _share_of_mean)


# Classes and not functions made on the spot: a module with an average can be pickled, to go to another process.


@dataclass(frozen=True)
class _ShareOfExponential:
    """By which share of the way the exponential average moves towards the weights."""

    decay: float
    warmup: bool
    start_step: int
    bias_correction: bool

    def __call__(self, update: int) -> float:
        number = update - self.start_step
        if number <= 0:
            return 1.0
        if self.bias_correction:
            # The corrected average itself: v / (1 - d^n) moves by this share, and no second copy is needed.
            return (1.0 - self.decay) / (1.0 - self.decay**number)
        return 1.0 - (min(self.decay, (1.0 + number) / (10.0 + number)) if self.warmup else self.decay)


def _share_of_mean(update: int) -> float:
    return 1.0 / (update + 1.0)


class _Update:
    """Moves averages towards the weights by a share that depends on how many updates there were before."""

    def __init__(self, share: Callable[[int], float]) -> None:
        self.share = share
        self._held = HeldTensors()
        self._passes: WeightPasses | None = None

    def __call__(self, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        share = self.share(int(count))
        if not self._held.are(averaged, current):
            self._held, self._passes = HeldTensors(averaged, current), WeightPasses.of(averaged, current)
        if self._passes is not None:
            self._passes.move_averages(self._held, share)
        else:
            torch._foreach_lerp_(list(averaged), list(current), share)

    def __reduce__(self) -> tuple[type[_Update], tuple[Callable[[int], float]]]:
        return _Update, (self.share,)  # a copy of a model has tensors of its own


class _Average(AveragedModel):
    """An average that walks through the modules of both models only when they have changed.

    ``AveragedModel`` does so at each step, which takes several times as long as moving the average.
    """

    _contents: tuple[ModuleContent, ModuleContent] | None = None
    _buffer_versions: list[int] | None = None  # of both, when they were copied

    def __init__(self, model: nn.Module, share: Callable[[int], float]) -> None:
        self._move = _Update(share)
        super().__init__(model, multi_avg_fn=self._move, use_buffers=False)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the averages towards the weights of a model, and copy its buffers."""
        if self._contents is None or not (self._contents[0].is_of(self.module) and self._contents[1].is_of(model)):
            self._contents, self._buffer_versions = (ModuleContent(self.module), ModuleContent(model)), None
        averages, weights = self._contents
        count = int(self.n_averaged)
        if count == 0:
            torch._foreach_copy_(averages.parameters, weights.parameters)
        else:
            self._move(averages.parameters, weights.parameters, count)
        buffers = [*averages.buffers, *weights.buffers]
        # They hardly ever change, and to copy them takes half as long as the rest.
        if self._buffer_versions != list(map(_get_version, buffers)):
            if buffers:
                torch._foreach_copy_(averages.buffers, weights.buffers)
            self._buffer_versions = list(map(_get_version, buffers))
        # += would give the module the same tensor anew, which takes as long as a third of the rest.
        self.n_averaged.add_(1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_contents": None}  # a copy of this has modules of its own


def _copy(model: nn.Module, share: Callable[[int], float]) -> AveragedModel:
    copy = _Average(model, share)
    copy.requires_grad_(False)
    return copy

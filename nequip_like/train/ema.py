"""Exponential moving average of the weights, kept beside the raw ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nequip_like.arguments import Range, check

Decay = Annotated[float, Range(low=0, high=1, high_open=True)]


def averaged_copy(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of ``model`` that follows it: ``ema <- ema + (1 - d) (w - ema)`` after each optimizer step.

    The decay warms up, ``d = min(decay, (1 + n) / (10 + n))`` with n = 1 at the first step, so that the random initial
    weights are forgotten soon. Only parameters are averaged. Buffers are copied: averaging integers, an element table
    say, would turn one element into another.

    Args:
        model: The model whose weights are followed.
        decay: Final decay, within [0, 1).

    Raises:
        ConfigError: If the decay is out of range.
    """
    check("ema_decay", decay, Decay)
    averaged = AveragedModel(model, multi_avg_fn=_update(decay), use_buffers=False)
    averaged.requires_grad_(False)
    # The copy made here counts as the first average: the next update mixes, and does not overwrite.
    averaged.n_averaged.fill_(1)
    return averaged


def _update(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        number = int(count)
        rate = 1.0 - min(decay, (1.0 + number) / (10.0 + number))
        torch._foreach_lerp_(list(averaged), list(current), rate)

    return update

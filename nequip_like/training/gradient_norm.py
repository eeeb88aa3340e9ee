"""The norm of a step's gradients, which the look for numbers that are not finite and clipping both need."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Iterable, Sequence
from operator import attrgetter

import torch
from torch import Tensor

from nequip_like.optim.weight_passes import WeightPasses

_get_version = attrgetter("_version")


class MeasuredGradients:
    """Gradients of one step and the norm of them all, which is measured once.

    Args:
        gradients: The gradients; none of them may change for the norm to serve again.

    Example:
        >>> measured = MeasuredGradients([torch.tensor([3.0]), torch.tensor([4.0])])
        >>> measured.norm.item(), measured.is_finite()
        (5.0, True)
    """

    def __init__(self, gradients: Sequence[Tensor]) -> None:
        self._gradients = list(gradients)
        self._versions = list(map(_get_version, self._gradients))
        passes = WeightPasses.of(self._gradients) if self._gradients else None
        self._compiled = None if passes is None else passes.measure_norm(self._gradients)

    @functools.cached_property
    def norm(self) -> Tensor:
        """Euclidean norm of all components together; shape ()."""
        if not self._gradients:
            return torch.zeros(())
        if self._compiled is not None:
            return torch.tensor(self._compiled, dtype=self._gradients[0].dtype)
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(self._gradients)))

    @functools.cached_property
    def length(self) -> float:
        """The norm as a number, for which the device is waited for once."""
        if self._compiled is None:
            return float(self.norm)
        single = self._gradients[0].dtype == torch.float32
        return ctypes.c_float(self._compiled).value if single else self._compiled

    def is_finite(self) -> bool:
        """Whether all components are finite: one synchronisation, as long as they are."""
        if math.isfinite(self.length):
            return True
        # Squares of large but finite numbers overflow.
        return all(bool(torch.isfinite(gradient).all()) for gradient in self._gradients)

    def are(self, gradients: Iterable[Tensor]) -> bool:
        """Whether these are the gradients, whatever their order, unchanged since they were measured."""
        return {id(gradient) for gradient in gradients} == set(map(id, self._gradients)) and self._versions == list(
            map(_get_version, self._gradients)
        )

    @torch.no_grad()
    def scale_down(self, limit: float) -> None:
        """Scale all to a norm of at most ``limit``, with the numbers of ``torch.nn.utils.clip_grad_norm_``."""
        if self._compiled is not None and self.length + 1e-6 < limit * (1.0 - 1e-6):
            return  # the factor is at least 1, whatever the rounding of float32
        factor = limit / (self.norm + 1e-6)
        # A product with 1 would change nothing. A norm that is NaN makes all NaN, as in torch.
        if not float(factor) >= 1.0:
            torch._foreach_mul_(self._gradients, torch.clamp(factor, max=1.0))

"""Data-parallel training that sums gradients in one collective, without a wrapper around the model."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn


class SummedGradientsStrategy(DDPStrategy):
    """Each process keeps the plain module; before an optimizer step the gradients of all processes are summed once.

    The loss of a step is that of the global batch (see :class:`~nequip_like.train.metrics_manager.MetricsManager`), so
    the sum of the processes' gradients is exactly its gradient, whatever the sizes of their parts. Potentials have few
    parameters, some of which no output depends on; a wrapper that overlaps communication with the backward pass gains
    nothing here and has to be told about these.
    """

    strategy_name = "summed_gradients"

    def configure_ddp(self) -> None:
        """Leave the module as it is, but make sure that all processes start from the same weights."""
        if torch.distributed.is_initialized() and self.model is not None:
            for tensor in (*self.model.parameters(), *self.model.buffers()):
                torch.distributed.broadcast(tensor.data, src=0)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over all processes; one that no process has stays None.

    Args:
        parameters: The trained parameters, in the same order on each process.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for dtype in sorted({parameter.dtype for parameter in trained}, key=str):
        group = [parameter for parameter in trained if parameter.dtype == dtype]
        parts = [torch.zeros_like(p).view(-1) if p.grad is None else p.grad.reshape(-1) for p in group]
        present = torch.tensor([float(p.grad is not None) for p in group], dtype=dtype, device=group[0].device)
        flat = torch.cat([*parts, present])
        torch.distributed.all_reduce(flat)
        sizes = [p.numel() for p in group]
        _assign(group, flat[: sum(sizes)].split(sizes), flat[sum(sizes) :].tolist())


def _assign(group: list[nn.Parameter], gradients: tuple[Tensor, ...], present: list[float]) -> None:
    for parameter, gradient, count in zip(group, gradients, present, strict=True):
        parameter.grad = gradient.view_as(parameter) if count > 0 else None

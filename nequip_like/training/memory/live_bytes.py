"""Counts the bytes of all tensors that are alive while torch computes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Within its context, the peak of what torch's operations have made and somebody still holds.

    Args:
        known: Tensors that were there before.

    Attributes:
        peak: The largest sum, bytes.

    Example:
        >>> import torch
        >>> with LiveBytes([]) as live:
        ...     for _ in range(10):
        ...         sum_of_ones = torch.ones(1000, dtype=torch.float64).sum()
        >>> live.peak
        8016
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.peak = 0
        self._live = 0
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}
        for tensor in known:
            self._note(tensor, counted=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute, and note what came out."""
        results = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(results):
            if isinstance(tensor, Tensor):
                self._note(tensor)
        return results

    def _note(self, tensor: Tensor, counted: bool = True) -> None:
        storage = tensor.untyped_storage()
        reference = StorageWeakRef(storage)
        if reference.cdata in self._storages:
            return  # a view: as long as it is referred to, its number is nobody else's
        size = storage.nbytes() if counted else 0
        self._storages[reference.cdata] = reference, size
        self._live += size
        if self._live > self.peak:
            self._forget_dead()
            self.peak = max(self.peak, self._live)

    def _forget_dead(self) -> None:
        for number in [number for number, (reference, _) in self._storages.items() if reference.expired()]:
            self._live -= self._storages.pop(number)[1]

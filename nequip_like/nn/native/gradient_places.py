"""Where C writes the gradients of parameters."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from nequip_like.nn.native.addresses import allocate_together

# torch has no public word for it. Without it memory is never used again.
_count_holders = getattr(torch._C, "_storage_Use_Count", None)
_OWN_REFERENCES = 3  # of a tensor in a list that a generator goes through: list, generator, and the question itself


class GradientPlaces:
    """Memory for gradients: one allocation for each type of numbers, not cleared.

    Args:
        tensors: What the gradients are of; only shape and type are looked at.
        wanted: Which gradients are asked for.

    Attributes:
        tensors: The gradients; None for those that are not asked for.

    Example:
        >>> weights = [torch.ones(2, 3), torch.ones(4), torch.ones(1)]
        >>> places = GradientPlaces(weights, [True, False, True])
        >>> [None if place is None else tuple(place.shape) for place in places.tensors]
        [(2, 3), None, (1,)]
        >>> places.are_free()
        True
        >>> kept = places.tensors[0].detach()
        >>> places.are_free()
        False
    """

    def __init__(self, tensors: Sequence[Tensor], wanted: Sequence[bool]) -> None:
        self.tensors: list[Tensor | None] = [None] * len(tensors)
        self._holders: list[tuple[torch.UntypedStorage, int]] = []
        asked = [i for i, want in enumerate(wanted) if want]
        for dtype in {tensors[i].dtype for i in asked}:
            shapes = {str(i): tensors[i].shape for i in asked if tensors[i].dtype == dtype}
            memory, addresses = allocate_together({name: prod(shape) for name, shape in shapes.items()}, dtype)
            storage = memory.untyped_storage()
            for name, shape in shapes.items():
                # No views of one tensor, which would share its count of changes.
                start = (addresses[name] - memory.data_ptr()) // dtype.itemsize
                self.tensors[int(name)] = torch.empty(0, dtype=dtype).set_(
                    storage, start, shape, tensors[int(name)].contiguous().stride()
                )
            self._holders.append((storage, len(shapes) + 1))

    def are_free(self) -> bool:
        """Whether nobody else holds any of the gradients, or something that shares their memory."""
        if _count_holders is None:
            return False
        return all(_count_holders(storage._cdata) == holders for storage, holders in self._holders) and all(
            sys.getrefcount(tensor) == _OWN_REFERENCES for tensor in self.tensors if tensor is not None
        )

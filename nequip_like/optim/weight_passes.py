"""Passes over all weights of a model in C, each in one call: the norm of gradients, a step of Adam, an average.

torch goes through tensors one by one, and a model of a few hundred thousand weights has some forty of them: half of
the time of a step of Adam is Python, and of what is left, half is torch's way to each tensor.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from itertools import chain
from operator import is_

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from nequip_like.nn.native.addresses import list_addresses
from nequip_like.optim.compiled_passes import SUFFIXES, can_be_passed, load_passes, write_units

_PIECE = 4096  # numbers


class AdamOptions(ctypes.Structure):
    """What a group of Adam says: the structure ``Adam`` of weight_passes.c, field by field.

    Attributes:
        rate: Learning rate.
        beta1: Decay of the average of gradients.
        beta2: Decay of the average of their squares.
        epsilon: Added to the root of the latter.
        decay: Weight decay.
        decoupled: Whether it shrinks weights (AdamW), or is added to gradients.
    """

    _fields_ = [
        *((name, ctypes.c_double) for name in ("rate", "beta1", "beta2", "epsilon", "decay")),
        ("decoupled", ctypes.c_int64),
    ]


def read_sources() -> tuple[list[str], dict[str, str]]:
    """Translation units, one for each type of numbers, and the file that they include."""
    return write_units("weight_passes.c", PIECE=_PIECE)


@functools.cache
def _load_library() -> ctypes.CDLL | None:
    """The compiled passes, tried once; None if torch has to do it."""
    library = load_passes(read_sources(), "weights")
    for suffix in SUFFIXES.values() if library is not None else ():
        getattr(library, f"measure_norm_{suffix}").restype = ctypes.c_double
    return library


class WeightPasses:
    """The passes for arrays of given sizes.

    Args:
        library: The compiled passes.
        dtype: Of the numbers.
        sizes: Of the arrays.
    """

    def __init__(self, library: ctypes.CDLL, dtype: torch.dtype, sizes: Sequence[int]) -> None:
        self._library, self._suffix = library, SUFFIXES[dtype]
        self._pieces = sum(-(-size // _PIECE) for size in sizes)
        self._sizes = (ctypes.c_int64 * len(sizes))(*sizes)
        self._count = ctypes.c_int64(len(sizes))

    @classmethod
    def of(cls, *lists: Sequence[Tensor]) -> WeightPasses | None:
        """The passes for lists of tensors, the first of each list belonging together, then the second, and so on.

        Args:
            *lists: Lists of equal length.

        Returns:
            None if torch has to do it: the tensors lie on a GPU, are sparse, have gaps, or are of another type or of
            several; or there is no compiler.
        """
        tensors = list(chain.from_iterable(lists))
        sizes = tuple(map(Tensor.numel, lists[0]))
        if not can_be_passed(tensors) or any(tuple(map(Tensor.numel, each)) != sizes for each in lists[1:]):
            return None
        library = _load_library()
        return None if library is None else _prepare(library, tensors[0].dtype, sizes)

    def fit(self, tensors: Sequence[Tensor]) -> bool:
        """Whether these are arrays of the sizes and the type that the passes are for."""
        return (
            can_be_passed(tensors)
            and SUFFIXES[tensors[0].dtype] == self._suffix
            and list(map(Tensor.numel, tensors)) == list(self._sizes)
        )

    def measure_norm(self, tensors: Sequence[Tensor]) -> float:
        """Euclidean norm of all numbers together, summed in float64."""
        sums = (ctypes.c_double * self._pieces)()
        return float(self._call("measure_norm", list_addresses(tensors), sums))

    def move_averages(self, held: HeldTensors, share: float) -> None:
        """Move averages by a share of the way towards weights.

        Args:
            held: The averages, then the weights.
            share: Within [0, 1].
        """
        self._call("move_averages", *held.addresses, ctypes.c_double(share))
        increment_version(held.tensors[: len(held.lists[0])])

    def step_adam(self, adam: AdamOptions, held: HeldTensors, gradients: Sequence[Tensor]) -> None:
        """One step of Adam or AdamW, counted in the numbers of steps.

        Args:
            adam: The options.
            held: Weights, averages of gradients and of their squares, and numbers of steps of shape () and float32.
            gradients: The gradients.
        """
        weights, firsts, seconds, steps = held.addresses
        self._call("step_adam", ctypes.byref(adam), steps, weights, list_addresses(gradients), firsts, seconds)
        increment_version(held.tensors[: len(gradients)])  # autograd never asks for the others

    def _call(self, name: str, *arguments: object) -> float:
        function = getattr(self._library, f"{name}_{self._suffix}")
        result: float = function(self._count, self._sizes, *arguments, ctypes.c_int64(torch.get_num_threads()))
        return result


# A model's sizes are the same at each step.
_prepare = functools.lru_cache(maxsize=64)(WeightPasses)


class HeldTensors:
    """Lists of tensors that a pass takes step after step, so that they have to be looked at once.

    To look at a hundred small tensors takes as long as the pass itself.

    Args:
        *lists: Lists of equal length, the first of each belonging together, then the second, and so on; None where
            there is nothing.

    Attributes:
        lists: The lists.
        tensors: All tensors of the lists.
        addresses: For C, of each list.

    Example:
        >>> weight = torch.tensor([1.0, 2.0])
        >>> held = HeldTensors([weight])
        >>> held.are([weight]), held.are([weight.clone()])
        (True, False)
        >>> weight.data = torch.zeros(3, dtype=torch.float64)  # the same tensor, and other numbers
        >>> held.are([weight])
        False
    """

    def __init__(self, *lists: Sequence[Tensor | None]) -> None:
        self.lists = [list(each) for each in lists]
        self.tensors = [tensor for tensor in chain.from_iterable(lists) if tensor is not None]
        self.addresses = [list_addresses(each) for each in lists]
        self._places = self._find_places()

    def are(self, *lists: Sequence[Tensor | None]) -> bool:
        """Whether these are the tensors, and their numbers where they were.

        A tensor of another type or device, or with gaps, has its numbers elsewhere: they are made beside the old ones.
        """
        return (
            list(map(len, lists)) == list(map(len, self.lists))
            and all(map(is_, chain.from_iterable(lists), chain.from_iterable(self.lists)))
            and self._find_places() == self._places
        )

    def _find_places(self) -> list[int]:
        return list(map(Tensor.data_ptr, self.tensors))

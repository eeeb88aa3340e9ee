"""What the processes of one run tell each other, and what each keeps for itself: its random number generators."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed
import torch.distributed as dist
from torch import Tensor


def is_distributed() -> bool:
    """Whether several processes work together through torch.distributed."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather(row: Tensor) -> Tensor:
    """Stack a tensor of all processes, in the order of ranks: shape (...) -> (world size, ...)."""
    world = dist.get_world_size()
    gathered = row.new_empty(world * row.numel())
    # torch 2.13 gave the function a new name, and the old one a warning.
    all_gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
    all_gather(gathered, row.flatten())
    return gathered.view(world, *row.shape)


_State = TypeVar("_State")


def gather_states(state: _State) -> list[_State]:
    """The states of all processes, in order. In a distributed run every process must call it."""
    if not is_distributed():
        return [state]
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, state)
    return gathered


def select_own_state(states: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The state of this process; None if the states are those of another number of processes."""
    rank, size = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if is_distributed() else (0, 1)
    return states[rank] if len(states) == size else None


def get_random_state() -> dict[str, Any]:
    """State of the generators of Python, numpy and torch, out of tensors and plain values."""
    version, numbers, gauss = random.getstate()
    kind, keys, *counters = np.random.get_state(legacy=True)
    return {
        "python": (version, list(numbers), gauss),
        "numpy": [kind, np.asarray(keys).tolist(), *counters],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Set the generators to what :func:`get_random_state` gave."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, *counters = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *counters))
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def shapes(state: Mapping[str, Any]) -> dict[str, Any]:
    """Shape of each tensor of a state, to tell states of different things apart."""
    return {name: getattr(value, "shape", None) for name, value in state.items()}

"""The last good state of what is trained, kept in memory: weights, averages of them, state of the optimizer."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nequip_like.optim.schedule_free import is_schedule_free

_MODEL, _AVERAGE = "model.", "ema."  # parts of a Lightning module that steps change: weights, and their average
# What a schedule decides, and the parameters; all else in a group of a schedule-free optimizer is of its average.
_SCHEDULED = ("params", "lr", "initial_lr", "train_mode")


class Snapshot:
    """A copy of the state that the steps of a run change, and the way back to it.

    All of it goes back in place: parameters stay the same objects, so optimizers, averages and compiled networks go on
    with them, and see by their versions that they changed. What only counts (steps, epochs, batches, the place in a
    schedule) is not in it.

    Args:
        module: A Lightning module with its ``model``, and ``ema`` where it keeps an average.
        optimizer: Its optimizer.
        step: Number of optimizer steps that were done.

    Attributes:
        step: As given.

    Example:
        >>> module = nn.Module()
        >>> module.model = nn.Linear(1, 1, bias=False)
        >>> optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        >>> _ = nn.init.constant_(module.model.weight, 2.0)
        >>> snapshot = Snapshot(module, optimizer, step=7)
        >>> _ = nn.init.constant_(module.model.weight, 1e9)
        >>> snapshot.restore()
        >>> module.model.weight.item()
        2.0
    """

    def __init__(self, module: nn.Module, optimizer: Optimizer, step: int) -> None:
        self._optimizer = optimizer
        self._tensors = _list_tensors(module)
        self._copies = {name: torch.empty_like(tensor) for name, tensor in self._tensors.items()}
        self._states: list[dict[str, Any]] = [{} for _ in _list_parameters(optimizer)]
        self.renew(step)

    @torch.no_grad()
    def renew(self, step: int) -> None:
        """Keep the present state in place of the earlier one, in the same memory.

        Args:
            step: Number of optimizer steps that were done.
        """
        self.step = step
        for name, tensor in self._tensors.items():
            self._copies[name].copy_(tensor)
        for parameter, state in zip(_list_parameters(self._optimizer), self._states, strict=True):
            _bring_to(state, self._optimizer.state.get(parameter, {}))
        self._groups = [_select_group_state(self._optimizer, group) for group in self._optimizer.param_groups]

    @torch.no_grad()
    def restore(self) -> None:
        """Bring everything back to what it was."""
        self._put(self._copies)
        for parameter, state in zip(_list_parameters(self._optimizer), self._states, strict=True):
            if state:
                _bring_to(self._optimizer.state[parameter], state)
            else:
                self._optimizer.state.pop(parameter, None)  # it had no step yet
        for group, values in zip(self._optimizer.param_groups, self._groups, strict=True):
            group.update(copy.deepcopy(values))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Let the model have the weights of the snapshot for a moment; afterwards it has its own, bit for bit."""
        weights = [name for name in self._tensors if name.startswith(_MODEL)]
        present = {name: self._tensors[name].detach().clone() for name in weights}
        self._put({name: self._copies[name] for name in weights})
        try:
            yield
        finally:
            self._put(present)

    @torch.no_grad()
    def _put(self, copies: Mapping[str, Tensor]) -> None:
        for name, values in copies.items():
            self._tensors[name].copy_(values)

    def state_dict(self) -> dict[str, Any]:
        """Everything as tensors and plain values, for a checkpoint."""
        return {"step": self.step, "weights": self._copies, "optimizer": self._states, "groups": self._groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become the snapshot of a checkpoint.

        Args:
            state: What :meth:`state_dict` gave, for the same model and optimizer.
        """
        self.step = int(state["step"])
        for name, tensor in self._copies.items():
            tensor.copy_(state["weights"][name])
        self._states = [dict(saved) for saved in state["optimizer"]]
        self._groups = [dict(values) for values in state["groups"]]


def _list_tensors(module: nn.Module) -> dict[str, Tensor]:
    """What steps may change: trained parameters, all of an average, and buffers, by name."""
    parameters = {
        name: parameter
        for name, parameter in module.named_parameters()
        if name.startswith(_AVERAGE) or (name.startswith(_MODEL) and parameter.requires_grad)
    }
    buffers = {name: buffer for name, buffer in module.named_buffers() if name.startswith((_MODEL, _AVERAGE))}
    return {**parameters, **buffers}


def _list_parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _select_group_state(optimizer: Optimizer, group: Mapping[str, Any]) -> dict[str, Any]:
    """What a group remembers of steps: schedule-free optimizers count there, all others keep settings only."""
    if not is_schedule_free(optimizer):
        return {}
    return {key: copy.deepcopy(value) for key, value in group.items() if key not in _SCHEDULED}


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def _bring_to(state: dict[str, Any], source: Mapping[str, Any]) -> None:
    """Make the state of one parameter another one, in place where a tensor keeps its shape."""
    for key in [key for key in state if key not in source]:
        del state[key]
    for key, value in source.items():
        present = state.get(key)
        if isinstance(value, Tensor) and isinstance(present, Tensor) and present.shape == value.shape:
            present.copy_(value)
        else:
            state[key] = _copy(value)

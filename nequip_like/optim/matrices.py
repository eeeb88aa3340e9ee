"""Matrices among a model's weights, and what optimizers that act on matrices have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nequip_like.errors import ConfigError
from nequip_like.optim.closure import enter_directly, evaluate_closure, remove_gradients
from nequip_like.optim.compiled_adam import use_compiled_step

IS_MATRIX = "is_matrix"  # key of a group: whether its parameters are matrices, or stacks of them


def is_hidden_matrix(name: str, parameter: Tensor, owner: nn.Module | None = None) -> bool:
    """Whether a parameter maps features to features: a matrix, or a stack of matrices where its layer says so.

    Embeddings are tables, not maps, and the last layer, of one row or column, is a vector: AdamW's business.

    Args:
        name: Name in the model.
        parameter: The parameter.
        owner: Its layer. One whose weights of three dimensions or more are stacks, from the first dimension to the
            last, has an attribute ``holds_stacks`` that is true.

    Example:
        >>> is_hidden_matrix("layers.0.linear.weight", torch.zeros(8, 8)), is_hidden_matrix("bias", torch.zeros(8))
        (True, False)
        >>> is_hidden_matrix("type_embedding", torch.zeros(3, 8)), is_hidden_matrix("readout", torch.zeros(8, 1))
        (False, False)
    """
    is_stack = parameter.ndim == 2 or (parameter.ndim > 2 and getattr(owner, "holds_stacks", False))
    return is_stack and min(parameter.shape[0], parameter.shape[-1]) > 1 and "embedding" not in name


def view_matrices(weight: Tensor) -> Tensor:
    """A weight (rows, ..., columns) as its matrices, shape (matrices, rows, columns); a view.

    Example:
        >>> view_matrices(torch.tensor([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])).tolist()
        [[[1, 2], [5, 6]], [[3, 4], [7, 8]]]
    """
    return weight.movedim(0, -2).view(-1, weight.shape[0], weight.shape[-1])


def count_matrices(weight: Tensor) -> int:
    """Number of matrices of a weight (rows, ..., columns)."""
    return math.prod(weight.shape[1:-1])


@dataclass(frozen=True, slots=True)
class Matrices:
    """A parameter that is a matrix, or a stack of them, and has a gradient at a step.

    Attributes:
        weight: The parameter, (rows, ..., columns).
        state: What the optimizer keeps of it: stacks (matrices, ..., ...), and ``step``, the number of its steps with
            the present one.
        first: Number of its first matrix among all of its group.
    """

    weight: Tensor
    state: dict[str, Any]
    first: int

    @property
    def gradient(self) -> Tensor:
        """Its gradient."""
        return cast("Tensor", self.weight.grad)

    @property
    def count(self) -> int:
        """Number of matrices."""
        return count_matrices(self.weight)


@dataclass(frozen=True)
class MatrixStack:
    """All matrices of one shape at the same step, from whatever parameters, as one batch."""

    members: Sequence[Matrices]

    @property
    def step(self) -> int:
        """Number of steps, with the present one."""
        return int(self.members[0].state["step"])

    @property
    def numbers(self) -> list[int]:
        """Number of each matrix among all of its group."""
        return [number for each in self.members for number in range(each.first, each.first + each.count)]

    @property
    def gradients(self) -> Tensor:
        """Gradients, shape (matrices, rows, columns)."""
        return torch.cat([view_matrices(each.gradient) for each in self.members])

    def gather(self, name: str) -> Tensor:
        """A part of the state, shape (matrices, ..., ...)."""
        return torch.cat([each.state[name] for each in self.members])

    def store(self, name: str, values: Tensor) -> None:
        """Put a part of the state back."""
        torch._foreach_copy_([each.state[name] for each in self.members], self._split(values))

    def apply(self, updates: Tensor, rate: float, decay: float) -> None:
        """Shrink the weights by a share, and go a step against updates (matrices, rows, columns)."""
        weights = [each.weight for each in self.members]
        if decay:
            torch._foreach_mul_(weights, 1.0 - decay)
        torch._foreach_sub_([view_matrices(weight) for weight in weights], self._split(updates * rate))

    def _split(self, values: Tensor) -> list[Tensor]:
        return list(values.split([each.count for each in self.members]))


def stack_by_shape(matrices: Iterable[Matrices]) -> list[MatrixStack]:
    """Put matrices of one shape together."""
    stacks: dict[tuple[int, int, int], list[Matrices]] = {}
    for each in matrices:
        key = each.state["step"], each.weight.shape[0], each.weight.shape[-1]
        stacks.setdefault(key, []).append(each)
    return [MatrixStack(members) for members in stacks.values()]


class MatrixOptimizer(Optimizer, ABC):
    """An update for matrices, AdamW for all other parameters, with one learning rate, weight decay and state.

    Args:
        params: Parameters, or groups of them with their own options. The key ``is_matrix`` of a group tells whether its
            parameters are matrices, or stacks of them; without it, the shape decides: matrices of two rows and columns
            or more are.
        shared: Options of both, ``lr`` and ``weight_decay``.
        of_matrices: Options of the update of matrices.
        of_adamw: Options of AdamW.
    """

    def __init__(
        self, params: Any, shared: Mapping[str, Any], of_matrices: Mapping[str, Any], of_adamw: Mapping[str, Any]
    ) -> None:
        groups = [part for group in _list_groups(params) for part in _split(group)]
        complete = [{**shared, **of_matrices, **group} for group in groups if group[IS_MATRIX]]
        # AdamW takes its steps on the groups and the state of this one, which are what is saved and scheduled.
        self._adamw: Optimizer | None = None
        self._listed: dict[Tensor, list[Matrices]] = {}  # at the last step of a group, by its first weight
        if others := [group for group in groups if not group[IS_MATRIX]]:
            fused = all(parameter.device.type in ("cpu", "cuda") for group in others for parameter in group["params"])
            self._adamw = use_compiled_step(torch.optim.AdamW(others, **shared, **of_adamw, fused=fused))
            complete += self._adamw.param_groups
        super().__init__(complete, dict(shared))

    zero_grad = remove_gradients

    @enter_directly
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; parameters without a gradient are passed over, with their state.

        Args:
            closure: Evaluates loss and gradients anew; its value is returned.
        """
        loss = evaluate_closure(closure)
        for group in self.param_groups:
            if group[IS_MATRIX] and (matrices := self._list_matrices(group)):
                self._step_matrices(matrices, group)
        if self._adamw is not None:
            # Anew at each step: loading a checkpoint replaces both.
            self._adamw.param_groups = [group for group in self.param_groups if not group[IS_MATRIX]]
            self._adamw.state = self.state
            self._adamw.step()
        return loss

    @abstractmethod
    def _step_matrices(self, matrices: Sequence[Matrices], group: Mapping[str, Any]) -> None:
        """Take a step of those matrices of a group that have a gradient."""

    @abstractmethod
    def _begin_state(self, weight: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        """The state of a parameter before its first step, without the number of steps."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state.

        Raises:
            ConfigError: If it is that of an earlier version, which took stacks of matrices for no matrices.
        """
        if any("muon" in group for group in state_dict["param_groups"]):
            raise ConfigError(
                "the checkpoint is of an earlier version's Muon, which left the self-connections to AdamW",
                "go on with that version, or begin a run with these weights: finetune.source=CHECKPOINT",
            )
        super().load_state_dict(state_dict)

    def _list_matrices(self, group: Mapping[str, Any]) -> list[Matrices]:
        """Those that have a gradient; their steps are counted. The same objects as long as nothing changes."""
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return []
        matrices = self._listed.get(weights[0], [])
        states = [each.state for each in matrices]
        is_same = len(matrices) == len(weights) and all(map(is_, weights, (each.weight for each in matrices)))
        # A state may have been replaced, as by a checkpoint's.
        if not is_same or not all(map(is_, map(self.state.get, weights), states)):
            matrices = self._listed[weights[0]] = list(self._make_matrices(group))
        for each in matrices:
            each.state["step"] += 1
        return matrices

    def _make_matrices(self, group: Mapping[str, Any]) -> Iterator[Matrices]:
        first = 0
        for weight in group["params"]:
            if weight.grad is not None:
                state = self.state[weight]
                if not state:
                    state |= {"step": 0, **self._begin_state(weight, group)}
                yield Matrices(weight, state, first)
            first += count_matrices(weight)


def _list_groups(params: Iterable[Any]) -> list[dict[str, Any]]:
    entries = list(params)
    return [dict(group) for group in entries] if isinstance(entries[0], Mapping) else [{"params": entries}]


def _split(group: dict[str, Any]) -> list[dict[str, Any]]:
    """A group whose parts are not told apart yet, as one of matrices and one of the others."""
    if IS_MATRIX in group:
        return [group]
    parts: dict[bool, list[Tensor]] = {True: [], False: []}
    for parameter in group["params"]:
        parts[is_hidden_matrix("", parameter)].append(parameter)
    groups = [{**group, "params": part, IS_MATRIX: kind} for kind, part in parts.items() if part]
    if len(groups) > 1 and "name" in group:
        for part, by in zip(groups, ("matrices", "adamw"), strict=True):
            part["name"] = f"{group['name']}-{by}"
    return groups

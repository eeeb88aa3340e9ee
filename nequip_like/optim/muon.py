"""Muon for the matrices between features, AdamW for everything else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from nequip_like.arguments import Count, Decay, FromZero, Positive, checked
from nequip_like.optim.closure import evaluate_closure

IS_MATRIX = "muon"  # key of a group: whether Muon updates it


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon is meant for a parameter: a matrix that maps features to features.

    Embeddings are tables, not maps, and the last layer, of one row or column, is a vector: AdamW's business.

    Args:
        name: Name in the model.
        parameter: The parameter.

    Example:
        >>> is_hidden_matrix("layers.0.linear.weight", torch.zeros(8, 8)), is_hidden_matrix("bias", torch.zeros(8))
        (True, False)
        >>> is_hidden_matrix("type_embedding", torch.zeros(3, 8)), is_hidden_matrix("readout", torch.zeros(8, 1))
        (False, False)
    """
    return parameter.ndim == 2 and min(parameter.shape) > 1 and "embedding" not in name


class MuonAndAdamW(Optimizer):
    """Muon (:class:`torch.optim.Muon`) and AdamW with one learning rate, one weight decay and one state.

    Args:
        params: Parameters, or groups of them with their own ``lr`` and ``weight_decay``. The key ``muon`` of a group
            tells whether Muon updates it; without it, the shape decides: matrices of two or more rows and columns.
        lr: Learning rate of both.
        weight_decay: Weight decay of both, decoupled: ``w <- (1 - lr * weight_decay) w``.
        momentum: Of Muon.
        nesterov: Of Muon: Nesterov's form of the momentum.
        ns_steps: Of Muon: steps of the iteration that makes the update orthogonal.
        adjust_lr_fn: Of Muon. ``match_rms_adamw`` scales its updates to the size of AdamW's, so that one learning rate
            fits both; ``original`` does not.
        betas: Of AdamW.
        eps: Of AdamW.

    Raises:
        ConfigError: If a value is out of range.
    """

    @checked
    def __init__(
        self,
        params: Any,
        lr: Positive = 1e-3,
        weight_decay: FromZero = 0.01,
        momentum: Decay = 0.95,
        nesterov: bool = True,
        ns_steps: Count = 5,
        adjust_lr_fn: Literal["match_rms_adamw", "original"] = "match_rms_adamw",
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        eps: FromZero = 1e-8,
    ) -> None:
        b1, b2 = betas
        shared: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
        of_muon: dict[str, Any] = {
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        groups = [part for group in _list_groups(params) for part in _split(group)]
        # The two take their steps on the groups and the state of this one, which are what is saved and scheduled.
        self._inner: dict[bool, Optimizer] = {}
        complete: list[dict[str, Any]] = []
        for is_matrix in (True, False):
            mine = [group for group in groups if group[IS_MATRIX] is is_matrix]
            if mine:
                inner: Optimizer = (
                    torch.optim.Muon(mine, **shared, **of_muon)
                    if is_matrix
                    else torch.optim.AdamW(mine, **shared, betas=(b1, b2), eps=eps)
                )
                self._inner[is_matrix] = inner
                complete += inner.param_groups
        super().__init__(complete, shared)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; parameters without a gradient are passed over, with their state.

        Args:
            closure: Evaluates loss and gradients anew; its value is returned.
        """
        loss = evaluate_closure(closure)
        for is_matrix, inner in self._inner.items():
            # Anew at each step: loading a checkpoint replaces both.
            inner.param_groups = [group for group in self.param_groups if group[IS_MATRIX] is is_matrix]
            inner.state = self.state
            inner.step()
        return loss


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
        for part, by in zip(groups, ("muon", "adamw"), strict=True):
            part["name"] = f"{group['name']}-{by}"
    return groups

"""Muon for the matrices between features, AdamW for everything else, as one optimizer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from nequip_like.arguments import Count, Decay, FromZero, Positive, checked
from nequip_like.optim.matrices import Matrices, MatrixOptimizer, count_matrices, stack_by_shape
from nequip_like.optim.matrix_passes import MatrixPasses, MuonOptions

# Of the quintic that is applied to the singular values, as torch has them (Jordan et al. 2024).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
LEAST_NORM = 1e-7


def orthogonalize(matrices: Tensor, steps: int) -> Tensor:
    """Bring all singular values near one, within 0.7 to 1.2 or so, by the iteration of Newton and Schulz.

    ``X <- a X + (b A + c A^2) X`` with ``A = X X^T``, beginning with a Frobenius norm of one (Jordan et al. 2024).
    In the type of the matrices, where torch's takes bfloat16.

    Args:
        matrices: Shape (matrices, rows, columns).
        steps: Number of iterations.

    Example:
        >>> matrix = torch.tensor([[[3.0, 0.0], [0.0, 0.5]]], dtype=torch.float64)
        >>> orthogonalize(matrix, steps=5).round(decimals=1).tolist()
        [[[0.7, 0.0], [0.0, 1.0]]]
    """
    a, b, c = COEFFICIENTS
    if tall := matrices.shape[1] > matrices.shape[2]:
        matrices = matrices.mT
    x = matrices / torch.linalg.matrix_norm(matrices, keepdim=True).clamp(min=LEAST_NORM)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def scale_of_updates(rows: int, columns: int, adjust: str) -> float:
    """What orthogonal updates are multiplied by beside the learning rate, see ``adjust_lr_fn``."""
    return 0.2 * math.sqrt(max(rows, columns)) if adjust == "match_rms_adamw" else math.sqrt(max(1.0, rows / columns))


class MuonAndAdamW(MatrixOptimizer):
    """Muon (Jordan et al. 2024) and AdamW with one learning rate, one weight decay and one state.

    All matrices of one shape are one batch, slices of self-connections among them; on CPUs with a C compiler all of a
    group are one call of compiled code. It is :class:`torch.optim.Muon` matrix by matrix, but for the numbers of its
    iteration: these have the type of the weights, bfloat16 there.

    Args:
        params: Parameters, or groups of them with their own ``lr`` and ``weight_decay``. The key ``is_matrix`` of a
            group tells whether Muon updates it; without it, the shape decides: at least two rows and columns.
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
        # By the first weight of a group.
        self._passes: dict[Tensor, MatrixPasses] = defaultdict(partial(MatrixPasses, "momentum_buffer"))
        super().__init__(
            params,
            {"lr": lr, "weight_decay": weight_decay},
            {"momentum": momentum, "nesterov": nesterov, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn},
            {"betas": (b1, b2), "eps": eps},
        )

    def _begin_state(self, weight: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        return {"momentum_buffer": weight.new_zeros(count_matrices(weight), weight.shape[0], weight.shape[-1])}

    def _step_matrices(self, matrices: Sequence[Matrices], group: Mapping[str, Any]) -> None:
        lr, momentum = float(group["lr"]), group["momentum"]
        if (passes := self._passes[matrices[0].weight]).take(matrices):
            options = MuonOptions(momentum, group["nesterov"], *COEFFICIENTS, LEAST_NORM, group["ns_steps"])
            shapes = [each.weight.shape for each in passes.matrices]
            scales = [scale_of_updates(shape[0], shape[-1], group["adjust_lr_fn"]) for shape in shapes]
            passes.step_muon(options, scales, lr, lr * group["weight_decay"])
            return
        for stack in stack_by_shape(matrices):
            gradients = stack.gradients
            momenta = stack.gather("momentum_buffer").lerp_(gradients, 1.0 - momentum)
            stack.store("momentum_buffer", momenta)
            directions = gradients.lerp_(momenta, momentum) if group["nesterov"] else momenta
            updates = orthogonalize(directions, group["ns_steps"])
            scale = scale_of_updates(updates.shape[1], updates.shape[2], group["adjust_lr_fn"])
            stack.apply(updates, lr * scale, lr * group["weight_decay"])

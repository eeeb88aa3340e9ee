"""SOAP for the matrices between features, AdamW for everything else, as one optimizer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nequip_like.arguments import Count, Decay, FromZero, Positive, checked
from nequip_like.optim.matrices import Matrices, MatrixOptimizer, MatrixStack, count_matrices, stack_by_shape
from nequip_like.optim.matrix_passes import MatrixPasses, SoapOptions

_SIDES = ("left", "right")  # of a matrix: rows, columns
_STATE = ("mean", "square", "left", "left_basis", "right", "right_basis")  # as C takes it


class SOAPAndAdamW(MatrixOptimizer):
    """SOAP (Vyas et al. 2024, arXiv 2409.11321): Adam in the eigenbasis of Shampoo's two averages, and AdamW beside it.

    For each matrix W with gradient G, all of one shape as one batch, slices of self-connections among them::

        P = U^T G V                                  the gradient in the basis
        M <- b1 M + (1 - b1) P                       kept in the basis, and turned when that is renewed
        S <- b2 S + (1 - b2) P^2
        W <- (1 - lr * weight_decay) W - lr U (M / (1 - b1^t)) / (sqrt(S / (1 - b2^t)) + eps) V^T
        L <- b2 L + (1 - b2) G G^T,   R <- b2 R + (1 - b2) G^T G

    The basis is renewed by one step of power iteration and a QR decomposition, ``U <- QR(L U)``, after its columns (and
    the rows of S) were put in the order of ``diag(U^T L U)``; V likewise. Each matrix has its turn every
    ``precondition_frequency`` steps, matrix i of a group in steps s with ``(s + i) % precondition_frequency = 0``, from
    ``precondition_frequency + 1`` on: the work is spread over the steps. The first step of a matrix changes no weight:
    it makes L and R, and U and V of their eigenvectors, as the authors' code does. On CPUs with a C compiler all
    matrices of a group are one call of compiled code.

    Args:
        params: Parameters, or groups of them with their own ``lr`` and ``weight_decay``. The key ``is_matrix`` of a
            group tells whether SOAP updates it; without it, the shape decides: at least two rows and columns.
        lr: Learning rate of both.
        weight_decay: Weight decay of both, decoupled.
        betas: b1 and b2, of both.
        eps: Added to the root, of both.
        precondition_frequency: Number of steps from a renewal of a matrix' basis to the next.
        max_precondition_dim: A side of a matrix that is larger than this keeps the identity as its basis. A matrix both
            of whose sides are larger is updated by AdamW, but for the step that it begins with.
        one_sided: Only the shorter side of a matrix has a basis, as the authors propose to save time and memory; both
            sides if they are equal.

    Raises:
        ConfigError: If a value is out of range.
    """

    @checked
    def __init__(
        self,
        params: Any,
        lr: Positive = 3e-3,
        weight_decay: FromZero = 0.01,
        betas: tuple[Decay, Decay] = (0.95, 0.95),
        eps: FromZero = 1e-8,
        precondition_frequency: Count = 10,
        max_precondition_dim: Count = 128,
        one_sided: bool = True,
    ) -> None:
        b1, b2 = betas
        of_both = {"betas": (b1, b2), "eps": eps}
        options = {
            "precondition_frequency": precondition_frequency,
            "max_precondition_dim": max_precondition_dim,
            "one_sided": one_sided,
        }
        # By the first weight of a group.
        self._passes: dict[Tensor, MatrixPasses] = defaultdict(partial(MatrixPasses, *_STATE))
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay}, {**of_both, **options}, of_both)

    def _begin_state(self, weight: Tensor, group: Mapping[str, Any]) -> dict[str, Any]:
        count, rows, columns = count_matrices(weight), weight.shape[0], weight.shape[-1]
        state = {name: weight.new_zeros(count, rows, columns) for name in ("mean", "square")}
        for side, size in zip(_SIDES, (rows, columns), strict=True):
            is_longer = size > min(rows, columns)
            if size <= group["max_precondition_dim"] and not (is_longer and group["one_sided"]):
                state |= {name: weight.new_zeros(count, size, size) for name in (side, f"{side}_basis")}
        return state

    def _step_matrices(self, matrices: Sequence[Matrices], group: Mapping[str, Any]) -> None:
        for stack in stack_by_shape(each for each in matrices if each.state["step"] == 1):
            _begin(stack, group)
        begun = [each for each in matrices if each.state["step"] > 1]
        if begun and (passes := self._passes[begun[0].weight]).take(begun):
            options = SoapOptions(*group["betas"], group["eps"], group["precondition_frequency"])
            passes.step_soap(options, float(group["lr"]), float(group["lr"]) * group["weight_decay"])
            return
        for stack in stack_by_shape(begun):
            _update(stack, group)


def _sides_of(stack: MatrixStack) -> list[str]:
    return [side for side in _SIDES if side in stack.members[0].state]


def _multiply_gradients(gradients: Tensor, side: str) -> Tensor:
    """G G^T or G^T G."""
    return gradients @ gradients.mT if side == "left" else gradients.mT @ gradients


def _begin(stack: MatrixStack, group: Mapping[str, Any]) -> None:
    gradients = stack.gradients
    for side in _sides_of(stack):
        average = _multiply_gradients(gradients, side) * (1.0 - group["betas"][1])
        stack.store(side, average)
        # In the order of falling eigenvalues, as the renewals have them.
        stack.store(f"{side}_basis", torch.linalg.eigh(average).eigenvectors.flip(-1))


def _turn(matrices: Tensor, bases: Mapping[str, Tensor]) -> Tensor:
    """Into bases: ``U^T X V``."""
    if "left" in bases:
        matrices = bases["left"].mT @ matrices
    return matrices @ bases["right"] if "right" in bases else matrices


def _update(stack: MatrixStack, group: Mapping[str, Any]) -> None:
    b1, b2 = group["betas"]
    lr, gradients = float(group["lr"]), stack.gradients
    bases = {side: stack.gather(f"{side}_basis") for side in _sides_of(stack)}
    turned = _turn(gradients, bases)
    mean = stack.gather("mean").lerp_(turned, 1.0 - b1)
    square = stack.gather("square").mul_(b2).addcmul_(turned, turned, value=1.0 - b2)
    updates_made = stack.step - 1
    root = (square / (1.0 - b2**updates_made)).sqrt_().add_(group["eps"])
    updates = _turn(mean / root, {side: basis.mT for side, basis in bases.items()})
    stack.apply(updates, lr / (1.0 - b1**updates_made), lr * group["weight_decay"])

    interval = group["precondition_frequency"]
    renewed = [i for i, number in enumerate(stack.numbers) if is_renewed(stack.step, number, interval)]
    for side, basis in bases.items():
        average = stack.gather(side).lerp_(_multiply_gradients(gradients, side), 1.0 - b2)
        stack.store(side, average)
        if renewed:
            _renew(average, basis, mean, square, side, torch.tensor(renewed, device=basis.device))
            stack.store(f"{side}_basis", basis)
    stack.store("mean", mean)
    stack.store("square", square)


def is_renewed(step: int, number: int, interval: int) -> bool:
    """Whether a matrix, by its number in its group, has its basis renewed in a step, by its number from 1."""
    return step > interval and (step + number) % interval == 0


def _renew(average: Tensor, basis: Tensor, mean: Tensor, square: Tensor, side: str, chosen: Tensor) -> None:
    """Renew the bases of chosen matrices, and bring what was averaged in the old ones into the new ones; in place."""
    old = basis[chosen]
    grown = average[chosen] @ old
    order = (old * grown).sum(-2).argsort(dim=-1, descending=True, stable=True)
    new = torch.linalg.qr(grown.gather(-1, order.unsqueeze(-2).expand_as(grown))).Q
    basis[chosen] = new
    rotation = old.mT @ new
    mine, squares = mean[chosen], square[chosen]
    if side == "left":
        mean[chosen] = rotation.mT @ mine
        square[chosen] = squares.gather(-2, order.unsqueeze(-1).expand_as(squares))
    else:
        mean[chosen] = mine @ rotation
        square[chosen] = squares.gather(-1, order.unsqueeze(-2).expand_as(squares))

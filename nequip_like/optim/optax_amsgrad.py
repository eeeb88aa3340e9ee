"""The optimizer of mlip's training loop: coupled weight decay, then clipping, then AMSGrad as optax has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nequip_like.arguments import Decay, FromZero, Positive, checked
from nequip_like.optim.closure import evaluate_closure


class OptaxAMSGrad(Optimizer):
    """A chain of three, in this order.

    1. weight decay: ``g <- g + weight_decay * w``, part of the gradient (L2);
    2. clipping: where the norm of the gradient of all parameters is above ``grad_norm``, it is scaled to it;
    3. AMSGrad: ``m <- b1 m + (1 - b1) g``, ``v <- b2 v + (1 - b2) g^2``, ``u <- max(u, v / (1 - b2^t))``,
       ``w <- w - lr m / (1 - b1^t) / (sqrt(u + eps_root) + eps)``.

    torch's ``amsgrad`` takes the maximum of ``v`` before it is divided by ``1 - b2^t``, which is another optimizer.

    Args:
        params: Parameters, or groups of them with their own ``lr`` and ``weight_decay``.
        lr: Learning rate.
        betas: b1 and b2.
        eps: Added to the root.
        eps_root: Added within the root.
        weight_decay: Coefficient of the weights in the gradient.
        grad_norm: Largest norm of the gradient, weight decay included; None does not clip.

    Raises:
        ConfigError: If a value is out of range.
    """

    @checked
    def __init__(
        self,
        params: Any,
        lr: Positive = 0.01,
        betas: tuple[Decay, Decay] = (0.9, 0.999),
        eps: FromZero = 1e-8,
        eps_root: FromZero = 0.0,
        weight_decay: FromZero = 0.0,
        grad_norm: Positive | None = 500.0,
    ) -> None:
        b1, b2 = betas
        self.grad_norm = grad_norm
        super().__init__(
            params, {"lr": lr, "betas": (b1, b2), "eps": eps, "eps_root": eps_root, "weight_decay": weight_decay}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; parameters without a gradient are passed over, with their state.

        Args:
            closure: Evaluates loss and gradients anew; its value is returned.
        """
        loss = evaluate_closure(closure)
        gradients = self._collect_gradients()
        factor = self._compute_clipping(list(gradients.values()))
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter in gradients:
                    gradient = gradients[parameter]
                    self._update(parameter, gradient if factor is None else gradient * factor, group)
        return loss

    def _collect_gradients(self) -> dict[Tensor, Tensor]:
        """With weight decay."""
        return {
            parameter: torch.add(parameter.grad, parameter, alpha=group["weight_decay"])
            if group["weight_decay"]
            else parameter.grad
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        }

    def _compute_clipping(self, gradients: Sequence[Tensor]) -> Tensor | None:
        if self.grad_norm is None or not gradients:
            return None
        norm = torch.nn.utils.get_total_norm(gradients)
        return torch.where(norm < self.grad_norm, 1.0, self.grad_norm / norm)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state |= {name: torch.zeros_like(parameter) for name in ("mean", "square", "largest")}
        state["step"] += 1
        b1, b2 = group["betas"]
        state["mean"].lerp_(gradient, 1.0 - b1)
        state["square"].lerp_(gradient.square(), 1.0 - b2)
        torch.maximum(state["largest"], state["square"] / (1.0 - b2 ** state["step"]), out=state["largest"])
        root = (state["largest"] + group["eps_root"]).sqrt_().add_(group["eps"])
        parameter.addcdiv_(state["mean"], root, value=-group["lr"] / (1.0 - b1 ** state["step"]))

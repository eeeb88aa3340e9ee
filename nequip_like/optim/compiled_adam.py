"""Adam and AdamW whose step is one call of compiled code, where they can be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nequip_like.optim.closure import enter_directly, evaluate_closure, remove_gradients
from nequip_like.optim.weight_passes import AdamOptions, HeldTensors, WeightPasses

# Options of torch that change the step; the compiled one has none of them.
_OTHER_STEPS = ("amsgrad", "maximize", "foreach", "capturable", "differentiable")


def use_compiled_step(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Let Adam and AdamW in their fused form take the compiled step; any other optimizer is given back as it is.

    The state is torch's, number by number and name by name: a run goes on from a checkpoint with either.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> optimizer = use_compiled_step(torch.optim.Adam([weight], lr=0.5, fused=True))
        >>> weight.grad = torch.tensor([10.0, -0.1])
        >>> optimizer.step()  # the first step is of the size of the learning rate, against the gradient
        >>> [round(value, 6) for value in weight.tolist()]
        [0.5, 2.5]
    """
    if type(optimizer) not in _COMPILED or not optimizer.defaults["fused"]:
        return optimizer
    # AdamW says by its class what Adam takes as an argument.
    options = {key: value for key, value in optimizer.defaults.items() if key != "decoupled_weight_decay"}
    return _COMPILED[type(optimizer)](optimizer.param_groups, **options)


class _GroupTensors:
    """What the steps of a group work on."""

    def __init__(self) -> None:
        self.held = HeldTensors()
        self._passes: WeightPasses | None = None

    def prepare(
        self, weights: Sequence[Tensor], gradients: Sequence[Tensor], states: Sequence[Mapping[str, Any]]
    ) -> WeightPasses | None:
        """Look at what has changed since the last step; the passes for this one, None if C cannot take it.

        Args:
            weights: Those with a gradient.
            gradients: Their gradients.
            states: What the optimizer keeps of each.
        """
        kept = [[state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step")]
        if not self.held.are(weights, *kept):
            self.held = HeldTensors(weights, *kept)
            self._passes = WeightPasses.of(weights, *kept[:2])
            if any(step.dtype != torch.float32 or not step.is_cpu for step in kept[2]):
                self._passes = None
        return self._passes if self._passes is not None and self._passes.fit(gradients) else None


def _step_of_torch(optimizer: torch.optim.Adam) -> None:
    # torch wraps the step of each class whose optimizers it has made; the hooks within are called around ours already.
    step: Any = torch.optim.Adam.step
    (step.__wrapped__ if getattr(step, "hooked", False) else step)(optimizer)


class _CompiledStep(torch.optim.Adam):
    """The step, for both."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._tensors: dict[int, _GroupTensors] = {}  # of each group, by its position

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Called by torch when a state is loaded, and for a copy."""
        super().__setstate__(state)
        self._tensors = {}

    @enter_directly
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Computes the loss and the gradients.
        """
        loss = evaluate_closure(closure)
        # All groups, or none: torch's own step takes all.
        prepared = (self._prepare(position, group) for position, group in enumerate(self.param_groups))
        steps = [step for step in prepared if step is not None]
        if len(steps) < len(self.param_groups):
            _step_of_torch(self)
            return loss
        for step in steps:
            step()
        return loss

    zero_grad = remove_gradients

    def _prepare(self, position: int, group: Mapping[str, Any]) -> Callable[[], None] | None:
        """The compiled step of a group; None if torch has to take it."""
        options = (group["lr"], *group["betas"])
        scaled = getattr(self, "grad_scale", None) is not None or getattr(self, "found_inf", None) is not None
        if scaled or any(group[name] for name in _OTHER_STEPS) or any(isinstance(value, Tensor) for value in options):
            return None
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return lambda: None
        states = [state for weight in weights if (state := self.state.get(weight))]
        if len(states) < len(weights):
            return None  # of the first step: torch makes the state
        gradients = [weight.grad for weight in weights]
        tensors = self._tensors.setdefault(position, _GroupTensors())
        if (passes := tensors.prepare(weights, gradients, states)) is None:
            return None
        adam = AdamOptions(
            group["lr"], *group["betas"], group["eps"], group["weight_decay"], group["decoupled_weight_decay"]
        )
        return lambda: passes.step_adam(adam, tensors.held, gradients)


class Adam(_CompiledStep):
    """``torch.optim.Adam``."""


class AdamW(_CompiledStep, torch.optim.AdamW):
    """``torch.optim.AdamW``."""


_COMPILED: dict[type, type[torch.optim.Optimizer]] = {torch.optim.Adam: Adam, torch.optim.AdamW: AdamW}

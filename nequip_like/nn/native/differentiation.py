"""The compiled potential in autograd's graph: one function for all results, and the way back without autograd."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nequip_like.nn.native.calculation import Calculation
from nequip_like.nn.native.head import Results, Structures


class Extra(NamedTuple):
    """What is added to the network's results.

    Attributes:
        energies: Of the atoms, shape (atoms,), eV, float64.
        gradient: Of their sum with respect to the edge vectors, shape (edges, 3), eV/Angstrom, float64.
    """

    energies: Tensor
    gradient: Tensor


class Call:
    """What one calculation has beside parameters.

    Args:
        calculation: The calculation.
        structures: What it is of.
        extra: What is added to its results.
        spare: Gets the calculation when nobody needs this call any more, if its memory is small.
    """

    def __init__(
        self,
        calculation: Calculation,
        structures: Structures,
        extra: Extra | None,
        spare: list[Calculation] | None = None,
    ) -> None:
        self.calculation, self._structures, self._extra, self._spare = calculation, structures, extra, spare

    def __del__(self) -> None:
        # Autograd's graph held it, and is gone: nobody can ask for gradients of this step again.
        if self._spare is not None and self.calculation.is_small:
            self._spare[:] = [self.calculation]

    def run(self) -> Results:
        """The results."""
        energies = self.calculation.run_energies(self._structures)
        if self._extra is not None:
            energies += self._extra.energies
            self.calculation.gradient.add_(self._extra.gradient)
        return self.calculation.run_sums(energies)


class DifferentiatedNetwork(torch.autograd.Function):
    """All results in one function: the gradients of a loss of them then come of one pass back, not of several."""

    @staticmethod
    def forward(ctx: Any, call: Call, *parameters: Tensor) -> tuple[Tensor, ...]:
        """The results of a call."""
        # Saved so that autograd notices a parameter that is changed before the gradient is asked for.
        ctx.save_for_backward(*parameters)
        ctx.set_materialize_grads(False)
        ctx.call, ctx.count = call, len(parameters)
        return tuple(call.run())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *adjoints: Tensor | None) -> tuple[Tensor | None, ...]:
        """Gradients by the parameters."""
        return (None, *_read_call(ctx).calculation.run_gradients(adjoints, ctx.needs_input_grad[1:]))


def _read_call(node: Any) -> Call:
    if len(node.saved_tensors) != node.count:  # reading them makes autograd's check
        raise RuntimeError("the parameters of this calculation are gone")
    if node.call is None:
        raise RuntimeError("the gradients of this calculation were asked for already")
    call: Call = node.call
    return call


def put_gradients(edges: Sequence[tuple[Any, int]], adjoints: Sequence[Tensor]) -> bool:
    """Put gradients into ``grad`` of parameters without autograd's engine, where it would do just the same.

    That is where all tensors that a loss was made of are results of one network, perhaps with a dimension of 1 more,
    and all parameters are tensors of their own that have no gradient yet and that nobody watches. Of a step of a small
    molecule the engine takes a twentieth.

    Args:
        edges: ``next_functions`` of the node that made the loss: for each tensor that it was made of the node that made
            this, and which of its results it is.
        adjoints: Gradient of the loss by each of these tensors.

    Returns:
        Whether it is done; if not, nothing has changed.

    Raises:
        RuntimeError: If a parameter was changed since, or gradients were asked for already.
    """
    by_result: list[Tensor | None] = [None] * len(Results._fields)
    network: Any = None
    for (node, index), adjoint in zip(edges, adjoints, strict=True):
        if node is not None and node.name() == "UnsqueezeBackward0":
            ((node, index),) = node.next_functions
        if not isinstance(node, _NODE) or network not in (None, node) or by_result[index] is not None:
            return False
        network, by_result[index] = node, adjoint
    if network is None:
        return False
    calculation, wanted = _read_call(network).calculation, network.needs_input_grad[1:]
    if not calculation.arguments.holds_parameters:
        return False  # numbers of another type, say
    parameters = list(compress(calculation.arguments.parameters.tensors, wanted))
    if len({*map(id, parameters)}) < len(parameters) or not all(map(_is_leaf, parameters)):
        return False
    if any(map(_UNTOUCHED.__ne__, map(_look_at, parameters))):  # of others, torch warns who asks for a gradient
        return False
    network.call = None
    gradients = calculation.run_gradients(by_result, wanted, reuse=True)
    for parameter, gradient in zip(parameters, compress(gradients, wanted), strict=True):
        parameter.grad = gradient
    return True


_NODE: Any = DifferentiatedNetwork._backward_cls
_is_leaf = attrgetter("is_leaf")
_look_at = attrgetter("grad", "_backward_hooks", "_post_accumulate_grad_hooks")
_UNTOUCHED = (None, None, None)

"""The compiled network as a function of edge vectors and parameters that a loss of energies and forces can train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nequip_like.nn.native.program import Calculation, Constants, Program, Topology
from nequip_like.nn.native.spec import NetworkPlan

Head = Callable[[Tensor, Tensor], Tensor]  # last features and atom types to energies, atom by atom
SumEdges = Callable[[Tensor], tuple[Tensor, Tensor]]


class Edges(NamedTuple):
    """What the network is a function of, beside its parameters.

    Attributes:
        atom_types: Type of each atom, shape (atoms,).
        edge_index: Receiving and sending atom of each edge, shape (2, edges).
        vectors: Edge vectors, shape (edges, 3), Angstrom, float64.
    """

    atom_types: Tensor
    edge_index: Tensor
    vectors: Tensor


class NativeNetwork:
    """Energies of the atoms, and the gradient of their sum with respect to the edge vectors, by compiled code.

    The code is made when first needed. Copies and pickles hold the plan only.

    Args:
        plan: The network.
    """

    def __init__(self, plan: NetworkPlan) -> None:
        self.plan = plan
        self._program: Program | None = None
        self._topology: _CachedTopology | None = None
        self._calculation: _CachedCalculation | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Addresses mean nothing to another process, and its processor may need other code.
        return {"plan": self.plan, "_program": None, "_topology": None, "_calculation": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> NativeNetwork:
        """A copy shares the code."""
        copy = NativeNetwork(self.plan)
        copy._program = self._program
        return copy

    @property
    def ready(self) -> bool:
        """Whether the code has been made."""
        return self._program is not None

    @property
    def program(self) -> Program:
        """The compiled code.

        Raises:
            ModelError: If it cannot be compiled.
        """
        if self._program is None:
            self._program = Program(self.plan)
        return self._program

    def predict_with_graph(
        self,
        edges: Edges,
        constants: Constants,
        parameters: Sequence[Tensor],
        head: Head,
        head_parameters: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Energies (atoms,) and gradient (edges, 3) that a loss can be differentiated through, once.

        Args:
            edges: Atoms and edges.
            constants: Cutoffs and normalisation.
            parameters: Those of the network, in the order of :class:`~nequip_like.nn.native.layout.Weights`.
            head: Energies (atoms,) from last features (atoms, channels) and types (atoms,).
            head_parameters: Tensors that the head uses and that are to be trained.
        """
        topology = self._sort_edges(edges)
        calculation = Calculation(self.program, parameters, topology, constants, keep=True)
        call = _TrainingCall(calculation, head, edges.atom_types, list(head_parameters))
        return _DifferentiatedNetwork.apply(call, edges.vectors, len(parameters), *parameters, *head_parameters)

    def predict(
        self,
        edges: Edges,
        constants: Constants,
        make_parameters: Callable[[], Sequence[Tensor]],
        origins: Sequence[Tensor] | None,
        head: Head,
    ) -> tuple[Tensor, Tensor, SumEdges]:
        """Energies (atoms,), gradient (edges, 3), and sums over the atoms' edges (``Calculation.sum_edges``).

        No graph is left.

        Args:
            edges: Atoms and edges.
            constants: Cutoffs and normalisation.
            make_parameters: Makes the network's parameters.
            origins: All that these and the constants are made of, if they need not be made anew while these tensors
                are unchanged; None makes them each time.
            head: As in :meth:`predict_with_graph`.
        """
        topology = self._sort_edges(edges)
        calculation = self._reuse_calculation(topology, constants, make_parameters, origins)
        last = calculation.run_forward(edges.vectors)
        energies, adjoint = _differentiate_head(head, last, edges.atom_types[topology.atom_order])
        return energies[topology.new_of_old], calculation.run_reverse(adjoint), calculation.sum_edges

    def _sort_edges(self, edges: Edges) -> Topology:
        """The edges in the program's order; the last ones are remembered while the same tensors come."""
        cached = self._topology
        if cached is None or not cached.matches(edges):
            cached = self._topology = _CachedTopology(self.program, edges)
        return cached.topology

    def _reuse_calculation(
        self,
        topology: Topology,
        constants: Constants,
        make_parameters: Callable[[], Sequence[Tensor]],
        origins: Sequence[Tensor] | None,
    ) -> Calculation:
        """The last calculation, or as much of it as still holds: molecular dynamics asks for step after step."""
        key = None if origins is None else _identify(origins)
        cached = self._calculation
        if key is None or cached is None or cached.key != key:
            with torch.no_grad():
                parameters = make_parameters()
            calculation = Calculation(self.program, parameters, topology, constants, keep=False)
        elif cached.calculation.topology is not topology:
            # Only the neighbour list is new: the parameters, scaled and transposed, serve again.
            calculation = Calculation(self.program, cached.calculation.parameters, topology, constants, keep=False)
            calculation.reuse_prepared(cached.calculation)
        else:
            calculation = cached.calculation
        self._calculation = _CachedCalculation(key, calculation) if key is not None else None
        return calculation


def _identify(tensors: Sequence[Tensor]) -> tuple[tuple[int, int], ...]:
    """Which tensors these are, and how often they were changed."""
    return tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)


class _CachedCalculation(NamedTuple):
    """A calculation whose memory and prepared parameters serve the next one."""

    key: tuple[tuple[int, int], ...]
    calculation: Calculation


class _CachedTopology:
    """A topology and the tensors that it was made of."""

    def __init__(self, program: Program, edges: Edges) -> None:
        # They are held: the address of a tensor that is gone could become that of another one.
        self._tensors = (edges.atom_types, edges.edge_index)
        self._versions = (edges.atom_types._version, edges.edge_index._version)
        self.topology = Topology(program, edges.atom_types, edges.edge_index)

    def matches(self, edges: Edges) -> bool:
        """Whether the edges' tensors are these, unchanged."""
        identical = self._tensors[0] is edges.atom_types and self._tensors[1] is edges.edge_index
        return identical and self._versions == (edges.atom_types._version, edges.edge_index._version)


def _differentiate_head(head: Head, last: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
    """Energies, and the gradient of their sum with respect to the last features; no graph is left."""
    with torch.enable_grad():
        last = last.detach().requires_grad_(True)
        energies = head(last, types)
        (adjoint,) = torch.autograd.grad(energies.sum(), last, materialize_grads=True)
    return energies.detach(), adjoint


class _TrainingCall:
    """What one differentiated call holds beside tensors."""

    def __init__(self, calculation: Calculation, head: Head, atom_types: Tensor, head_parameters: list[Tensor]) -> None:
        self.calculation, self.head, self.head_parameters = calculation, head, head_parameters
        self.types = atom_types[calculation.topology.atom_order]
        self.last: Tensor | None = None


class _DifferentiatedNetwork(torch.autograd.Function):
    """Both results in one function: the gradients of a loss of both then come of one pass back, not of two."""

    @staticmethod
    def forward(ctx: Any, call: _TrainingCall, vectors: Tensor, count: int, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        # Saved so that autograd notices a parameter that is changed before the gradient is asked for.
        ctx.save_for_backward(*tensors)
        ctx.call, ctx.count = call, count
        call.last = call.calculation.run_forward(vectors)
        energies, adjoint = _differentiate_head(call.head, call.last, call.types)
        return energies[call.calculation.topology.new_of_old], call.calculation.run_reverse(adjoint)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, energies_gradient: Tensor, directions: Tensor) -> tuple[Tensor | None, ...]:
        call: _TrainingCall = ctx.call
        if len(ctx.saved_tensors) != ctx.count + len(call.head_parameters):  # reading them makes autograd's check
            raise RuntimeError("the parameters of this calculation are gone")
        weights = energies_gradient[call.calculation.topology.atom_order]
        # The loss's gradient by dE/dr is a direction of the edge vectors; along it the last features change like this.
        change = call.calculation.run_tangent(directions)
        adjoint, head_gradients = _differentiate_head_twice(call, weights, change)
        # With a frozen network only the head is trained.
        frozen = not any(ctx.needs_input_grad[3 : 3 + ctx.count])
        gradients = [None] * ctx.count if frozen else call.calculation.run_dual(adjoint)
        return (None, None, None, *gradients, *head_gradients)


def _differentiate_head_twice(call: _TrainingCall, weights: Tensor, change: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Gradients of ``sum_a weights_a E_a + d(sum_a E_a)/d(last) . change``: of the last features, and the head's."""
    with torch.enable_grad():
        last = call.last.detach().requires_grad_(True)  # type: ignore[union-attr]
        energies = call.head(last, call.types)
        (adjoint,) = torch.autograd.grad(energies.sum(), last, create_graph=True, materialize_grads=True)
        total = (weights * energies).sum() + (adjoint * change).sum()
        trained = [last, *(tensor for tensor in call.head_parameters if tensor.requires_grad)]
        last_gradient, *head_gradients = torch.autograd.grad(total, trained, materialize_grads=True)
    return last_gradient, head_gradients

"""The compiled network as a function of edge vectors and parameters that a loss of energies and forces can train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nequip_like.nn.native.program import Constants, Program, Run, Topology
from nequip_like.nn.native.spec import NetworkPlan

Head = Callable[[Tensor, Tensor], Tensor]  # last features and atom types to energies, atom by atom


class NativeNetwork:
    """Energies of the atoms, and the gradient of their sum with respect to the edge vectors, by compiled code.

    The code is made when first needed. Copies and pickles hold the plan only.

    Args:
        plan: The network.
    """

    def __init__(self, plan: NetworkPlan) -> None:
        self.plan = plan
        self._program: Program | None = None
        self._edges: _KnownEdges | None = None
        self._kept: _Kept | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"plan": self.plan, "_program": None, "_edges": None, "_kept": None}

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

    def topology(self, atom_types: Tensor, edge_index: Tensor) -> Topology:
        """The edges in the program's order; remembered while the same tensors come."""
        known = self._edges
        if known is None or not known.are(atom_types, edge_index):
            known = self._edges = _KnownEdges(self.program, atom_types, edge_index)
        return known.topology

    def trained(
        self,
        head: Head,
        head_parameters: Sequence[Tensor],
        parameters: Sequence[Tensor],
        constants: Constants,
        topology: Topology,
        atom_types: Tensor,
        vectors: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Energies (atoms,) and gradient (edges, 3) that a loss can be differentiated through, once.

        Args:
            head: Energies (atoms,) from last features (atoms, channels) and types (atoms,).
            head_parameters: Tensors that the head uses and that are to be trained.
            parameters: Those of the network, in the order of :class:`~nequip_like.nn.native.layout.Weights`.
            constants: Cutoffs and normalisation.
            topology: The edges.
            atom_types: Type of each atom, shape (atoms,).
            vectors: Edge vectors, shape (edges, 3), Angstrom, float64.
        """
        run = Run(self.program, parameters, topology, constants, keep=True)
        call = _Call(run, head, atom_types, list(head_parameters))
        return _Differentiated.apply(call, vectors, len(parameters), *parameters, *head_parameters)

    def predicted(
        self,
        head: Head,
        make_parameters: Callable[[], Sequence[Tensor]],
        same_parameters: Sequence[Tensor] | None,
        constants: Constants,
        topology: Topology,
        atom_types: Tensor,
        vectors: Tensor,
    ) -> tuple[Tensor, Tensor, Callable[[Tensor], tuple[Tensor, Tensor]]]:
        """Energies (atoms,), gradient (edges, 3), and sums over the atoms' edges (:meth:`Run.edge_sums`); no graph.

        Args:
            head: As in :meth:`trained`.
            make_parameters: Makes the network's parameters.
            same_parameters: All that they and the constants are made of, if they need not be made anew while these
                tensors are unchanged; None makes them each time.
            constants: Cutoffs and normalisation.
            topology: The edges.
            atom_types: Type of each atom, shape (atoms,).
            vectors: Edge vectors, shape (edges, 3), Angstrom, float64.
        """
        key = None if same_parameters is None else _state(same_parameters)
        kept = self._kept if key is not None and self._kept is not None and self._kept.key == key else None
        if kept is None:
            run = Run(self.program, make_parameters(), topology, constants, keep=False)
        elif kept.run.topology is not topology:
            run = Run(self.program, kept.run.parameters, topology, constants, keep=False)
            run.take_prepared(kept.run)
        else:
            run = kept.run
        self._kept = _Kept(key, run) if key is not None else None
        last = run.forward(vectors)
        energies, adjoint = _energies_and_adjoint(head, last, atom_types[topology.atom_order])
        return energies[topology.new_of_old], run.reverse(adjoint), run.edge_sums


def _state(tensors: Sequence[Tensor]) -> tuple[tuple[int, int], ...]:
    """Which tensors these are, and how often they were changed."""
    return tuple((tensor.data_ptr(), tensor._version) for tensor in tensors)


class _Kept:
    """A calculation whose memory and prepared parameters serve the next one."""

    def __init__(self, key: Any, run: Run) -> None:
        self.key, self.run = key, run


class _KnownEdges:
    """A topology and the tensors that it was made of."""

    def __init__(self, program: Program, atom_types: Tensor, edge_index: Tensor) -> None:
        self.tensors = (atom_types, edge_index)
        self.versions = (atom_types._version, edge_index._version)
        self.topology = Topology(program, atom_types, edge_index)

    def are(self, atom_types: Tensor, edge_index: Tensor) -> bool:
        """Whether these are the same tensors, unchanged."""
        same = self.tensors[0] is atom_types and self.tensors[1] is edge_index
        return same and self.versions == (atom_types._version, edge_index._version)


def _energies_and_adjoint(head: Head, last: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
    """Energies, and the gradient of their sum with respect to the last features; no graph is left."""
    with torch.enable_grad():
        last = last.detach().requires_grad_(True)
        energies = head(last, types)
        (adjoint,) = torch.autograd.grad(energies.sum(), last, materialize_grads=True)
    return energies.detach(), adjoint


class _Call:
    """What one differentiated call holds beside tensors."""

    def __init__(self, run: Run, head: Head, atom_types: Tensor, head_parameters: list[Tensor]) -> None:
        self.run, self.head, self.head_parameters = run, head, head_parameters
        self.types = atom_types[run.topology.atom_order]
        self.last: Tensor | None = None


class _Differentiated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, vectors: Tensor, count: int, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        # Saved so that autograd notices a parameter that is changed before the gradient is asked for.
        ctx.save_for_backward(*tensors)
        ctx.call, ctx.count = call, count
        call.last = call.run.forward(vectors)
        energies, adjoint = _energies_and_adjoint(call.head, call.last, call.types)
        return energies[call.run.topology.new_of_old], call.run.reverse(adjoint)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, energies_gradient: Tensor, directions: Tensor) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        if len(ctx.saved_tensors) != ctx.count + len(call.head_parameters):  # reading them makes autograd's check
            raise RuntimeError("the parameters of this calculation are gone")
        weights = energies_gradient[call.run.topology.atom_order]
        change = call.run.tangent(directions)
        adjoint, head_gradients = _head_gradients(call, weights, change)
        # With a frozen network only the head is trained.
        frozen = not any(ctx.needs_input_grad[3 : 3 + ctx.count])
        gradients = [None] * ctx.count if frozen else call.run.dual(adjoint)
        return (None, None, None, *gradients, *head_gradients)


def _head_gradients(call: _Call, weights: Tensor, change: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Gradients of ``sum_a weights_a E_a + d(sum_a E_a)/d(last) . change``: of the last features, and the head's."""
    with torch.enable_grad():
        last = call.last.detach().requires_grad_(True)  # type: ignore[union-attr]
        energies = call.head(last, call.types)
        (adjoint,) = torch.autograd.grad(energies.sum(), last, create_graph=True, materialize_grads=True)
        total = (weights * energies).sum() + (adjoint * change).sum()
        needed = [last, *(tensor for tensor in call.head_parameters if tensor.requires_grad)]
        first, *rest = torch.autograd.grad(total, needed, materialize_grads=True)
    return first, rest

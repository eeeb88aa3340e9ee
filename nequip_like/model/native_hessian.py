"""The Hessian of a compiled network times changes of the positions, by compiled code as well."""

from __future__ import annotations

import ctypes
from functools import lru_cache

import torch
from torch import Tensor

from nequip_like.nn.native.calculation import Calculation
from nequip_like.nn.native.head import Structures
from nequip_like.nn.native.network import Topology
from nequip_like.nn.native.program import NetworkArguments, Parameters, Program
from nequip_like.nn.native.spec import TAPS, NetworkPlan


@lru_cache(maxsize=8)
def load_program(plan: NetworkPlan) -> Program:
    """The code of a network with second derivatives, compiled when it is first asked for.

    It is a library of its own: who trains or runs dynamics neither compiles nor loads it.

    Args:
        plan: The network.

    Raises:
        ModelError: If it cannot be compiled.
    """
    return Program(plan, hessian=True)


def multiply_hessian(plan: NetworkPlan, structures: Structures, parameters: Parameters, changes: Tensor) -> Tensor:
    """The Hessian of the sum of all energies times changes of the positions; see ``nn/native/hessian.c``.

    The values are computed once, for all changes.

    Args:
        plan: The network.
        structures: Atoms and edges.
        parameters: Those of the network and of its head.
        changes: Shape (changes, atoms, 3), float64.

    Returns:
        Of the same shape, eV/Angstrom^2 for changes without a unit.

    Raises:
        ModelError: If the code cannot be compiled.
    """
    program = load_program(plan)
    topology = Topology(program, structures.atom_types, structures.edge_index)
    calculation = HessianCalculation(program, NetworkArguments(program, parameters), parameters, topology)
    return calculation.multiply(structures, changes)


class HessianCalculation(Calculation):
    """One calculation with second derivatives.

    Args:
        program: The compiled network, with second derivatives.
        arguments: What the model has, as C takes it.
        parameters: The same, as the model has it.
        topology: The edges.
    """

    def __init__(
        self, program: Program, arguments: NetworkArguments, parameters: Parameters, topology: Topology
    ) -> None:
        super().__init__(program, arguments, parameters.constants, topology, keep=True)
        edges, harmonics = topology.edges, (program.plan.l_max + 1) ** 2
        sizes = {"sent_curvature": TAPS, "harmonics_gradient_tangent": harmonics, "length_gradient_tangent": 1}
        for name, size in sizes.items():
            self._held[name] = memory = torch.empty(edges, size, dtype=program.dtype)
            setattr(self._net, name, memory.data_ptr())

    def multiply(self, structures: Structures, changes: Tensor) -> Tensor:
        """The Hessian times changes of the positions (changes, atoms, 3), float64; of the same shape."""
        self.run_energies(structures)
        changes = changes.to(torch.float64).contiguous()
        products = torch.empty_like(changes)
        self.program.library.potential_hessian(
            ctypes.byref(self._net),
            ctypes.byref(self._head.fields),
            ctypes.c_int64(len(changes)),
            *map(ctypes.c_void_p, (changes.data_ptr(), self._doubles["directions"], products.data_ptr())),
        )
        return products

"""The compiled network: its library, and parameters as it takes them."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import is_

import torch
from torch import Tensor

from nequip_like.errors import ModelError
from nequip_like.nn.native.addresses import prepare_for_c
from nequip_like.nn.native.compiler import compile_library
from nequip_like.nn.native.head import Head, HeadArguments
from nequip_like.nn.native.layout import FeatureOffsets, Weights, assign_offsets
from nequip_like.nn.native.radial_tables import RadialArguments, RadialNetworks
from nequip_like.nn.native.sources.network_source import write_network
from nequip_like.nn.native.spec import TAPS, NetworkPlan


class Program:
    """A network's compiled code.

    Args:
        plan: What to compile.
        hessian: With second derivatives by positions in the place of gradients of the parameters.
    """

    def __init__(self, plan: NetworkPlan, hessian: bool = False) -> None:
        self.plan = plan
        self.weights = Weights(plan)
        self.dtype = torch.float64 if plan.double else torch.float32
        sources = write_network(plan, hessian)
        self.block = sources.block
        self.library = compile_library(sources.units, sources.headers)
        #: Whether the compiler could make it use several threads.
        self.parallel = bool(self.library.is_parallel())
        for name in ("topology", "head_memory", "head_prepared", "radial_memory", "padded_width"):
            getattr(self.library, name).restype = ctypes.c_int64
        number, address = ctypes.c_int64, ctypes.c_void_p
        self.library.topology.argtypes = [*2 * [number], *15 * [address], number, address]
        #: Channels of each kind of the last features.
        self.last_widths = [kind.size for kind in plan.layers[-1].outputs]
        self._offsets = {keep: assign_offsets(plan, keep) for keep in (False, True)}
        #: The offsets for C, which gets an address: they live as long as the program.
        self.offset_tables = {keep: torch.tensor(features.offsets) for keep, features in self._offsets.items()}

    def get_offsets(self, keep: bool) -> FeatureOffsets:
        """Where features lie, in training (``keep``) or for predictions."""
        return self._offsets[keep]

    def measure_arrays(self, atoms: int, edges: int, keep: bool) -> dict[str, int]:
        """Numbers of each array of atoms and edges, in training (``keep``) or for predictions."""
        harmonics = edges * (self.plan.l_max + 1) ** 2
        sizes = {"features": self._offsets[keep].total * atoms}
        sizes |= dict.fromkeys(("basis", "sent_basis"), edges * 2 * TAPS)
        sizes |= dict.fromkeys(("harmonics", "sent_harmonics", "harmonics_gradient"), harmonics)
        sizes["length_gradient"] = edges
        if keep:
            sizes |= dict.fromkeys(("harmonics_tangent", "sent_harmonics_tangent"), harmonics)
            sizes |= dict.fromkeys(("length_tangent", "sent_length_tangent"), edges)
        return sizes


class Constants:
    """Tables that are no parameters: cutoffs and normalisation.

    Args:
        inverse_cutoff: 1 / cutoff of each pair of species, shape (types, types), 1/Angstrom, float64.
        norm: Factor of what an atom of each species sends, shape (types,), float64.
    """

    def __init__(self, inverse_cutoff: Tensor, norm: Tensor, types: int) -> None:
        self.inverse_cutoff = inverse_cutoff.detach().contiguous()
        self.norm = norm.detach().expand(types).contiguous()


@dataclass(frozen=True, eq=False)
class Parameters:
    """All that a calculation needs of a model.

    Attributes:
        network: Embedding and weights, ordered as :class:`~nequip_like.nn.native.layout.Weights` without the tables.
        radial: The radial networks, which the tables are made of.
        head: What makes energies of the last features.
        constants: Cutoffs and normalisation.
    """

    network: Sequence[Tensor]
    radial: RadialNetworks
    head: Head
    constants: Constants

    @cached_property
    def tensors(self) -> list[Tensor]:
        """All that can be trained."""
        return [*self.network, *self.radial.tensors, *self.head.tensors]


class NetworkArguments:
    """Parameters as C takes them, whatever is calculated: they serve until a tensor is replaced.

    Args:
        program: The compiled network.
        parameters: What the model has.

    Attributes:
        weights: Those of the network.
        radial: The radial networks.
        head: The head.
        num_radial: Number of tensors of the radial networks.
        tensors: What C reads for each of :attr:`Parameters.tensors`.
        holds_parameters: Whether it reads the parameters themselves, and no copies.

    Raises:
        ModelError: If parameters have another element type than the program was made for.
    """

    def __init__(self, program: Program, parameters: Parameters) -> None:
        if any(weight.dtype != program.dtype for weight in parameters.network):
            raise ModelError(
                f"the weights are no longer {program.dtype}", "build the model with model_dtype, and do not convert it"
            )
        self.parameters = parameters
        self.weights = [prepare_for_c(weight, program.dtype) for weight in parameters.network]
        self.radial = RadialArguments(program.library, parameters.radial, program.plan.table_rows, program.dtype)
        self.head = HeadArguments(program.library, parameters.head, program.dtype, program.last_widths)
        basis = self.radial.basis[:, : self.radial.inputs]
        self.tensors = [*self.weights, basis, *self.radial.weights, *self.head.weights, *self.head.scales]
        self.num_radial = len(parameters.radial.tensors)
        self._addresses = list(map(Tensor.data_ptr, parameters.tensors))
        # A copy has the numbers of now; the basis is another tensor when it has other numbers.
        self.holds_parameters = all(
            own is given or own is basis for own, given in zip(self.tensors, parameters.tensors, strict=True)
        )

    def serve(self, parameters: Parameters) -> bool:
        """Whether these are the same tensors at the same places, whatever their numbers are now."""
        tensors = parameters.tensors
        known = tensors is self.parameters.tensors or all(map(is_, tensors, self.parameters.tensors))
        same = self.holds_parameters and known
        return same and list(map(Tensor.data_ptr, tensors)) == self._addresses

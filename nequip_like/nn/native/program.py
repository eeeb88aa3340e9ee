"""The compiled network: its library, the edges and atoms in its order, and its passes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nequip_like.errors import ModelError
from nequip_like.nn.native.compiler import compile_library
from nequip_like.nn.native.layout import FeatureOffsets, Weights, assign_offsets, index_features
from nequip_like.nn.native.network_source import write_network
from nequip_like.nn.native.spec import TAPS, NetworkPlan

# A chunk of atoms has its own gradients of the radial tables: more chunks serve more threads, and take more memory.
# Their number depends on the edges, never on the threads, so that sums are the same whatever the number of threads.
_MOST_CHUNKS = 16
_EDGES_OF_CHUNK = 1024


class _Net(ctypes.Structure):
    """The structure ``Net`` of runtime.c, field by field: nothing but this order ties the two together."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("atoms", "edges", "blocks", "chunks", "threads", "keep")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("row", "original", "neighbour", "sent_row", "sent", "sent_centre", "atom_order"),
                *("block_start", "block_stop", "block_type", "chunk_block", "type_start"),
                *("inverse_cutoff", "norm", "vectors", "directions", "gradient", "interval", "sent_interval"),
                *("basis", "harmonics", "harmonics_tangent", "length_tangent"),
                *("sent_basis", "sent_harmonics", "sent_harmonics_tangent", "sent_length_tangent"),
                *("harmonics_gradient", "length_gradient"),
                *("parameters", "gradients", "prepared", "features", "scratch", "feature_offsets"),
            )
        ),
    ]


class Topology:
    """Atoms by species and edges by atom, for one list of edges.

    Args:
        program: The compiled network.
        atom_types: Type of each atom, shape (atoms,).
        edge_index: Receiving and sending atom of each edge, shape (2, edges).

    Raises:
        ModelError: If an index is out of range, or there are more than 2^31 edges.
    """

    def __init__(self, program: Program, atom_types: Tensor, edge_index: Tensor) -> None:
        self.atoms, self.edges = len(atom_types), edge_index.shape[1]
        if self.edges >= 2**31:
            raise ModelError(
                f"{self.edges} edges are too many", "predict fewer atoms at a time, or write model.kernel=batched"
            )
        types = program.plan.types
        self.chunks = max(1, min(_MOST_CHUNKS, self.edges // _EDGES_OF_CHUNK))
        most_blocks = self.atoms // program.block + types
        sizes = {
            **{"atom_order": self.atoms, "new_of_old": self.atoms, "type_start": types + 1, "row": self.atoms + 1},
            **{"original": self.edges, "neighbour": self.edges, "sent_row": self.atoms + 1, "sent": self.edges},
            **{"sent_centre": self.edges, "block_start": most_blocks, "block_stop": most_blocks},
            **{"block_type": most_blocks},
        }
        # One allocation, and one after the other in the order of the C function's arguments.
        memory = torch.empty(sum(sizes.values()) + self.chunks + 1, dtype=torch.int32)
        # C gets addresses only: this reference holds the memory as long as the topology lives.
        self._memory, place, address = memory, 0, memory.data_ptr()
        self.pointers: dict[str, int] = {}
        for name, size in (*sizes.items(), ("chunk_block", self.chunks + 1)):
            self.pointers[name] = address + 4 * place
            place += size
        self.atom_order, self.new_of_old = memory[: self.atoms], memory[self.atoms : 2 * self.atoms]
        # The C code takes addresses, so types have to be right here.
        centre, neighbour = (index.to(torch.int64).contiguous() for index in edge_index)
        atom_types = atom_types.to(torch.int64).contiguous()
        arrays = [self.pointers[name] for name in sizes]
        self.blocks = program.library.topology(
            ctypes.c_int64(self.atoms),
            ctypes.c_int64(self.edges),
            *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (atom_types, centre, neighbour)),
            *(ctypes.c_void_p(pointer) for pointer in arrays),
            ctypes.c_int64(self.chunks),
            ctypes.c_void_p(self.pointers["chunk_block"]),
        )
        if self.blocks < 0:
            raise ModelError("an edge or a species is out of range", "build the neighbour list for these atoms")


class Program:
    """A network's compiled code.

    Args:
        plan: What to compile.
    """

    def __init__(self, plan: NetworkPlan) -> None:
        self.plan = plan
        self.weights = Weights(plan)
        self.dtype = torch.float64 if plan.double else torch.float32
        sources = write_network(plan)
        self.block = sources.block
        self.library = compile_library(sources.units, sources.headers)
        #: Whether the compiler could make it use several threads.
        self.parallel = bool(self.library.is_parallel())
        self.library.topology.restype = ctypes.c_int64
        self._offsets = {keep: assign_offsets(plan, keep) for keep in (False, True)}
        #: The offsets for C, which gets an address: they live as long as the program.
        self.offset_tables = {keep: torch.tensor(features.offsets) for keep, features in self._offsets.items()}

    def get_offsets(self, keep: bool) -> FeatureOffsets:
        """Where features lie, in training (``keep``) or for predictions."""
        return self._offsets[keep]


class Constants:
    """Tables that are no parameters: cutoffs and normalisation.

    Args:
        inverse_cutoff: 1 / cutoff of each pair of species, shape (types, types), 1/Angstrom, float64.
        norm: Factor of what an atom of each species sends, shape (types,), float64.
    """

    def __init__(self, inverse_cutoff: Tensor, norm: Tensor, types: int) -> None:
        self.inverse_cutoff = inverse_cutoff.detach().contiguous()
        self.norm = norm.detach().expand(types).contiguous()


class Calculation:
    """One calculation: what the passes leave for each other.

    Args:
        program: The compiled network.
        parameters: Embedding, weights and radial tables, ordered as :class:`~nequip_like.nn.native.layout.Weights`.
        topology: The edges.
        constants: The tables.
        keep: Whether what training needs is kept.

    Raises:
        ModelError: If parameters have another element type than the program was made for.
    """

    def __init__(
        self, program: Program, parameters: Sequence[Tensor], topology: Topology, constants: Constants, keep: bool
    ) -> None:
        plan, edges = program.plan, topology.edges
        self.program, self.topology, self.constants, self.keep = program, topology, constants, keep
        # The C code gets addresses: what is no longer contiguous is copied, and this list holds the copies.
        self.parameters = [parameter.detach().contiguous() for parameter in parameters]
        if any(parameter.dtype != program.dtype for parameter in self.parameters):
            raise ModelError(
                f"the weights are no longer {program.dtype}", "build the model with model_dtype, and do not convert it"
            )
        harmonics = (plan.l_max + 1) ** 2
        # Not cleared: every pass sets what the next ones read.
        self._tensors: dict[str, Tensor] = {
            "features": self._allocate(program.get_offsets(keep).total * topology.atoms),
            "prepared": self._allocate(program.weights.prepared),
            "interval": torch.empty(edges, dtype=torch.int32),
            "sent_interval": torch.empty(edges, dtype=torch.int32),
            "basis": self._allocate(edges * 2 * TAPS),
            "sent_basis": self._allocate(edges * 2 * TAPS),
            "harmonics": self._allocate(edges * harmonics),
            "sent_harmonics": self._allocate(edges * harmonics),
            "harmonics_gradient": self._allocate(edges * harmonics),
            "length_gradient": self._allocate(edges),
        }
        self._net = _Net(
            atoms=topology.atoms,
            edges=edges,
            blocks=topology.blocks,
            chunks=topology.chunks,
            keep=int(keep),
            inverse_cutoff=constants.inverse_cutoff.data_ptr(),
            norm=constants.norm.data_ptr(),
            feature_offsets=program.offset_tables[keep].data_ptr(),
            **{name: pointer for name, pointer in topology.pointers.items() if name != "new_of_old"},
            **{name: tensor.data_ptr() for name, tensor in self._tensors.items()},
        )
        self._prepared = False
        self._parameter_addresses = _list_addresses(self.parameters)
        self._net.parameters = ctypes.addressof(self._parameter_addresses)

    def _allocate(self, size: int) -> Tensor:
        return torch.empty(size, dtype=self.program.dtype)

    def _call(self, function: Any) -> None:
        function(ctypes.byref(self._net))

    def _set(self, **tensors: Tensor) -> None:
        self._tensors.update(tensors)
        for name, tensor in tensors.items():
            setattr(self._net, name, tensor.data_ptr())

    def reuse_prepared(self, calculation: Calculation) -> None:
        """Take over what another calculation with the same parameters has made of them."""
        self._set(prepared=calculation._tensors["prepared"])
        self._prepared = calculation._prepared

    def _view_scalars(self, name: str, layer: int) -> list[Tensor]:
        """Views of scalars at the end of the network, one (atoms, channels) for each kind."""
        place = self.program.get_offsets(self.keep).offsets[index_features(layer, name)] * self.topology.atoms
        views = []
        for kind in self.program.plan.layers[-1].outputs:
            size = self.topology.atoms * kind.size
            views.append(self._tensors["features"][place : place + size].view(self.topology.atoms, kind.size))
            place += size
        return views

    def run_forward(self, vectors: Tensor) -> Tensor:
        """Features of the last layer, shape (atoms, channels), atoms in the topology's order.

        Args:
            vectors: Edge vectors, shape (edges, 3), Angstrom, float64, in the order of the topology's ``edge_index``.
        """
        self._set(vectors=vectors.detach().to(torch.float64).contiguous())
        # Asked at each step: the user may change it in between.
        self._net.threads = torch.get_num_threads()
        library = self.program.library
        if not self._prepared:
            self._call(library.network_prepare)
            self._prepared = True
        self._call(library.network_forward)
        return torch.cat(self._view_scalars("f", len(self.program.plan.layers)), dim=1)

    def _write_adjoint(self, name: str, adjoint: Tensor) -> None:
        parts = self._view_scalars(name, len(self.program.plan.layers) - 1)
        for view, part in zip(parts, adjoint.split([view.shape[1] for view in parts], dim=1), strict=True):
            view.copy_(part)

    def run_reverse(self, adjoint: Tensor) -> Tensor:
        """Gradient with respect to the edge vectors, shape (edges, 3), float64; after :meth:`run_forward`.

        Args:
            adjoint: Of the last features, shape (atoms, channels).
        """
        self._write_adjoint("yb", adjoint)
        # Float64 whatever the weights are: an atom's force is a sum over its edges whose terms nearly cancel.
        gradient = torch.empty(self.topology.edges, 3, dtype=torch.float64)
        self._set(gradient=gradient)
        self._call(self.program.library.network_reverse)
        return gradient

    def sum_edges(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Of each atom's edges: gradients received minus sent (atoms, 3), and products with vectors (atoms, 3, 3).

        Args:
            gradient: With respect to the edge vectors of :meth:`run_forward`, shape (edges, 3), float64.
        """
        gradient = gradient.contiguous()
        differences = torch.empty(self.topology.atoms, 3, dtype=torch.float64)
        products = torch.empty(self.topology.atoms, 3, 3, dtype=torch.float64)
        places = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (gradient, differences, products))
        self.program.library.edge_sums(ctypes.byref(self._net), *places)
        return differences, products

    def run_tangent(self, directions: Tensor) -> Tensor:
        """Change of the last features along a change of the edge vectors, shape (atoms, channels).

        After :meth:`run_forward`.

        Args:
            directions: The change, shape (edges, 3), float64.
        """
        edges, harmonics = self.topology.edges, (self.program.plan.l_max + 1) ** 2
        self._set(
            directions=directions.detach().to(torch.float64).contiguous(),
            harmonics_tangent=self._allocate(edges * harmonics),
            sent_harmonics_tangent=self._allocate(edges * harmonics),
            length_tangent=self._allocate(edges),
            sent_length_tangent=self._allocate(edges),
        )
        self._call(self.program.library.network_tangent)
        return torch.cat(self._view_scalars("ft", len(self.program.plan.layers)), dim=1)

    def run_dual(self, adjoint: Tensor) -> list[Tensor]:
        """Gradients of the parameters; after :meth:`run_tangent`.

        The adjoint of the tangent is the one that :meth:`run_reverse` began with.

        Args:
            adjoint: Of the last features, shape (atoms, channels).
        """
        self._write_adjoint("yb2", adjoint)
        program = self.program
        largest = max(layer.table.weight_numel for layer in program.plan.layers) * program.plan.table_rows
        gradients = [torch.empty_like(parameter) for parameter in self.parameters]
        addresses = _list_addresses(gradients)
        # Only for this call: it is as large as the radial tables of all chunks.
        self._set(scratch=self._allocate(program.weights.sums + self.topology.chunks * largest))
        self._net.gradients = ctypes.addressof(addresses)
        self._call(program.library.network_dual)
        return gradients


def _list_addresses(tensors: Sequence[Tensor]) -> Any:
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))

"""The compiled network: its library, the edges and atoms in its order, and its passes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from operator import is_
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from nequip_like.errors import ModelError
from nequip_like.nn.native.addresses import allocate_together, list_addresses, prepare_for_c
from nequip_like.nn.native.compiler import compile_library
from nequip_like.nn.native.head import Head, HeadArguments, HeadCalculation, LastScalars
from nequip_like.nn.native.layout import FeatureOffsets, Weights, assign_offsets, index_features
from nequip_like.nn.native.network_source import write_network
from nequip_like.nn.native.radial_tables import RadialArguments, RadialCalculation, RadialNetworks
from nequip_like.nn.native.spec import TAPS, NetworkPlan
from nequip_like.nn.native.threads import count_threads

if TYPE_CHECKING:
    from nequip_like.nn.native.network import Topology

T = TypeVar("T")


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
                *("sent_curvature", "harmonics_gradient_tangent", "length_gradient_tangent"),
            )
        ),
    ]


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


class Parameters(NamedTuple):
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

    @property
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
        prepared = [*self.weights, self.radial.basis, *self.radial.weights, *self.head.weights, *self.head.scales]
        self._addresses = list(map(Tensor.data_ptr, parameters.tensors))
        # A copy has the numbers of now; the basis is another tensor when it has other numbers.
        basis = len(self.weights)
        self._may_serve = all(
            own is given or i == basis for i, (own, given) in enumerate(zip(prepared, parameters.tensors, strict=True))
        )

    def serve(self, parameters: Parameters) -> bool:
        """Whether these are the same tensors at the same places, whatever their numbers are now."""
        tensors = parameters.tensors
        same = self._may_serve and all(map(is_, tensors, self.parameters.tensors))
        return same and list(map(Tensor.data_ptr, tensors)) == self._addresses


class Structures(NamedTuple):
    """What a calculation is of: several structures, whose atoms are numbered one after the other.

    Attributes:
        atom_types: Type of each atom, shape (atoms,).
        edge_index: Receiving and sending atom of each edge, shape (2, edges).
        positions: Shape (atoms, 3), Angstrom.
        translations: Of each edge's sending atom, in cells, shape (edges, 3); None without periodic images.
        cells: Lattice vectors as rows, zeros without a cell, shape (graphs, 3, 3), Angstrom; None if none has one.
        graph_of_atom: Number of each atom's structure, shape (atoms,).
        graphs: Number of structures.
    """

    atom_types: Tensor
    edge_index: Tensor
    positions: Tensor
    translations: Tensor | None
    cells: Tensor | None
    graph_of_atom: Tensor
    graphs: int


class Results(NamedTuple):
    """Energies and their derivatives; all float64.

    Attributes:
        energies: Of the atoms, shape (atoms,), eV.
        totals: Of the structures, shape (graphs,), eV.
        forces: On the atoms, shape (atoms, 3), eV/Angstrom.
        stress: Of the structures, shape (graphs, 3, 3), eV/Angstrom^3; NaN without a cell.
        virial: Minus the stress times the volume, shape (graphs, 3, 3), eV; NaN without a cell.
    """

    energies: Tensor
    totals: Tensor
    forces: Tensor
    stress: Tensor
    virial: Tensor


class Calculation:
    """One calculation: what the passes leave for each other.

    Args:
        program: The compiled network.
        arguments: What the model has.
        constants: What it has beside parameters.
        topology: The edges.
        keep: Whether what training needs is kept.
    """

    def __init__(
        self, program: Program, arguments: NetworkArguments, constants: Constants, topology: Topology, keep: bool
    ) -> None:
        edges = topology.edges
        self.program, self.arguments, self.topology, self.keep = program, arguments, topology, keep
        # C gets addresses only: what it uses is held here. Nothing is cleared: a pass sets what the next ones read.
        self.constants = constants
        self._held: dict[str, Any] = {"prepared": torch.empty(program.weights.prepared, dtype=program.dtype)}
        self._held["intervals"], intervals = allocate_together(
            dict.fromkeys(("interval", "sent_interval"), edges), torch.int32
        )
        self._held["memory"], self._addresses = allocate_together(
            program.measure_arrays(topology.atoms, edges, keep), program.dtype
        )
        self._net = _Net(
            atoms=topology.atoms,
            edges=edges,
            blocks=topology.blocks,
            chunks=topology.chunks,
            keep=int(keep),
            inverse_cutoff=constants.inverse_cutoff.data_ptr(),
            norm=constants.norm.data_ptr(),
            feature_offsets=program.offset_tables[keep].data_ptr(),
            prepared=self._held["prepared"].data_ptr(),
            **{name: pointer for name, pointer in topology.pointers.items() if name != "new_of_old"},
            **intervals,
            **self._addresses,
        )
        self._radial = RadialCalculation(arguments.radial, keep)
        self._held["weights"] = list_addresses(self._insert_tables(arguments.weights, self._radial.tables))
        self._net.parameters = ctypes.addressof(self._held["weights"])
        self._head = HeadCalculation(arguments.head)
        self._connect_head()
        self._prepared = False

    def _insert_tables(self, weights: Sequence[T], tables: Sequence[T]) -> list[T]:
        """Weights and tables in the order of the layout."""
        merged = list(weights)
        for layer, table in zip(self.program.weights.layers, tables, strict=True):
            merged.insert(layer.table, table)
        return merged

    def _hold(self, **tensors: Tensor) -> None:
        self._held.update(tensors)
        for name, tensor in tensors.items():
            setattr(self._net, name, tensor.data_ptr())

    def reuse_prepared(self, calculation: Calculation) -> None:
        """Take over what another calculation with the same parameters, which is not used any more, made of them."""
        self._hold(prepared=calculation._held["prepared"])
        self._held["weights"] = calculation._held["weights"]
        self._net.parameters = calculation._net.parameters
        self._prepared, self._head, self._radial = calculation._prepared, calculation._head, calculation._radial
        self._connect_head()

    def _connect_head(self) -> None:
        """Give the head its memory, and the places where it meets the last layer."""
        count, bytes_of_number = len(self.program.plan.layers), self.topology.atoms * self.program.dtype.itemsize
        head = self._head.fields
        offsets = self.program.get_offsets(self.keep).offsets
        ends = {"features": ("f", count), "adjoints": ("yb", count - 1)}
        if self.keep:
            ends |= {"tangents": ("ft", count), "second_adjoints": ("yb2", count - 1)}
        widths = list(accumulate(self.program.last_widths[:-1], initial=0))
        for end, (name, layer) in ends.items():
            offset = offsets[index_features(layer, name)]
            addresses = [self._addresses["features"] + (offset + width) * bytes_of_number for width in widths]
            self._held[end] = (ctypes.c_void_p * len(addresses))(*addresses)
            setattr(head, end, ctypes.addressof(self._held[end]))
        self._held["head"] = self._head.allocate(self.topology.atoms, self.keep)
        head.memory = self._held["head"].data_ptr()

    def run_energies(self, structures: Structures, derivatives: bool = True) -> tuple[Tensor, Tensor]:
        """Energies of the atoms, and the gradient of their sum with respect to the edge vectors.

        Args:
            structures: Positions and cells, for the atoms and edges of the topology.
            derivatives: Whether there is a pass back; without one the gradient has no edges.

        Returns:
            Energies (atoms,) in the caller's order, eV, and gradient (edges, 3), eV/Angstrom, both float64 whatever the
            weights are: an atom's force is a sum over its edges whose terms nearly cancel.
        """
        edges = self.topology.edges
        energies = torch.empty(self.topology.atoms, dtype=torch.float64)
        vectors = torch.empty(edges, 3, dtype=torch.float64)
        gradient = torch.empty(edges if derivatives else 0, 3, dtype=torch.float64)
        self._hold(vectors=vectors, gradient=gradient)
        if not derivatives:
            self._net.gradient = None
        head = self._head.fields
        for name, tensor, dtype in (
            ("positions", structures.positions, torch.float64),
            ("translations", structures.translations, torch.float64),
            ("cells", structures.cells, torch.float64),
            ("graph_of_atom", structures.graph_of_atom, torch.int64),
        ):
            held = self._held[name] = None if tensor is None else prepare_for_c(tensor, dtype)
            setattr(head, name, None if held is None else held.data_ptr())
        head.graphs, head.energies = structures.graphs, energies.data_ptr()
        self._net.threads = count_threads()
        radial = None if self._prepared else ctypes.byref(self._radial.fields)
        self.program.library.potential_energies(
            ctypes.byref(self._net), ctypes.byref(head), radial, ctypes.c_void_p(vectors.data_ptr())
        )
        self._prepared = True
        return energies, gradient

    @cached_property
    def last_scalars(self) -> LastScalars:
        """The last layer's scalars, where :meth:`run_energies` leaves them."""
        memory, atoms, count = self._held["memory"], self.topology.atoms, len(self.program.plan.layers)
        start = (self._addresses["features"] - memory.data_ptr()) // memory.itemsize
        start += self.program.get_offsets(self.keep).offsets[index_features(count, "f")] * atoms
        sizes = [atoms * width for width in self.program.last_widths]
        kinds = memory[start : start + sum(sizes)].split(sizes)
        return LastScalars([kind.view(atoms, -1) for kind in kinds], self.topology.order, self.topology.places)

    def run_sums(self, energies: Tensor, gradient: Tensor) -> Results:
        """What energies of atoms and the gradient by the edge vectors are together; after :meth:`run_energies`.

        Args:
            energies: Shape (atoms,), float64.
            gradient: Shape (edges, 3), float64.
        """
        atoms, head = self.topology.atoms, self._head.fields
        totals = torch.empty(head.graphs, dtype=torch.float64)
        forces = torch.empty(atoms, 3, dtype=torch.float64)
        stress, virial, strain = (torch.empty(head.graphs, 3, 3, dtype=torch.float64) for _ in range(3))
        products = torch.empty(atoms, 9, dtype=torch.float64)
        self._hold(gradient=gradient)
        self._held["strain"] = strain
        results = Results(energies, totals, forces, stress, virial)
        for name, tensor in (*results._asdict().items(), ("strain", strain)):
            setattr(head, name, tensor.data_ptr())
        self.program.library.potential_sums(
            ctypes.byref(self._net), ctypes.byref(head), ctypes.c_void_p(products.data_ptr())
        )
        return results

    def run_gradients(self, adjoints: Sequence[Tensor | None], wanted: Sequence[bool]) -> list[Tensor | None]:
        """Gradients of a loss by :attr:`Parameters.tensors`; after :meth:`run_sums`.

        Args:
            adjoints: Gradients of the loss by the results, in the order of :class:`Results`; None is zero.
            wanted: Which gradients are asked for.
        """
        net, head, radial, program = self._net, self._head.fields, self._radial.fields, self.program
        directions = torch.empty(self.topology.edges, 3, dtype=torch.float64)
        self._hold(directions=directions)
        held = [None if adjoint is None else prepare_for_c(adjoint, torch.float64) for adjoint in adjoints]
        for name, adjoint in zip(Results._fields, held, strict=True):
            setattr(head, f"{name}_adjoint", None if adjoint is None else adjoint.data_ptr())
        weights = self.arguments.weights
        of_network = len(weights)
        before_head = of_network + len(self.arguments.parameters.radial.tensors)
        head.train_network = int(any(wanted[:before_head]))
        gradients: list[Tensor | None] = [None] * before_head
        if head.train_network:
            tables = [torch.empty_like(table) for table in self._radial.tables]
            network = [torch.empty_like(weight) for weight in weights]
            gradients = [*network, *self._radial.make_gradients(tables, wanted[of_network:before_head])]
            addresses = list_addresses(self._insert_tables(network, tables))
            net.gradients = ctypes.addressof(addresses)
            # As large as the radial tables of all chunks.
            size = program.weights.sums + self.topology.chunks * max(table.numel() for table in tables)
            self._hold(scratch=torch.empty(size, dtype=program.dtype))
        head_gradients, head_addresses = self._head.make_gradients(wanted[before_head:])
        program.library.potential_gradients(
            ctypes.byref(net), ctypes.byref(head), ctypes.byref(radial), ctypes.c_void_p(directions.data_ptr())
        )
        self._held.pop("scratch", None)
        del head_addresses, held  # C has read and written what these hold
        return gradients + head_gradients

"""The compiled network: its library, the edges and atoms in its order, and its passes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from operator import is_
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from nequip_like.errors import ModelError
from nequip_like.nn.native.addresses import allocate_together, get_address, list_addresses, prepare_for_c, view_array
from nequip_like.nn.native.compiler import compile_library
from nequip_like.nn.native.head import Head, HeadArguments, HeadCalculation, LastScalars, Results, Structures
from nequip_like.nn.native.layout import FeatureOffsets, Weights, assign_offsets, index_features
from nequip_like.nn.native.radial_tables import RadialArguments, RadialCalculation, RadialNetworks
from nequip_like.nn.native.sources.network_source import write_network
from nequip_like.nn.native.spec import TAPS, NetworkPlan
from nequip_like.nn.native.threads import count_threads

if TYPE_CHECKING:
    from nequip_like.nn.native.network import Topology

T = TypeVar("T")


#: Arrays of a topology, as ``Net`` of runtime.c begins with them.
TOPOLOGY = (
    *("row", "original", "neighbour", "sent_row", "sent", "sent_centre", "atom_order"),
    *("block_start", "block_stop", "block_type", "chunk_block", "type_start"),
)
_ADJOINTS = [f"{name}_adjoint" for name in Results._fields]
# Memory up to this serves the next step, too. Where there is more, the time to ask for it is nothing beside the rest.
_MOST_KEPT = 2**24  # bytes


class _Net(ctypes.Structure):
    """The structure ``Net`` of runtime.c, field by field: nothing but this order ties the two together."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("atoms", "edges", "blocks", "chunks", "threads", "keep")),
        ("topology", ctypes.c_void_p * len(TOPOLOGY)),
        *(
            (name, ctypes.c_void_p)
            for name in (
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
        self.num_radial = len(parameters.radial.tensors)
        self._addresses = list(map(Tensor.data_ptr, parameters.tensors))
        # A copy has the numbers of now; the basis is another tensor when it has other numbers.
        basis = len(self.weights)
        self._may_serve = all(
            own is given or i == basis for i, (own, given) in enumerate(zip(prepared, parameters.tensors, strict=True))
        )

    def serve(self, parameters: Parameters) -> bool:
        """Whether these are the same tensors at the same places, whatever their numbers are now."""
        tensors = parameters.tensors
        known = tensors is self.parameters.tensors or all(map(is_, tensors, self.parameters.tensors))
        same = self._may_serve and known
        return same and list(map(Tensor.data_ptr, tensors)) == self._addresses


class Calculation:
    """One calculation: what the passes leave for each other.

    Args:
        program: The compiled network.
        arguments: What the model has.
        constants: What it has beside parameters.
        topology: The edges.
        keep: Whether what training needs is kept.

    Attributes:
        is_small: Whether its memory is so little that it may be kept for the next step.
    """

    def __init__(
        self, program: Program, arguments: NetworkArguments, constants: Constants, topology: Topology, keep: bool
    ) -> None:
        self.program, self.arguments, self.keep = program, arguments, keep
        # C gets addresses only: what it uses is held here. Nothing is cleared: a pass sets what the next ones read.
        self.constants = constants
        self._held: dict[str, Any] = {"prepared": torch.empty(program.weights.prepared, dtype=program.dtype)}
        self._net = _Net(
            keep=int(keep),
            inverse_cutoff=constants.inverse_cutoff.data_ptr(),
            norm=constants.norm.data_ptr(),
            feature_offsets=program.offset_tables[keep].data_ptr(),
            prepared=self._held["prepared"].data_ptr(),
        )
        self._radial = RadialCalculation(arguments.radial, keep)
        self._held["weights"] = list_addresses(self._insert_tables(arguments.weights, self._radial.tables))
        self._net.parameters = ctypes.addressof(self._held["weights"])
        self._head = HeadCalculation(arguments.head)
        self._addresses: dict[str, int] = {}
        self._room = (-1, -1)  # atoms and edges that there is memory for
        self.take(topology)

    def take(self, topology: Topology) -> None:
        """Calculate for these atoms and edges from now on, in the same memory where that is large enough.

        What was made of the parameters is made anew.
        """
        atoms, edges = topology.atoms, topology.edges
        if atoms > self._room[0] or edges > self._room[1]:
            self._make_room(atoms, edges)
        net, self.topology, self._prepared = self._net, topology, False
        self.__dict__.pop("last_scalars", None)
        net.topology = topology.addresses
        net.edges, net.blocks, net.chunks = edges, topology.blocks, topology.chunks
        if net.atoms != atoms:
            net.atoms = atoms
            self._connect_head()

    def _make_room(self, atoms: int, edges: int) -> None:
        program, held = self.program, self._held
        for name in ("intervals", "memory", "doubles", "head"):
            held.pop(name, None)  # before there is more
        numbers = dict.fromkeys(("interval", "sent_interval"), edges)
        held["intervals"], intervals = allocate_together(numbers, torch.int32)
        held["memory"], self._addresses = allocate_together(
            program.measure_arrays(atoms, edges, self.keep), program.dtype
        )
        doubles = {**dict.fromkeys(("vectors", "gradient"), 3 * edges), "products": 9 * atoms}
        doubles["directions"] = 3 * edges if self.keep else 0
        held["doubles"], self._doubles = allocate_together(doubles, torch.float64)
        held["head"] = self._head.allocate(atoms, self.keep)
        for name in ("vectors", "directions"):
            setattr(self._net, name, self._doubles[name])
        for name, address in (intervals | self._addresses).items():
            setattr(self._net, name, address)
        self._net.atoms = -1  # the head is connected anew
        self._room = (atoms, edges)
        self.is_small = sum(held[name].nbytes for name in ("memory", "doubles", "head")) <= _MOST_KEPT

    def _insert_tables(self, weights: Sequence[T], tables: Sequence[T]) -> list[T]:
        """Weights and tables in the order of the layout."""
        merged = list(weights)
        for layer, table in zip(self.program.weights.layers, tables, strict=True):
            merged.insert(layer.table, table)
        return merged

    def reuse_prepared(self, calculation: Calculation) -> None:
        """Take over what another calculation with the same parameters, which is not used any more, made of them."""
        self._held["prepared"] = calculation._held["prepared"]
        self._net.prepared = calculation._net.prepared
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
        head.memory = self._held["head"].data_ptr()

    def run_energies(self, structures: Structures, derivatives: bool = True) -> Tensor:
        """Energies of the atoms; unless there are to be no derivatives, the pass back leaves :attr:`gradient`.

        Args:
            structures: Positions and cells, for the atoms and edges of the topology.
            derivatives: Whether there is a pass back.

        Returns:
            Energies (atoms,) in the caller's order, eV, float64 whatever the weights are.
        """
        net, head = self._net, self._head.fields
        energies = torch.empty(self.topology.atoms, dtype=torch.float64)
        net.gradient = self._doubles["gradient"] if derivatives else None
        inputs = (
            prepare_for_c(structures.positions, torch.float64),
            None if structures.translations is None else prepare_for_c(structures.translations, torch.float64),
            None if structures.cells is None else prepare_for_c(structures.cells, torch.float64),
            prepare_for_c(structures.graph_of_atom, torch.int64),
        )
        self._held["inputs"] = inputs
        head.positions, head.translations, head.cells, head.graph_of_atom = map(get_address, inputs)
        head.graphs, head.energies = structures.graphs, energies.data_ptr()
        net.threads = count_threads()
        radial = None if self._prepared else ctypes.byref(self._radial.fields)
        self.program.library.potential_energies(
            ctypes.byref(net), ctypes.byref(head), radial, ctypes.c_void_p(self._doubles["vectors"])
        )
        self._prepared = True
        return energies

    @property
    def gradient(self) -> Tensor:
        """Of the sum of the energies by the edge vectors (edges, 3), eV/Angstrom, float64, until the next calculation.

        float64 whatever the weights are: an atom's force is a sum over its edges whose terms nearly cancel.
        """
        return view_array(self._held["doubles"], self._doubles["gradient"], 3 * self.topology.edges).view(-1, 3)

    @cached_property
    def last_scalars(self) -> LastScalars:
        """The last layer's scalars, where :meth:`run_energies` leaves them."""
        memory, atoms, count = self._held["memory"], self.topology.atoms, len(self.program.plan.layers)
        before = self.program.get_offsets(self.keep).offsets[index_features(count, "f")] * atoms
        sizes = [atoms * width for width in self.program.last_widths]
        kinds = view_array(memory, self._addresses["features"] + before * memory.itemsize, sum(sizes)).split(sizes)
        return LastScalars([kind.view(atoms, -1) for kind in kinds], self.topology.order, self.topology.places)

    def run_sums(self, energies: Tensor) -> Results:
        """What energies of atoms and :attr:`gradient` are together; after :meth:`run_energies`.

        Args:
            energies: Shape (atoms,), float64.
        """
        head, held, graphs = self._head.fields, self._held, self._head.fields.graphs
        totals = torch.empty(graphs, dtype=torch.float64)
        forces = torch.empty(self.topology.atoms, 3, dtype=torch.float64)
        stress = torch.empty(graphs, 3, 3, dtype=torch.float64)
        virial = torch.empty(graphs, 3, 3, dtype=torch.float64)
        if "strain" not in held or len(held["strain"]) < graphs:
            held["strain"] = torch.empty(graphs, 9, dtype=torch.float64)
        outputs = (totals, forces, stress, virial, held["strain"])
        head.energies = energies.data_ptr()
        head.totals, head.forces, head.stress, head.virial, head.strain = map(Tensor.data_ptr, outputs)
        self.program.library.potential_sums(
            ctypes.byref(self._net), ctypes.byref(head), ctypes.c_void_p(self._doubles["products"])
        )
        return Results(energies, totals, forces, stress, virial)

    def run_gradients(self, adjoints: Sequence[Tensor | None], wanted: Sequence[bool]) -> list[Tensor | None]:
        """Gradients of a loss by :attr:`Parameters.tensors`; after :meth:`run_sums`.

        Args:
            adjoints: Gradients of the loss by the results, in the order of
                :class:`~nequip_like.nn.native.head.Results`; None is zero.
            wanted: Which gradients are asked for.
        """
        net, head, radial, program = self._net, self._head.fields, self._radial.fields, self.program
        held = [None if adjoint is None else prepare_for_c(adjoint, torch.float64) for adjoint in adjoints]
        for name, adjoint in zip(_ADJOINTS, held, strict=True):
            setattr(head, name, get_address(adjoint))
        weights = self.arguments.weights
        of_network = len(weights)
        before_head = of_network + self.arguments.num_radial
        head.train_network = int(any(wanted[:before_head]))
        gradients: list[Tensor | None] = [None] * before_head
        if head.train_network:
            network = [torch.empty_like(weight) for weight in weights]
            tables = self._radial.table_gradients
            gradients = [*network, *self._radial.make_gradients(wanted[of_network:before_head])]
            addresses = list_addresses(self._insert_tables(network, tables))
            net.gradients = ctypes.addressof(addresses)
            net.scratch = self._make_scratch().data_ptr()
        head_gradients, head_addresses = self._head.make_gradients(wanted[before_head:])
        program.library.potential_gradients(
            ctypes.byref(net), ctypes.byref(head), ctypes.byref(radial), ctypes.c_void_p(self._doubles["directions"])
        )
        del head_addresses, held  # C has read and written what these hold
        return gradients + head_gradients

    def _make_scratch(self) -> Tensor:
        # As large as the radial tables of all chunks.
        radial = self.arguments.radial
        size = self.program.weights.sums + self.topology.chunks * radial.rows * max(radial.columns)
        if "scratch" not in self._held or len(self._held["scratch"]) < size:
            self._held["scratch"] = torch.empty(size, dtype=self.program.dtype)
        scratch: Tensor = self._held["scratch"]
        return scratch

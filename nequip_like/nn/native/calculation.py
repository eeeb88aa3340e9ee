"""One calculation of the compiled network: the memory of its passes, and their calls."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from nequip_like.nn.native.addresses import allocate_together, get_address, list_addresses, prepare_for_c, view_array
from nequip_like.nn.native.gradient_places import GradientPlaces
from nequip_like.nn.native.head import HeadCalculation, LastScalars, Results, Structures
from nequip_like.nn.native.layout import index_features
from nequip_like.nn.native.program import Constants, NetworkArguments, Program
from nequip_like.nn.native.radial_tables import RadialCalculation
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
        self._places: tuple[tuple[bool, ...], GradientPlaces] | None = None  # that serve again, and for which gradients
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

    def run_gradients(
        self, adjoints: Sequence[Tensor | None], wanted: Sequence[bool], reuse: bool = False
    ) -> list[Tensor | None]:
        """Gradients of a loss by what C reads: network, radial functions, head; after :meth:`run_sums`.

        Args:
            adjoints: Gradients of the loss by the results, in the order of
                :class:`~nequip_like.nn.native.head.Results`; None is zero.
            wanted: Which gradients are asked for.
            reuse: Whether they may be the tensors of the last call that allowed it, if nobody holds them any more.
        """
        head = self._head.fields
        held = [None if adjoint is None else prepare_for_c(adjoint, torch.float64) for adjoint in adjoints]
        for name, adjoint in zip(_ADJOINTS, held, strict=True):
            setattr(head, name, get_address(adjoint))
        places = self._find_places(tuple(wanted), reuse)
        if head.train_network:
            self._net.scratch = self._make_scratch().data_ptr()
        self.program.library.potential_gradients(
            ctypes.byref(self._net),
            ctypes.byref(head),
            ctypes.byref(self._radial.fields),
            ctypes.c_void_p(self._doubles["directions"]),
        )
        del held  # C has read what it holds
        return places.tensors

    def _find_places(self, wanted: tuple[bool, ...], reuse: bool) -> GradientPlaces:
        """Where C writes gradients from now on."""
        last_wanted, places = self._places or (None, None)
        if not reuse or places is None or last_wanted != wanted or not places.are_free():
            of_network = len(self.arguments.weights)
            before_head = of_network + self.arguments.num_radial
            trains = any(wanted[:before_head])
            # C makes those of the network all at once.
            places = GradientPlaces(self.arguments.tensors, (*([trains] * of_network), *wanted[of_network:]))
            self._head.fields.train_network = int(trains)
            if trains:
                network, tables = places.tensors[:of_network], self._radial.table_gradients
                self._radial.write_gradients_to(places.tensors[of_network:before_head])
                self._held["gradients"] = list_addresses(self._insert_tables(network, tables))
                self._net.gradients = ctypes.addressof(self._held["gradients"])
            self._head.write_gradients_to(places.tensors[before_head:])
        self._places = (wanted, places) if reuse else None
        return places

    def _make_scratch(self) -> Tensor:
        # As large as the radial tables of all chunks.
        radial = self.arguments.radial
        size = self.program.weights.sums + self.topology.chunks * radial.rows * max(radial.columns)
        if "scratch" not in self._held or len(self._held["scratch"]) < size:
            self._held["scratch"] = torch.empty(size, dtype=self.program.dtype)
        scratch: Tensor = self._held["scratch"]
        return scratch

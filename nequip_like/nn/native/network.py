"""The compiled potential as a function of positions and parameters that a loss of energies and forces can train."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nequip_like.errors import ModelError
from nequip_like.nn.native.addresses import allocate_together, prepare_for_c, view_array
from nequip_like.nn.native.calculation import TOPOLOGY, Calculation
from nequip_like.nn.native.differentiation import Call, DifferentiatedNetwork, Extra
from nequip_like.nn.native.head import Results, Structures
from nequip_like.nn.native.program import NetworkArguments, Parameters, Program
from nequip_like.nn.native.spec import NetworkPlan

# A chunk of atoms has its own gradients of the radial tables: more chunks serve more threads, and take more memory.
# Their number depends on the edges, never on the threads, so that sums are the same whatever the number of threads.
_MOST_CHUNKS = 64
_EDGES_OF_CHUNK = 1024


class NativeNetwork:
    """Energies, forces and strain derivatives by compiled code.

    The code is made when first needed. Copies and pickles hold the plan only.

    Args:
        plan: The network.
    """

    def __init__(self, plan: NetworkPlan) -> None:
        self.plan = plan
        self._program: Program | None = None
        self._edges = _SortedEdges()
        self._calculation: _CachedCalculation | None = None
        self._arguments: NetworkArguments | None = None
        self._spare: list[Calculation] = []  # of a training step that is over, one at most

    def __getstate__(self) -> dict[str, Any]:
        # Addresses mean nothing to another process, and its processor may need other code.
        remembered = dict.fromkeys(("_program", "_calculation", "_arguments"))
        return {"plan": self.plan, "_edges": _SortedEdges(), "_spare": [], **remembered}

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
        structures: Structures,
        parameters: Parameters,
        extra: Extra | None,
    ) -> Results:
        """Energies and what their derivatives are together, that a loss can be differentiated through, once.

        Args:
            structures: Atoms and edges.
            parameters: Those of the network and of its head.
            extra: Energies and gradients of something else, which has no parameters to train.
        """
        topology = self._sort_edges(structures)
        call = Call(self._begin_step(parameters, topology), structures, extra, self._spare)
        return Results(*DifferentiatedNetwork.apply(call, *parameters.tensors))

    def _begin_step(self, parameters: Parameters, topology: Topology) -> Calculation:
        """A calculation of a training step: that of an earlier one whose graph is gone, or a new one."""
        arguments, constants = self._take(parameters), parameters.constants
        try:
            calculation = self._spare.pop()
        except IndexError:  # the first step, or graphs of others are alive
            calculation = None
        if calculation is None or calculation.arguments is not arguments or calculation.constants is not constants:
            return Calculation(self.program, arguments, constants, topology, keep=True)
        calculation.take(topology)
        return calculation

    def predict(
        self,
        structures: Structures,
        make_parameters: Callable[[], Parameters],
        origins: Sequence[Tensor] | None,
        extra: Extra | None,
    ) -> tuple[Results, Calculation]:
        """The same, and no graph is left.

        Args:
            structures: Atoms and edges.
            make_parameters: Makes the parameters.
            origins: All that these are made of, if they need not be made anew while these tensors are unchanged; None
                makes them each time.
            extra: Energies and gradients of something else.

        Returns:
            The results, and what has made them: it holds features until the next call.
        """
        topology = self._sort_edges(structures)
        calculation = self._reuse_calculation(topology, make_parameters, origins)
        return Call(calculation, structures, extra).run(), calculation

    def predict_energies(
        self,
        structures: Structures,
        make_parameters: Callable[[], Parameters],
        origins: Sequence[Tensor] | None,
    ) -> tuple[Tensor, Calculation]:
        """Energies of the atoms (atoms,), without a pass back; otherwise as :meth:`predict`."""
        calculation = self._reuse_calculation(self._sort_edges(structures), make_parameters, origins)
        return calculation.run_energies(structures, derivatives=False), calculation

    def estimate_bytes(self, parameters: Parameters, atoms: int, edges: int, keep: bool) -> int:
        """Memory that a calculation takes at its peak, by the sizes of its arrays, without gradients of weights, bytes.

        Args:
            parameters: Those of the network and of its head.
            atoms: Number of atoms.
            edges: Number of edges.
            keep: With the gradients of a loss.
        """
        program, arguments = self.program, self._take(parameters)
        rows, columns = arguments.radial.rows, arguments.radial.columns
        numbers = sum(program.measure_arrays(atoms, edges, keep).values()) + atoms * arguments.head.measure_atom(keep)
        numbers += program.weights.prepared + arguments.head.prepared + rows * sum(columns)
        # float64: radial networks, edge vectors and their gradient; energies, forces and products of atoms.
        doubles = arguments.radial.memory + 6 * edges + 13 * atoms
        if keep:
            numbers += program.weights.sums + count_chunks(edges) * rows * max(columns)
            numbers += rows * sum(columns) + arguments.radial.kept
            doubles += 3 * edges
        # The topology of the batch before is there until that of this one has been made.
        integers = 2 * (4 * edges + 6 * atoms) + 2 * edges
        return numbers * program.dtype.itemsize + 8 * doubles + 4 * integers

    def _take(self, parameters: Parameters) -> NetworkArguments:
        """Parameters as C takes them; those of the last step serve while the tensors are the same."""
        if self._arguments is None or not self._arguments.serve(parameters):
            self._arguments = NetworkArguments(self.program, parameters)
        return self._arguments

    def _sort_edges(self, structures: Structures) -> Topology:
        """The edges in the program's order; the last ones are remembered while the same tensors come."""
        with self._edges.lock:
            cached = self._edges.last
            if cached is None or not cached.matches(structures):
                cached = self._edges.last = _CachedTopology(self.program, structures)
            return cached.topology

    def share_edges(self, other: NativeNetwork) -> None:
        """Sort edges once for both, where another network has the same plan, as members of a committee have."""
        if self._edges is not other._edges and self.plan == other.plan:
            self._edges = other._edges

    def _reuse_calculation(
        self,
        topology: Topology,
        make_parameters: Callable[[], Parameters],
        origins: Sequence[Tensor] | None,
    ) -> Calculation:
        """The last calculation, or as much of it as still holds: molecular dynamics asks for step after step."""
        key = None if origins is None else _identify(origins)
        cached = self._calculation
        if key is None or cached is None or cached.key != key:
            with torch.no_grad():
                parameters = make_parameters()
            calculation = Calculation(self.program, self._take(parameters), parameters.constants, topology, keep=False)
        elif cached.calculation.topology is not topology:
            # Only the neighbour list is new: the parameters, scaled and transposed, serve again.
            last = cached.calculation
            calculation = Calculation(self.program, last.arguments, last.constants, topology, keep=False)
            calculation.reuse_prepared(last)
        else:
            calculation = cached.calculation
        self._calculation = _CachedCalculation(key, calculation) if key is not None else None
        return calculation


def count_chunks(edges: int) -> int:
    """Number of chunks that atoms with so many edges are cut into."""
    return max(1, min(_MOST_CHUNKS, edges // _EDGES_OF_CHUNK))


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
        self.atoms, self.edges = atom_types.shape[0], edge_index.shape[1]
        if self.edges >= 2**31:
            raise ModelError(
                f"{self.edges} edges are too many", "predict fewer atoms at a time, or write model.kernel=batched"
            )
        types = program.plan.types
        self.chunks = count_chunks(self.edges)
        # Each species and each chunk may end in the middle of a block.
        most_blocks = self.atoms // program.block + types + self.chunks
        # In the order of the C function's arguments. C gets addresses only: the memory lives as long as the topology.
        atoms, edges = self.atoms, self.edges
        sizes = {
            **{"atom_order": atoms, "new_of_old": atoms, "type_start": types + 1, "row": atoms + 1, "original": edges},
            **{"neighbour": edges, "sent_row": atoms + 1, "sent": edges, "sent_centre": edges},
            **{"block_start": most_blocks, "block_stop": most_blocks, "block_type": most_blocks},
            "chunk_block": self.chunks + 1,
        }
        self._memory, self.pointers = allocate_together(sizes, torch.int32)
        *arrays, chunk_block = self.pointers.values()
        # The C code takes addresses, so types have to be right here.
        atom_types, edge_index = prepare_for_c(atom_types, torch.int64), prepare_for_c(edge_index, torch.int64)
        centre = edge_index.data_ptr()
        pairs = (centre, centre + edges * edge_index.itemsize)
        self.blocks = program.library.topology(
            atoms, edges, atom_types.data_ptr(), *pairs, *arrays, self.chunks, chunk_block
        )
        if self.blocks < 0:
            raise ModelError("an edge or a species is out of range", "build the neighbour list for these atoms")
        #: Those that all passes need, for C.
        self.addresses = (ctypes.c_void_p * len(TOPOLOGY))(*[self.pointers[name] for name in TOPOLOGY])

    @cached_property
    def places(self) -> Tensor:
        """Where each atom is in the program's order, shape (atoms,)."""
        return self._read_array("new_of_old")

    @cached_property
    def order(self) -> np.ndarray:
        """The atoms in the program's order, shape (atoms,)."""
        order: np.ndarray = self._read_array("atom_order").numpy()
        return order

    def _read_array(self, name: str) -> Tensor:
        return view_array(self._memory, self.pointers[name], self.atoms)


_Key = tuple[list[int], list[int]]
_get_version = attrgetter("_version")


def _identify(tensors: Sequence[Tensor]) -> _Key:
    """Which tensors these are, and how often they were changed."""
    return list(map(Tensor.data_ptr, tensors)), list(map(_get_version, tensors))


class _CachedCalculation(NamedTuple):
    """A calculation whose memory and prepared parameters serve the next one."""

    key: _Key
    calculation: Calculation


class _CachedTopology:
    """A topology and the tensors that it was made of."""

    def __init__(self, program: Program, structures: Structures) -> None:
        # They are held: the address of a tensor that is gone could become that of another one.
        self._tensors = (structures.atom_types, structures.edge_index)
        self._versions = (structures.atom_types._version, structures.edge_index._version)
        self.topology = Topology(program, structures.atom_types, structures.edge_index)

    def matches(self, structures: Structures) -> bool:
        """Whether the edges' tensors are these, unchanged."""
        identical = self._tensors[0] is structures.atom_types and self._tensors[1] is structures.edge_index
        return identical and self._versions == (structures.atom_types._version, structures.edge_index._version)


class _SortedEdges:
    """The last list of edges that was sorted; networks that share it may run on threads side by side."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.last: _CachedTopology | None = None

    def __reduce__(self) -> tuple[type[_SortedEdges], tuple[()]]:
        """A copy, in another process as well, sorts its own."""
        return _SortedEdges, ()

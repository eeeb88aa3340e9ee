"""The head of a network from Python: what its C code (``head.c``) needs of the readout, its scales and its memory."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nequip_like.nn.mlp import Perceptron
from nequip_like.nn.native.addresses import get_address, list_addresses, prepare_for_c
from nequip_like.nn.native.spec import ACTIVATIONS


@dataclass(frozen=True)
class Head:
    """Energies of atoms from the last features: ``shifts[t] + scales[t] * readout(features)``.

    Attributes:
        readout: A perceptron with one output.
        scales: Scale of each species, shape (types,), float64.
        shifts: Energy of the isolated atom of each species, shape (types,), eV, float64.
    """

    readout: Perceptron
    scales: Tensor
    shifts: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        """Weights of the readout, scales, shifts."""
        return [*self.readout.weights, self.scales, self.shifts]


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


class CHead(ctypes.Structure):
    """The structure ``Head`` of head.c, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("depth", "activation", "graphs", "kinds", "train_network")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("widths", "kind_widths", "factors", "weights", "gradients", "scales", "shifts"),
                *("scales_gradient", "shifts_gradient", "features", "tangents", "adjoints", "second_adjoints"),
                *("prepared", "memory", "graph_of_atom", "positions", "translations", "cells"),
                *("energies", "totals", "forces", "stress", "virial", "strain"),
                *("energies_adjoint", "totals_adjoint", "forces_adjoint", "stress_adjoint", "virial_adjoint"),
            )
        ),
    ]


class HeadArguments:
    """The head as C takes it, whatever is calculated.

    Args:
        library: The compiled network.
        head: The head.
        dtype: Element type of the network.
        kind_widths: Channels of each kind of the last features.

    Attributes:
        library: The compiled network.
        dtype: Element type.
        weights: Weights of the readout.
        scales: Scales and shifts.
        prepared: Numbers that C makes of the weights.
        fields: The structure of C, without what belongs to one calculation.
    """

    def __init__(self, library: ctypes.CDLL, head: Head, dtype: torch.dtype, kind_widths: Sequence[int]) -> None:
        self.library, self.dtype = library, dtype
        # The C code gets addresses: these lists hold the tensors.
        self.weights = [prepare_for_c(weight, dtype) for weight in head.readout.weights]
        self.scales = [prepare_for_c(table, torch.float64) for table in (head.scales, head.shifts)]
        self._widths = torch.tensor([weight.shape[0] for weight in self.weights])
        self._kind_widths = torch.tensor(kind_widths)
        self._factors = torch.tensor(head.readout.factors, dtype=torch.float64)
        self._addresses = list_addresses(self.weights)
        self.fields = CHead(
            depth=len(self.weights) - 1,
            activation=ACTIVATIONS.index(head.readout.activation),
            kinds=len(kind_widths),
            widths=self._widths.data_ptr(),
            kind_widths=self._kind_widths.data_ptr(),
            factors=self._factors.data_ptr(),
            weights=ctypes.addressof(self._addresses),
            scales=self.scales[0].data_ptr(),
            shifts=self.scales[1].data_ptr(),
        )
        self.prepared: int = library.head_prepared(ctypes.byref(self.fields))

    def measure_atom(self, keep: bool) -> int:
        """Numbers of one atom that the passes need; with ``keep`` also for the gradients of a loss."""
        return int(self.library.head_memory(ctypes.byref(self.fields), ctypes.c_int64(int(keep))))


class LastScalars:
    """Scalars of the last layer, which the head makes energies of: until the next calculation.

    Args:
        kinds: Those of each kind, shape (atoms, channels), in the program's order of atoms.
        order: The atoms in this order, shape (atoms,).
        places: Where each atom is in this order, shape (atoms,).
    """

    def __init__(self, kinds: Sequence[Tensor], order: np.ndarray, places: Tensor) -> None:
        self._kinds, self._order, self._places = kinds, order, places
        self._arrays: list[np.ndarray] = [kind.numpy() for kind in kinds]

    def sort(self) -> Tensor:
        """All scalars, shape (atoms, channels), in the caller's order of atoms."""
        return torch.cat(list(self._kinds), 1)[self._places]

    def sum(self, factors: np.ndarray) -> np.ndarray:
        """Sum over all atoms with a factor for each, shape (channels,).

        Args:
            factors: Shape (atoms,), in the caller's order.
        """
        ordered = factors[self._order]
        return np.concatenate([ordered @ array for array in self._arrays])


class HeadCalculation:
    """The head of one calculation: what its passes leave for each other.

    Args:
        arguments: The head.
    """

    def __init__(self, arguments: HeadArguments) -> None:
        self._arguments = arguments
        self.fields = CHead.from_buffer_copy(arguments.fields)
        self._prepared = torch.empty(arguments.prepared, dtype=arguments.dtype)
        self.fields.prepared = self._prepared.data_ptr()

    def allocate(self, atoms: int, keep: bool) -> Tensor:
        """Memory of the passes for a number of atoms; with ``keep`` also for the gradients of a loss."""
        return torch.empty(atoms * self._arguments.measure_atom(keep), dtype=self._arguments.dtype)

    def write_gradients_to(self, places: Sequence[Tensor | None]) -> None:
        """Let C write the gradients of :attr:`Head.tensors` there.

        Args:
            places: Of their shapes; None for those that are not asked for. The caller holds them.
        """
        *weights, scales, shifts = places
        self._gradient_addresses = list_addresses(weights)
        self.fields.gradients = ctypes.addressof(self._gradient_addresses)
        self.fields.scales_gradient, self.fields.shifts_gradient = get_address(scales), get_address(shifts)

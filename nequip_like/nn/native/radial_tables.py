"""Radial networks from Python: what their C code (``radial*.c``) needs for tables of splines, and for gradients."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from nequip_like.nn.mlp import Perceptron
from nequip_like.nn.native.addresses import get_address, list_addresses, prepare_for_c
from nequip_like.nn.native.spec import ACTIVATIONS
from nequip_like.nn.radial_table import FILTER


class RadialNetworks(NamedTuple):
    """Networks of the scaled distance, one for each layer.

    Attributes:
        basis: Their input at the places of the splines, shape (places, inputs), float64.
        networks: The networks.
    """

    basis: Tensor
    networks: Sequence[Perceptron]

    @property
    def tensors(self) -> list[Tensor]:
        """The basis, and the weights of all networks."""
        return [self.basis, *(weight for network in self.networks for weight in network.weights)]


class _CRadial(ctypes.Structure):
    """The structure ``Radial`` of radial_layout.c, field by field."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("networks", "places", "rows", "first_row", "last_row")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("matrices", "activations", "widths", "factors", "weights", "gradients", "tables", "table_gradients"),
                *("filter", "basis", "kept_basis", "basis_gradient", "memory", "kept"),
            )
        ),
    ]


class RadialArguments:
    """The networks as C takes them, whatever is calculated.

    Args:
        library: The compiled network.
        radial: The networks.
        rows: Rows of a table.
        dtype: Element type of weights and tables.

    Attributes:
        weights: Weights of all networks.
        inputs: Width of the basis.
        basis: The basis in padded rows.
        rows: Rows of a table.
        columns: Columns of each table.
        dtype: Element type.
        memory: Numbers of float64 that the tables need.
        kept: Numbers of the element type that their gradients need.
        fields: The structure of C, without what belongs to one calculation.
    """

    def __init__(self, library: ctypes.CDLL, radial: RadialNetworks, rows: int, dtype: torch.dtype) -> None:
        places, self.inputs = radial.basis.shape
        self.rows, self.dtype = rows, dtype
        # C gets addresses: what they belong to is held here.
        self.basis = prepare_for_c(radial.basis, torch.float64)
        padded = library.padded_width(ctypes.c_int64(self.inputs))
        if padded > self.inputs:
            self.basis = torch.nn.functional.pad(self.basis.detach(), (0, padded - self.inputs))
        self._kept_basis = self.basis.detach().to(dtype)
        self.weights = [prepare_for_c(weight, dtype) for weight in radial.tensors[1:]]
        self.columns = [network.weights[-1].shape[1] for network in radial.networks]
        sizes = [[network.weights[0].shape[0], *(weight.shape[1] for weight in network.weights)]
                 for network in radial.networks]  # fmt: skip
        self._numbers = torch.tensor(
            [
                *(len(network.weights) for network in radial.networks),
                *(ACTIVATIONS.index(network.activation) for network in radial.networks),
                *(width for widths in sizes for width in widths),
            ]
        )
        factors = [factor for network in radial.networks for factor in network.factors]
        self._factors = torch.tensor([*FILTER, *factors], dtype=torch.float64)
        self._addresses = list_addresses(self.weights)
        count, numbers = len(radial.networks), self._numbers.data_ptr()
        self.fields = _CRadial(
            networks=count,
            places=places,
            rows=rows,
            matrices=numbers,
            activations=numbers + 8 * count,
            widths=numbers + 16 * count,
            filter=self._factors.data_ptr(),
            factors=self._factors.data_ptr() + 8 * len(FILTER),
            basis=self.basis.data_ptr(),
            kept_basis=self._kept_basis.data_ptr(),
            weights=ctypes.addressof(self._addresses),
        )
        self.memory, self.kept = (
            int(library.radial_memory(ctypes.byref(self.fields), ctypes.c_int64(is_back))) for is_back in (0, 1)
        )


class RadialCalculation:
    """The tables of one calculation, and what their gradients need.

    Args:
        arguments: The networks.
        keep: Whether gradients will be asked for.

    Attributes:
        tables: One for each network, shape (rows, outputs); C writes them.
    """

    def __init__(self, arguments: RadialArguments, keep: bool) -> None:
        self._arguments = arguments
        self.tables = [torch.empty(arguments.rows, columns, dtype=arguments.dtype) for columns in arguments.columns]
        self._memory = torch.empty(arguments.memory, dtype=torch.float64)
        self._addresses = {"tables": list_addresses(self.tables)}
        self.fields = _CRadial.from_buffer_copy(arguments.fields)
        self.fields.tables = ctypes.addressof(self._addresses["tables"])
        self.fields.memory = self._memory.data_ptr()
        self._kept = torch.empty(arguments.kept if keep else 0, dtype=arguments.dtype)
        self.fields.kept = self._kept.data_ptr() if keep else None

    @cached_property
    def table_gradients(self) -> list[Tensor]:
        """Places for the gradients of the tables, the same ones for C each time."""
        places = [torch.empty_like(table) for table in self.tables]
        self._addresses["table_gradients"] = list_addresses(places)
        self.fields.table_gradients = ctypes.addressof(self._addresses["table_gradients"])
        return places

    def write_gradients_to(self, places: Sequence[Tensor | None]) -> None:
        """Let C write the gradients of :attr:`RadialNetworks.tensors` there, made from :attr:`table_gradients`.

        Args:
            places: Of their shapes; None for those that are not asked for. The caller holds them.
        """
        basis, *weights = places
        self._addresses["gradients"] = list_addresses(weights)
        self.fields.gradients = ctypes.addressof(self._addresses["gradients"])
        self.fields.basis_gradient = get_address(basis)

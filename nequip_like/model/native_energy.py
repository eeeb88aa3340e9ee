"""The NequIP family's energies by compiled code: which parameters it takes, and whether it can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.errors import ModelError, OutputError
from nequip_like.model.potential import Differentiated
from nequip_like.nn.native.compiler import find_compiler
from nequip_like.nn.native.network import NativeNetwork
from nequip_like.nn.native.program import Constants
from nequip_like.nn.native.spec import NetworkPlan, layer_plan
from nequip_like.nn.radial_table import SplineTable, radial_tables
from nequip_like.process_settings import warn_once

if TYPE_CHECKING:
    from nequip_like.model.nequip import NequIPEnergy

# Intervals of the radial table for each Bessel function. The error is about 2e-9 of the largest weight with 24, and
# 1e-14 with 192: below the rounding of the element type in use.
_INTERVALS = {torch.float32: 24, torch.float64: 192}


class CompiledEnergy:
    """Compiled code beside an energy model; it holds no parameters.

    Args:
        model: The model.
        kernel: "auto" (used where it can be) or "fused" (must be used).
    """

    def __init__(self, model: NequIPEnergy, kernel: str) -> None:
        self.required = kernel == "fused"
        #: Predictions may keep what they made of the parameters while these are the same tensors, unchanged.
        self.hold_parameters = False
        self._holders: list[dict[str, Any]] = []
        self._failure: str | None = None
        self.dtype = model.dtype
        self.table = SplineTable(_INTERVALS[model.dtype] * model.radial.frequencies.numel())
        self.network = NativeNetwork(
            NetworkPlan(
                layers=tuple(layer_plan(layer) for layer in model.interactions),
                types=len(model.type_embedding),
                embedding=model.type_embedding.shape[1],
                l_max=model.harmonics.l_max,
                knots=self.table.intervals,
                double=model.dtype == torch.float64,
            )
        )

    def __getstate__(self) -> dict[str, Any]:
        """A copy belongs to another model, and perhaps to a machine where the code can be had."""
        return {**self.__dict__, "_holders": [], "_failure": None}

    def serves(self, device: torch.device) -> bool:
        """Whether it is used for tensors on a device.

        Raises:
            ModelError: If it is required and cannot be had.
        """
        if device.type != "cpu":
            if self.required:
                raise ModelError("model.kernel is fused, which runs on CPUs only", "write model.kernel=auto")
            return False
        return self.required or self.network.ready or self._could_be_made()

    def _could_be_made(self) -> bool:
        """Compile, if not tried yet; what goes wrong is told once, and torch does it then."""
        if self._failure is None and find_compiler() is not None:
            try:
                return self.network.program is not None
            except (ModelError, OutputError) as error:
                self._failure = error.message
                warn_once(f"model.kernel is batched, which is slower: {error.message}")
        return False

    def describe(self, device: torch.device) -> str:
        """What is used on a device, and why, in words."""
        chosen = "" if self.required else "auto: "
        if device.type != "cpu":
            return f"{chosen}batched, torch operations (compiled C code runs on CPUs only)"
        if not self.serves(device):
            reason = self._failure or "a C compiler, gcc or $CC, would make it several times as fast"
            return f"{chosen}batched, torch operations ({reason})"
        threads = "" if self.network.program.parallel else ", one thread: the compiler has no OpenMP"
        return f"{chosen}fused, C code compiled for this model and processor{threads}"

    def __call__(self, model: NequIPEnergy, graph: Graph, vectors: Tensor) -> Differentiated:
        """Energies and their sum's gradient; in training mode with a graph to the parameters."""
        types = graph[fields.ATOM_TYPES]
        topology = self.network.topology(types, graph[fields.EDGE_INDEX])
        constants = Constants(model.inverse_cutoffs, model.sender_norm, self.network.plan.types)
        common: tuple[Any, ...] = (constants, topology, types, vectors)
        if model.training:
            head = [*model.readout.parameters(), *model.scale_shift.parameters()]
            trained = [parameter for parameter in head if parameter.requires_grad]
            return Differentiated(*self.network.trained(model.head, trained, self._parameters(model), *common))

        def make() -> list[Tensor]:
            with torch.no_grad():
                return self._parameters(model)

        same = self._tensors(model) if self.hold_parameters else None
        return Differentiated(*self.network.predicted(model.head, make, same, *common))

    def _tensors(self, model: NequIPEnergy) -> list[Tensor]:
        """Parameters and buffers; by the modules' own dictionaries, since ``model.parameters()`` takes 0.1 ms."""
        if not self._holders:
            holders = [each for module in model.modules() for each in (module._parameters, module._buffers)]
            self._holders = [holder for holder in holders if holder]
        return [tensor for holder in self._holders for tensor in holder.values() if tensor is not None]

    def _parameters(self, model: NequIPEnergy) -> list[Tensor]:
        """In the order of :class:`~nequip_like.nn.native.layout.Weights`."""
        basis = model.radial.continued(self.table.places)
        tables = radial_tables(self.table, basis, self.dtype, [layer.radial_mlp for layer in model.interactions])
        parameters: list[Tensor] = [model.type_embedding]
        for layer, table in zip(model.interactions, tables, strict=True):
            own = () if layer.self_connection is None else layer.self_connection.weights
            parameters += [*layer.linear_in.weights, *layer.linear_out.weights, *own, table]
        return parameters

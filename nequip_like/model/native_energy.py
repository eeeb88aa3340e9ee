"""The compiled network beside an energy model: whether it is used, and its energies and derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nequip_like.errors import ModelError, OutputError
from nequip_like.model.potential import Differentiated
from nequip_like.nn.mlp import Perceptron
from nequip_like.nn.module_content import ModuleContent
from nequip_like.nn.native.calculation import Calculation
from nequip_like.nn.native.compiler import find_compiler
from nequip_like.nn.native.differentiation import Extra
from nequip_like.nn.native.head import Head, Structures
from nequip_like.nn.native.network import NativeNetwork
from nequip_like.nn.native.program import Constants, Parameters
from nequip_like.nn.native.radial_tables import RadialNetworks
from nequip_like.nn.native.spec import NetworkPlan
from nequip_like.process_settings import warn_once


class CollectedWeights(NamedTuple):
    """Weights of a model as compiled code takes them.

    Attributes:
        network: Embedding and weights of the layers, see :class:`~nequip_like.nn.native.program.Parameters`.
        radial: The radial networks.
        head: Readout, scales and shifts.
    """

    network: Sequence[Tensor]
    radial: Sequence[Perceptron]
    head: Head

    @property
    def tensors(self) -> list[Tensor]:
        """All of them."""
        return [*self.network, *(weight for network in self.radial for weight in network.weights), *self.head.tensors]


class NativeBackend:
    """Compiled code beside an energy model, which hands over its plan once and tensors at each call.

    Args:
        kernel: "auto" (used where it can be) or "fused" (must be used).
        plan: Sizes and paths of the network.
    """

    def __init__(self, kernel: str, plan: NetworkPlan) -> None:
        self.required = kernel == "fused"
        #: Predictions may keep what they made of the parameters while these are the same tensors, unchanged.
        self.caches_parameters = False
        self._content: ModuleContent | None = None
        self._collected: CollectedWeights | None = None
        self._joined: tuple[CollectedWeights, Tensor, tuple[int, ...], Parameters] | None = None
        self._failure: str | None = None
        self.network = NativeNetwork(plan)

    def __getstate__(self) -> dict[str, Any]:
        """A copy belongs to another model, and perhaps to a machine with a compiler where this one has none."""
        return {**self.__dict__, **dict.fromkeys(("_content", "_collected", "_joined", "_failure"))}

    def supports(self, device: torch.device) -> bool:
        """Whether it is used for tensors on a device.

        Raises:
            ModelError: If it is required and not available.
        """
        if device.type != "cpu":
            if self.required:
                raise ModelError("model.kernel is fused, which runs on CPUs only", "write model.kernel=auto")
            return False
        return self.required or self.network.ready or self._try_compile()

    def _try_compile(self) -> bool:
        """Compile, if not tried yet; a failure is warned of once, and torch does the work then."""
        if self._failure is None and find_compiler() is not None:
            try:
                return self.network.program is not None
            except (ModelError, OutputError) as error:
                self._failure = error.message
                warn_once(f"model.kernel is batched, which is slower: {error.message}")
        return False

    def describe(self, device: torch.device) -> str:
        """What is used on a device, and why, in words."""
        prefix = "" if self.required else "auto: "
        if device.type != "cpu":
            return f"{prefix}batched, torch operations (compiled C code runs on CPUs only)"
        if not self.supports(device):
            reason = self._failure or "a C compiler, gcc or $CC, would make it several times as fast"
            return f"{prefix}batched, torch operations ({reason})"
        threads = "" if self.network.program.parallel else ", one thread: the compiler has no OpenMP"
        return f"{prefix}fused, C code compiled for this model and processor{threads}"

    def predict_with_graph(self, structures: Structures, parameters: Parameters, extra: Extra | None) -> Differentiated:
        """Energies and derivatives, with a graph to the parameters.

        Args:
            structures: Atoms and edges.
            parameters: Those of the network and of its head.
            extra: What is added.
        """
        return Differentiated(*self.network.predict_with_graph(structures, parameters, extra))

    def predict(
        self,
        structures: Structures,
        make_parameters: Callable[[], Parameters],
        module: nn.Module,
        extra: Extra | None,
    ) -> tuple[Differentiated, Calculation]:
        """The same without a graph, and what has made it: it holds features until the next call.

        Args:
            structures: Atoms and edges.
            make_parameters: Makes the parameters; not asked where earlier ones still hold.
            module: The module that holds what these are made of.
            extra: What is added.
        """
        results, calculation = self.network.predict(structures, make_parameters, self._list_origins(module), extra)
        return Differentiated(*results), calculation

    def predict_energies(
        self, structures: Structures, make_parameters: Callable[[], Parameters], module: nn.Module
    ) -> tuple[Tensor, Calculation]:
        """Energies of the atoms (atoms,) without any pass back, and what has made them.

        Args:
            structures: Atoms and edges.
            make_parameters: As for :meth:`predict`.
            module: As for :meth:`predict`.
        """
        return self.network.predict_energies(structures, make_parameters, self._list_origins(module))

    def _list_origins(self, module: nn.Module) -> list[Tensor] | None:
        """What parameters are made of, where they may serve again."""
        if not self.caches_parameters:
            return None
        content = self._look_at(module)
        return [*content.parameters, *content.buffers]

    def collect(self, module: nn.Module, make: Callable[[], CollectedWeights]) -> CollectedWeights:
        """Collect weights of a module, or find those of the last time where it still consists of the same tensors.

        Args:
            module: The module.
            make: Collects them.
        """
        content = self._look_at(module)
        if self._collected is not None:
            return self._collected
        weights = make()
        # A sum, of a weight and its adaptation say, has the numbers of now.
        own = set(map(id, (*content.parameters, *content.buffers)))
        if all(id(tensor) in own for tensor in weights.tensors):
            self._collected = weights
        return weights

    def join(self, weights: CollectedWeights, basis: Tensor, inverse_cutoffs: Tensor, norm: Tensor) -> Parameters:
        """Join all that compiled code needs of a module; the object of the last time where nothing of it is another.

        Args:
            weights: What :meth:`collect` gave.
            basis: Radial basis, see :class:`~nequip_like.nn.native.radial_tables.RadialNetworks`.
            inverse_cutoffs: A buffer of the module, see :class:`~nequip_like.nn.native.program.Constants`.
            norm: As well.
        """
        # Weights that are the same object are those of a module whose buffers are the same, too.
        versions = inverse_cutoffs.data_ptr(), inverse_cutoffs._version, norm.data_ptr(), norm._version
        last = self._joined
        if last is None or last[0] is not weights or last[1] is not basis or last[2] != versions:
            constants = Constants(inverse_cutoffs, norm, len(inverse_cutoffs))
            radial = RadialNetworks(basis, weights.radial)
            last = weights, basis, versions, Parameters(weights.network, radial, weights.head, constants)
            self._joined = last if weights is self._collected else None
        return last[3]

    def _look_at(self, module: nn.Module) -> ModuleContent:
        if self._content is None or not self._content.is_of(module):
            self._content, self._collected, self._joined = ModuleContent(module), None, None
        return self._content

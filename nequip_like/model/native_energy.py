"""The compiled network beside an energy model: whether it is used, and its energies and derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nequip_like.errors import ModelError, OutputError
from nequip_like.model.potential import Differentiated
from nequip_like.nn.native.compiler import find_compiler
from nequip_like.nn.native.network import Extra, NativeNetwork
from nequip_like.nn.native.program import Parameters, Structures
from nequip_like.nn.native.spec import NetworkPlan
from nequip_like.process_settings import warn_once


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
        self._tensor_holders: list[dict[str, Any]] = []
        self._failure: str | None = None
        self.network = NativeNetwork(plan)

    def __getstate__(self) -> dict[str, Any]:
        """A copy belongs to another model, and perhaps to a machine with a compiler where this one has none."""
        return {**self.__dict__, "_tensor_holders": [], "_failure": None}

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
        modules: Callable[[], Iterable[nn.Module]],
        extra: Extra | None,
    ) -> Differentiated:
        """The same without a graph.

        Args:
            structures: Atoms and edges.
            make_parameters: Makes the parameters; not asked where earlier ones still hold.
            modules: All modules that hold what these are made of.
            extra: What is added.
        """
        origins = self._list_tensors(modules) if self.caches_parameters else None
        return Differentiated(*self.network.predict(structures, make_parameters, origins, extra))

    def _list_tensors(self, modules: Callable[[], Iterable[nn.Module]]) -> list[Tensor]:
        """Parameters and buffers; by the modules' own dictionaries, since ``model.parameters()`` takes 0.1 ms."""
        if not self._tensor_holders:
            holders = [holder for module in modules() for holder in (module._parameters, module._buffers)]
            self._tensor_holders = [holder for holder in holders if holder]
        return [tensor for holder in self._tensor_holders for tensor in holder.values() if tensor is not None]

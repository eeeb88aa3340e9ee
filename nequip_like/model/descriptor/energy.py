"""Energies of atoms from Chebyshev descriptors of their environments (Behler and Parrinello; Artrith and Urban)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import batch_index, edge_vectors, num_graphs
from nequip_like.model.descriptor.frame_store import FrameStore, KnownFrame, contract, make_known_frame
from nequip_like.model.potential import Differentiated, compute_derivatives, sum_over_edges
from nequip_like.nn.atomic_networks import AtomicNetworks
from nequip_like.nn.chebyshev.compiled import load_descriptor_code
from nequip_like.nn.chebyshev.descriptor import ChebyshevDescriptor, Environments
from nequip_like.nn.scale_shift import PerType, PerTypeScaleShift
from nequip_like.nn.scatter import sum_rows

IsolatedAtoms = Literal["learnt", "exact"]
SMALLEST_SPREAD = 1e-10  # a feature that varies less tells nothing, and is left out as aenet does


class DescriptorEnergy(nn.Module):
    """``E_i = net_t(x_i) / E_scaling + E_shift + E_atom``, with features ``x_i`` less their mean over their spread.

    Args:
        descriptor: The features.
        type_names: The model's species.
        hidden: Width and activation of the hidden layers of each species.
        means: Mean of each feature, shape (types, features).
        spreads: Its standard deviation, of the same shape.
        scales: 1 / E_scaling.
        shifts: E_shift + E_atom, eV.
        isolated_atoms: Whether an atom without neighbours has what its network says of features that are zero
            (``learnt``), or exactly its shift (``exact``): then that is subtracted from the network's output.
        frame_memory: What is kept of frames while training, bytes at most.
        dtype: Type of the networks.
    """

    means: Tensor
    factors: Tensor

    def __init__(
        self,
        *,
        descriptor: ChebyshevDescriptor,
        type_names: Sequence[str],
        hidden: dict[str, Sequence[tuple[int, str]]],
        means: Tensor,
        spreads: Tensor,
        scales: PerType,
        shifts: PerType,
        isolated_atoms: IsolatedAtoms,
        frame_memory: float,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.descriptor = descriptor
        self.networks = AtomicNetworks(descriptor.size, hidden, dtype)
        self.scale_shift = PerTypeScaleShift(type_names, scales, shifts)
        self.isolated_atoms = isolated_atoms
        varies = spreads > SMALLEST_SPREAD
        factors = torch.where(varies, 1.0 / torch.where(varies, spreads, torch.ones_like(spreads)), 0.0)
        # They are arguments of the builder, so the config holds them already.
        self.register_buffer("means", means, persistent=False)
        self.register_buffer("factors", factors, persistent=False)
        self.store = FrameStore(frame_memory)
        self._serves = False

    def forward(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Energies of the atoms, shape (atoms,), eV, float64; see :class:`~nequip_like.model.potential.EnergyModel`."""
        types = graph[fields.ATOM_TYPES]
        inputs, has_neighbours = self._describe(graph, vectors)
        return self._finish(self.networks(inputs, types), types, has_neighbours)

    def predict_energies(self, graph: Graph) -> Tensor | None:
        """Energies of the atoms from features that are made once for each frame; None where that does not pay."""
        frames = self._find_frames(graph, derivatives=False)
        if frames is None:
            return None
        types = graph[fields.ATOM_TYPES]
        features = torch.cat([frame.features for frame in frames])
        return self._finish(
            self.networks(features, types), types, torch.cat([frame.has_neighbours for frame in frames])
        )

    def predict_derivatives(self, graph: Graph) -> Differentiated | None:
        """Energies and derivatives from features and their derivatives, made once for each frame.

        While a potential is trained its frames come again and again, and their features do not change. So all that a
        step has to do is small matrix products. Returns None where frames do not come again: autograd does it then.
        """
        frames = self._find_frames(graph, derivatives=True)
        if frames is None:
            return None
        types = graph[fields.ATOM_TYPES]
        features = torch.cat([frame.features for frame in frames])
        with torch.set_grad_enabled(self.training):
            outputs, gradients = self.networks.differentiate(features, types)
            has_neighbours = torch.cat([frame.has_neighbours for frame in frames])
            energies = self._finish(outputs, types, has_neighbours)
            scales = self.scale_shift.scales[types].to(self.dtype)
            forces, strains = contract(gradients * scales.unsqueeze(1), [frame.jacobian for frame in frames])
            totals = sum_rows(energies, batch_index(graph), num_graphs(graph))
            derivatives = compute_derivatives(graph, forces.double(), strains.double())
        return Differentiated(
            energies, totals, derivatives[fields.FORCES], derivatives[fields.STRESS], derivatives[fields.VIRIAL]
        )

    def predict_with_features(self, graph: Graph) -> tuple[Differentiated, Tensor] | None:
        """Energies, derivatives and last-layer features from one evaluation of the descriptors.

        Returns None in training, and for frames that are kept: there descriptors cost nothing.
        """
        if self.training or self._find_frames(graph, derivatives=True) is not None:
            return None
        types = graph[fields.ATOM_TYPES]
        with torch.enable_grad():
            vectors = edge_vectors(graph).detach().requires_grad_(True)
            inputs, has_neighbours = self._describe(graph, vectors)
            energies = self._finish(self.networks(inputs, types), types, has_neighbours)
            (gradient,) = torch.autograd.grad(energies.sum(), vectors, materialize_grads=True)
        energies = energies.detach()
        derivatives = compute_derivatives(graph, *sum_over_edges(graph, vectors.detach(), gradient))
        result = Differentiated(
            energies,
            sum_rows(energies.unsqueeze(1), batch_index(graph), num_graphs(graph)).squeeze(1),
            derivatives[fields.FORCES],
            derivatives[fields.STRESS],
            derivatives[fields.VIRIAL],
        )
        return result, self._sum_last_features(graph, inputs.detach(), has_neighbours)

    def last_layer_features(self, graph: Graph) -> Tensor:
        """Derivative of each structure's energy by the last layers' weights and biases, (graphs, features), float64."""
        with torch.no_grad():
            frames = self._find_frames(graph, derivatives=False)
            if frames is None:
                inputs, has_neighbours = self._describe(graph, edge_vectors(graph))
            else:
                inputs = torch.cat([frame.features for frame in frames])
                has_neighbours = torch.cat([frame.has_neighbours for frame in frames])
            return self._sum_last_features(graph, inputs, has_neighbours)

    def last_layer_weights(self) -> list[Tensor]:
        """Those that the features are the derivatives by: of each species in turn the weights and the bias."""
        return [part for network in self.networks.each for part in (network.weights[-1], network.biases[-1])]

    def _describe(self, graph: Graph, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """What the networks get, and which atoms have neighbours."""
        types = graph[fields.ATOM_TYPES]
        centre, neighbour = graph[fields.EDGE_INDEX]
        features = self.descriptor(Environments(vectors, centre, types[neighbour], len(types)))
        return self.normalize(features, types), (features != 0.0).any(dim=1)

    @torch.no_grad()
    def _sum_last_features(self, graph: Graph, inputs: Tensor, has_neighbours: Tensor) -> Tensor:
        types = graph[fields.ATOM_TYPES]
        rows = self.networks.differentiate_last(inputs, types).double()
        if self.isolated_atoms == "exact":
            alone = torch.arange(len(self.means), device=types.device)
            zero = self.normalize(torch.zeros_like(self.means), alone)
            rows = (rows - self.networks.differentiate_last(zero, alone).double()[types]) * has_neighbours.unsqueeze(1)
        return sum_rows(rows * self.scale_shift.scales[types].unsqueeze(1), batch_index(graph), num_graphs(graph))

    def cache_parameters(self) -> None:
        """Of a potential that serves: its frames are new ones each time, so nothing is kept of them."""
        self._serves = True

    def _find_frames(self, graph: Graph, derivatives: bool) -> list[KnownFrame] | None:
        """What is known of each frame; None unless the model, or the one that it averages, is trained on a CPU."""
        if self.training:
            self.store.is_used = True
        if self._serves or not self.store.is_used or graph[fields.POSITIONS].device.type != "cpu":
            return None
        return self.store.find(graph, derivatives, self._know)

    def _know(self, frame: Mapping[str, Tensor], vectors: Tensor, derivatives: bool) -> KnownFrame:
        types = frame[fields.ATOM_TYPES]
        edge_index = frame[fields.EDGE_INDEX]
        environments = Environments(vectors, edge_index[0], types[edge_index[1]], len(types))
        with torch.no_grad():
            jacobian = None
            if derivatives:
                features, jacobian = self.descriptor.differentiate(environments)
                jacobian = jacobian * self.factors[types[edge_index[0]]].unsqueeze(2)
            else:
                features = self.descriptor(environments)
            has_neighbours = (features != 0.0).any(dim=1)
            normalized = self.normalize(features, types)
            return make_known_frame(normalized, has_neighbours, jacobian, edge_index, vectors)

    def normalize(self, features: Tensor, types: Tensor) -> Tensor:
        """What the networks get of features (atoms, size) of atoms of given types (atoms,)."""
        return ((features - self.means[types]) * self.factors[types]).to(self.dtype)

    def _finish(self, outputs: Tensor, types: Tensor, has_neighbours: Tensor) -> Tensor:
        """Energies (atoms,), float64, of the networks' outputs."""
        if self.isolated_atoms == "exact":
            alone = torch.arange(len(self.means), device=types.device)
            zero = self.normalize(torch.zeros_like(self.means), alone)
            difference = outputs - self.networks(zero, alone)[types]
            # Exactly: two products of matrices of different sizes may round the same row differently.
            outputs = torch.where(has_neighbours, difference, torch.zeros_like(difference))
        return self.scale_shift(outputs, types)

    @property
    def kernel_in_use(self) -> str:
        """How the network is evaluated, in words."""
        on_cpu = self.means.device.type == "cpu"
        compiled = on_cpu and self.descriptor.compiled and load_descriptor_code() is not None
        method = "by compiled C code" if compiled else "by torch operations"
        return f"descriptors {method}" + (", in training once for each frame" if on_cpu else "")

    def summary_of_store(self) -> dict[str, Any]:
        """How many frames are kept, and their bytes."""
        return {"frames": len(self.store), "bytes": self.store.bytes}

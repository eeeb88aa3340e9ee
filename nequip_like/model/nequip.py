"""The NequIP family: E(3)-equivariant message passing (Batzner et al., Nature Communications 13, 2453, 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from e3nn.o3 import Irreps
from torch import Tensor, nn

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import batch_index, edge_vectors, num_graphs
from nequip_like.errors import ConfigError
from nequip_like.model import native_hessian
from nequip_like.model.hessian import multiply_by_autograd
from nequip_like.model.native_energy import CollectedWeights, NativeBackend
from nequip_like.model.potential import Differentiated
from nequip_like.nn.elements import EmbeddingStart, correlate_rows, starts_from_chemistry
from nequip_like.nn.interaction import InteractionLayer
from nequip_like.nn.lora import list_weights
from nequip_like.nn.mlp import ScalarMLP
from nequip_like.nn.native.calculation import Calculation
from nequip_like.nn.native.differentiation import Extra
from nequip_like.nn.native.head import Head, Structures
from nequip_like.nn.native.program import Parameters
from nequip_like.nn.native.spec import NetworkPlan, plan_layer
from nequip_like.nn.pair_potential import build_pair_potential
from nequip_like.nn.radial import PairCutoffs, PolynomialEnvelope, RadialEmbedding, pair_cutoff_table
from nequip_like.nn.radial_table import SplineTable, count_intervals
from nequip_like.nn.scale_shift import PerType, PerTypeScaleShift, per_type_values
from nequip_like.nn.scatter import sum_rows
from nequip_like.nn.spherical_harmonics import SphericalHarmonics


class NequIPEnergy(nn.Module):
    """Atomic energies of the NequIP architecture.

    Arguments are those of :func:`~nequip_like.model.builders.FullNequIPGNNModel`, already checked.
    """

    sender_norm: Tensor
    inverse_cutoffs: Tensor

    def __init__(
        self,
        *,
        type_names: Sequence[str],
        cutoff: float,
        l_max: int,
        hidden: Sequence[Irreps],
        radial_mlps: Sequence[tuple[int, int]],
        type_embed_num_features: int,
        type_embedding_start: EmbeddingStart,
        readout: tuple[int, int | None, str | None],
        num_bessels: int,
        bessel_trainable: bool,
        polynomial_cutoff_p: float,
        per_edge_type_cutoff: PairCutoffs | None,
        avg_num_neighbors: PerType,
        scales: PerType,
        shifts: PerType,
        scales_trainable: bool,
        shifts_trainable: bool,
        pair_potential: str | dict[str, Any] | None,
        convnet_sc: bool,
        convnet_resnet: bool,
        learnable_shift: bool,
        activations: tuple[dict[str, str], dict[str, str]],
        kernel: str,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        if avg_num_neighbors is None:
            raise ConfigError(
                "avg_num_neighbors is not given",
                "write ${training_data_stats:num_neighbors_mean}, or a number for all species or for each",
            )
        neighbors = per_type_values("avg_num_neighbors", avg_num_neighbors, type_names, 1.0)
        if not (neighbors > 0).all():
            raise ConfigError(f"avg_num_neighbors is {neighbors.tolist()}", "it must be above 0 for each species")
        self.register_buffer("sender_norm", neighbors.rsqrt())
        cutoffs = pair_cutoff_table(per_edge_type_cutoff, type_names, cutoff)
        self.register_buffer("inverse_cutoffs", cutoffs.reciprocal())

        embedding = torch.randn(len(type_names), type_embed_num_features, dtype=dtype)
        if starts_from_chemistry(type_embedding_start, type_names):
            embedding = correlate_rows(embedding, type_names)
        self.type_embedding = nn.Parameter(embedding)
        self.harmonics = SphericalHarmonics(l_max)
        self.radial = RadialEmbedding(
            num_bessels, bessel_trainable, PolynomialEnvelope(polynomial_cutoff_p), cutoff, dtype
        )
        self.layers = nn.ModuleList()
        irreps = Irreps([(type_embed_num_features, "0e")])
        for i, (hidden_irreps, radial_mlp) in enumerate(zip(hidden, radial_mlps, strict=True)):
            # Without these in the first layer an isolated atom has zero features, hence exactly its shift as energy.
            sees_itself = i > 0 or learnable_shift
            layer = InteractionLayer(
                irreps_in=irreps,
                hidden=hidden_irreps,
                l_max=l_max,
                num_radial=num_bessels,
                radial_mlp=radial_mlp,
                embedding_dim=type_embed_num_features,
                self_connection=convnet_sc and sees_itself,
                resnet=convnet_resnet and sees_itself,
                activations=activations,
                kernel=kernel,
                dtype=dtype,
            )
            self.layers.append(layer)
            irreps = layer.irreps_out
        depth, width, nonlinearity = readout
        self.readout = ScalarMLP(irreps.dim, 1, depth, width or hidden[-1].dim, nonlinearity, dtype)
        self.scale_shift = PerTypeScaleShift(type_names, scales, shifts, scales_trainable, shifts_trainable)
        self.pair_potential = build_pair_potential(pair_potential, type_names)
        self.kernel = kernel
        self.native: NativeBackend | None = None
        if kernel in ("auto", "fused"):
            #: Where compiled code has its radial functions evaluated.
            self.spline = SplineTable(count_intervals(num_bessels, dtype))
            self._basis: tuple[tuple[int, int], Tensor] | None = None
            layers = tuple(plan_layer(layer) for layer in self.interactions)
            types, width = self.type_embedding.shape
            plan = NetworkPlan(layers, types, width, l_max, self.spline.intervals, dtype == torch.float64)
            self.native = NativeBackend(kernel, plan)

    def forward(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Energies of the atoms, shape (atoms,), eV, float64; see :class:`~nequip_like.model.potential.EnergyModel`."""
        atom_types = graph[fields.ATOM_TYPES]
        lengths, scaled = self._measure_edges(graph, vectors)
        energies = self.head(self._propagate(graph, vectors, lengths, scaled), atom_types)
        if self.pair_potential is not None:
            energies = energies + self.pair_potential(lengths, scaled, atom_types, *graph[fields.EDGE_INDEX])
        return energies

    def _measure_edges(self, graph: Graph, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Lengths of the edges (edges,), Angstrom, and as shares of their cutoffs."""
        centre, neighbour = graph[fields.ATOM_TYPES][graph[fields.EDGE_INDEX]]
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        return lengths, lengths * self.inverse_cutoffs[centre, neighbour]

    def _propagate(self, graph: Graph, vectors: Tensor, lengths: Tensor, scaled: Tensor) -> Tensor:
        """The last layer's scalars, shape (atoms, channels)."""
        centre, neighbour = graph[fields.EDGE_INDEX]
        atom_types = graph[fields.ATOM_TYPES]
        radial = self.radial(scaled)
        harmonics = self.harmonics(vectors / lengths.unsqueeze(1)).to(self.dtype)
        sender_norm = self.sender_norm.to(self.dtype)[atom_types].view(-1, 1, 1)
        features = [self.type_embedding[atom_types].unsqueeze(1)]
        for layer in self.layers:
            features = layer(
                features, self.type_embedding, atom_types, sender_norm, radial, harmonics, centre, neighbour
            )
        return torch.cat([part.squeeze(1) for part in features], dim=1)

    def head(self, scalars: Tensor, atom_types: Tensor) -> Tensor:
        """Energies (atoms,), float64, of the last layer's scalars (atoms, channels)."""
        return self.scale_shift(self.readout(scalars).squeeze(1), atom_types)

    def predict_derivatives(self, graph: Graph) -> Differentiated | None:
        """Energies and their derivatives at once, by compiled code; None where that is not available.

        In training mode a loss of them can be differentiated.
        """
        native = self._find_native(graph)
        if native is None:
            return None
        structures, extra = self._describe_structures(graph)
        if self.training:
            return native.predict_with_graph(structures, self._collect_parameters(), extra)
        # Predictions may have parameters from the step before: they are made only if they are asked for.
        return native.predict(structures, self._collect_parameters, self, extra)[0]

    def predict_energies(self, graph: Graph) -> Tensor | None:
        """Energies of the atoms (atoms,) by compiled code, without any pass back; None where that is not available."""
        native = self._find_native(graph)
        if native is None or self.training:
            return None
        return self._run_energies(native, graph)[0]

    def predict_energies_with_features(self, graph: Graph) -> tuple[Tensor, Tensor] | None:
        """The same and the last-layer features."""
        native = self._find_native(graph)
        if native is None or self.training:
            return None
        energies, calculation = self._run_energies(native, graph)
        return energies, self._sum_features(graph, calculation.last_scalars.sort())

    def _run_energies(self, native: NativeBackend, graph: Graph) -> tuple[Tensor, Calculation]:
        structures = self._list_structures(graph)
        energies, calculation = native.predict_energies(structures, self._collect_parameters, self)
        if self.pair_potential is not None:
            with torch.no_grad():
                energies += self._evaluate_pair_potential(graph, edge_vectors(graph))
        return energies, calculation

    def predict_with_features(self, graph: Graph) -> tuple[Differentiated, Tensor] | None:
        """As predict_derivatives, and the last-layer features, which compiled code has at hand; None as there."""
        native = self._find_native(graph)
        if native is None or self.training:
            return None
        structures, extra = self._describe_structures(graph)
        result, calculation = native.predict(structures, self._collect_parameters, self, extra)
        scalars = calculation.last_scalars
        if structures.graphs > 1 or len(self.readout.weights) > 1:
            return result, self._sum_features(graph, scalars.sort())
        # A step of dynamics: NumPy takes a tenth of the time of torch's operations on so few numbers.
        factors = self.readout.last_factor * self.scale_shift.scales.detach().numpy()
        return result, torch.from_numpy(scalars.sum(factors[graph[fields.ATOM_TYPES].numpy()])[None])

    def last_layer_features(self, graph: Graph) -> Tensor:
        """Derivative of each structure's energy by the weights of the last layer, shape (graphs, width), float64."""
        if (predicted := self.predict_energies_with_features(graph)) is not None:
            return predicted[1]
        with torch.no_grad():
            vectors = edge_vectors(graph)
            return self._sum_features(graph, self._propagate(graph, vectors, *self._measure_edges(graph, vectors)))

    def last_layer_weights(self) -> list[Tensor]:
        """Those that the features are the derivatives by."""
        return [self.readout.weights[-1]]

    def _sum_features(self, graph: Graph, scalars: Tensor) -> Tensor:
        rows = self.readout.differentiate_last(scalars).detach().to(torch.float64)
        rows = rows * self.scale_shift.scales.detach()[graph[fields.ATOM_TYPES]].unsqueeze(1)
        return sum_rows(rows, batch_index(graph), num_graphs(graph))

    def _find_native(self, graph: Graph) -> NativeBackend | None:
        native = self.native
        return native if native is not None and native.supports(graph[fields.POSITIONS].device) else None

    def _describe_structures(self, graph: Graph) -> tuple[Structures, Extra | None]:
        """What compiled code is given: structures, and what a pair potential adds."""
        return self._list_structures(
            graph
        ), None if self.pair_potential is None else self._differentiate_pair_potential(graph)

    @staticmethod
    def _list_structures(graph: Graph) -> Structures:
        return Structures(
            graph[fields.ATOM_TYPES],
            graph[fields.EDGE_INDEX],
            graph[fields.POSITIONS],
            graph.get(fields.EDGE_CELL_SHIFT),
            graph.get(fields.CELL),
            batch_index(graph),
            num_graphs(graph),
        )

    def multiply_hessian(self, graph: Graph, changes: Tensor) -> Tensor | None:
        """The Hessian times changes of the positions, by compiled code; None where that is not available."""
        native = self._find_native(graph)
        if native is None:
            return None
        structures = self._list_structures(graph)
        products = native_hessian.multiply_hessian(native.network.plan, structures, self._collect_parameters(), changes)
        if self.pair_potential is not None:
            products += multiply_by_autograd(graph, partial(self._evaluate_pair_potential, graph), changes)
        return products

    def estimate_bytes(self, atoms: int, edges: int, device: torch.device) -> int | None:
        """Memory that a batch takes in compiled code at its peak, bytes; None where torch does the work.

        In training mode with the gradients of a loss.

        Args:
            atoms: Number of atoms.
            edges: Number of edges.
            device: Where it is computed.
        """
        if self.native is None or not self.native.supports(device):
            return None
        return self.native.network.estimate_bytes(self._collect_parameters(), atoms, edges, self.training)

    def _collect_parameters(self) -> Parameters:
        """What compiled code needs."""
        native = cast(NativeBackend, self.native)
        weights = native.collect(self, self._collect_weights)
        return native.join(weights, self._evaluate_basis(), self.inverse_cutoffs, self.sender_norm)

    def _collect_weights(self) -> CollectedWeights:
        network: list[Tensor] = [self.type_embedding]
        for layer in self.interactions:
            for linear in (layer.linear_in, layer.linear_out, layer.self_connection):
                if linear is not None:
                    network += list_weights(linear.weights)
        head = Head(self.readout.parts, self.scale_shift.scales, self.scale_shift.shifts)
        return CollectedWeights(network, [layer.radial_mlp.parts for layer in self.interactions], head)

    def _evaluate_basis(self) -> Tensor:
        """The radial basis at the places of the splines; without trained frequencies once, not at each step."""
        frequencies = self.radial.frequencies
        if frequencies.requires_grad:
            return self.radial.continued(self.spline.places)
        key = frequencies.data_ptr(), frequencies._version
        if self._basis is None or self._basis[0] != key:
            self._basis = key, self.radial.continued(self.spline.places)
        return self._basis[1]

    @property
    def interactions(self) -> list[InteractionLayer]:
        """The layers."""
        return [cast(InteractionLayer, layer) for layer in self.layers]

    @property
    def kernel_in_use(self) -> str:
        """How the network is evaluated where the weights are now, in words."""
        if self.native is None:
            return f"{self.kernel}: torch"
        return self.native.describe(self.type_embedding.device)

    @property
    def accepts_skin_edges(self) -> bool:
        """Whether edges beyond the cutoff are skipped before they cost anything."""
        return self.native is not None and self.native.supports(self.type_embedding.device)

    def cache_parameters(self) -> None:
        """Keep in predictions what was made of the parameters while they are unchanged."""
        if self.native is not None:
            self.native.caches_parameters = True

    def _differentiate_pair_potential(self, graph: Graph) -> Extra:
        """Energies and gradient of the pair potential, which has nothing to train."""
        with torch.enable_grad():
            vectors = edge_vectors(graph).detach().requires_grad_(True)
            energies = self._evaluate_pair_potential(graph, vectors)
            (gradient,) = torch.autograd.grad(energies.sum(), vectors, materialize_grads=True)
        return Extra(energies.detach(), gradient)

    def _evaluate_pair_potential(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Its energies of the atoms, shape (atoms,)."""
        lengths, scaled = self._measure_edges(graph, vectors)
        types = graph[fields.ATOM_TYPES]
        energies: Tensor = self.pair_potential(lengths, scaled, types, *graph[fields.EDGE_INDEX])  # type: ignore[misc]
        return energies

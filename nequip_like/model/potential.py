"""A potential: an energy model, and the one step that turns its energies into forces, virial and stress."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import batch_index, edge_vectors, num_graphs, volumes
from nequip_like.data.species import type_table
from nequip_like.errors import ModelError
from nequip_like.model.hessian import compute_hessian, compute_hessian_product
from nequip_like.model.last_layer import LastLayerUncertainty, announce_features
from nequip_like.nn.scatter import sum_rows
from nequip_like.summaries import Summarized


@runtime_checkable
class EnergyModel(Protocol):
    """What a model family supplies: atomic energies as a function of edge vectors."""

    def __call__(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Energies of the atoms, shape (atoms,), float64.

        Args:
            graph: ``atom_types`` and ``edge_index`` are read; positions and cells are not, so that engines which bring
                their own neighbour list can be served.
            vectors: Vectors from centre to neighbour, shape (edges, 3), Angstrom, float64.
        """
        ...


@dataclass(frozen=True, repr=False)
class Differentiated(Summarized):
    """Energies and their derivatives; all float64.

    Attributes:
        energies: Of the atoms, shape (atoms,), eV.
        totals: Of the structures, shape (graphs,), eV.
        forces: Shape (atoms, 3), eV/Angstrom.
        stress: Shape (graphs, 3, 3), eV/Angstrom^3, tension positive; NaN for a structure without a cell.
        virial: Shape (graphs, 3, 3), eV; NaN for a structure without a cell.
    """

    energies: Tensor
    totals: Tensor
    forces: Tensor
    stress: Tensor
    virial: Tensor


@runtime_checkable
class DifferentiatedModel(Protocol):
    """What a model family may supply beside, where it has something faster than autograd."""

    def predict_derivatives(self, graph: Graph) -> Differentiated | None:
        """Energies and their derivatives; None where that is not available.

        Args:
            graph: Structures with positions, cells, ``atom_types`` and edges. In training mode a loss of all results
                can be differentiated once; else there is no graph.
        """
        ...

    def cache_parameters(self) -> None:
        """Keep in predictions what was made of the parameters while they are unchanged."""
        ...


class Potential(Summarized, nn.Module):
    """Energies, forces, stress and virial of structures.

    All derivatives come from ``g_ij = dE/dr_ij``, asked of autograd once: the force on an atom is the sum of ``g`` over
    the edges that start at it minus the sum over the edges that end at it, and the stress is
    ``1/V sum r_ij (x) g_ij`` (tension positive, as in ASE). Training, MD and stress share this path.

    Args:
        energy_model: Atomic energies from edge vectors.
        type_names: Species; ``atom_types`` counts in this order.
        cutoff: Largest interaction distance, Angstrom.
        config: What built the model: ``{"family": name, "arguments": {...}}``, plain JSON values only.
        do_derivatives: Whether forces, stress and virial are computed.

    Raises:
        ModelError: If ``config`` holds something else: no file could keep it.

    Example:
        Forces are -dE/dpos, so they add up to zero; a molecule without a cell has no stress:

        >>> from ase.build import molecule
        >>> from nequip_like.inference.predictor import Predictor
        >>> from nequip_like.model import NequIPGNNModel
        >>> tiny = {"r_max": 3.0, "num_layers": 2, "num_features": 4, "avg_num_neighbors": 2, "kernel": "reference"}
        >>> potential = NequIPGNNModel(type_names=["H", "O"], model_dtype="float64", **tiny)
        >>> prediction = Predictor(potential).predict(molecule("H2O"))
        >>> prediction["forces"].shape, bool(prediction["forces"].sum(0).abs().max() < 1e-12)
        (torch.Size([3, 3]), True)
        >>> bool(prediction["stress"].isnan().all())
        True
    """

    def __init__(
        self,
        energy_model: nn.Module,
        type_names: Sequence[str],
        cutoff: float,
        config: dict[str, Any],
        do_derivatives: bool = True,
    ) -> None:
        super().__init__()
        _check_plain(config)
        self.energy_model = energy_model
        self.type_names = list(type_names)
        self.cutoff = float(cutoff)
        self.config = config
        self.do_derivatives = do_derivatives
        #: Of its energies; it belongs to the weights that it was made with, see ``inference/last_layer_fit.py``.
        self.uncertainty: LastLayerUncertainty | None = None

    def summary(self) -> dict[str, Any]:
        """What it is, without its layers: these are in ``energy_model``."""
        parameters = list(self.parameters())
        return {
            "family": self.config.get("family", "unknown"),
            "species": " ".join(self.type_names),
            "cutoff": f"{self.cutoff:g} Å",
            "parameters": sum(parameter.numel() for parameter in parameters),
            "dtype": "/".join(sorted({str(parameter.dtype).removeprefix("torch.") for parameter in parameters})),
        }

    @property
    def predicted_fields(self) -> tuple[str, ...]:
        """Names of the fields that ``forward`` adds."""
        energies = (fields.TOTAL_ENERGY, fields.PER_ATOM_ENERGY)
        names = (*energies, fields.FORCES, fields.STRESS, fields.VIRIAL) if self.do_derivatives else energies
        return names if self.uncertainty is None else (*names, fields.ENERGY_UNCERTAINTY)

    @property
    def units(self) -> dict[str, str]:
        """Units of the positions that it takes and of the fields that ``forward`` adds, by name."""
        return {name: fields.field(name).unit for name in (fields.POSITIONS, *self.predicted_fields)}

    def describe_uncertainty(self) -> dict[str, Any] | None:
        """How its uncertainties were calibrated, as JSON values; None if they were not, or there are none."""
        return None if self.uncertainty is None else self.uncertainty.calibration.describe()

    @property
    def kernel_in_use(self) -> str:
        """How the network is evaluated where its weights are now, in words."""
        return getattr(self.energy_model, "kernel_in_use", "torch")

    @property
    def accepts_skin_edges(self) -> bool:
        """Whether edges beyond the cutoff cost next to nothing: a neighbour list with skin may be given whole."""
        return self.do_derivatives and bool(getattr(self.energy_model, "accepts_skin_edges", False))

    @cached_property
    def _type_of_number(self) -> Tensor:
        return type_table(self.type_names)

    def assign_types(self, atomic_numbers: Tensor) -> Tensor:
        """Type of each atom, shape (atoms,).

        Args:
            atomic_numbers: Shape (atoms,), on the CPU.

        Raises:
            ModelError: If a species is none of the model's.
        """
        types = self._type_of_number[atomic_numbers]
        if bool((types < 0).any()):
            unknown = sorted(set(atomic_numbers[types < 0].tolist()))
            raise ModelError(
                f"the model does not know {', '.join(chemical_symbols[number] for number in unknown)}; "
                f"it was trained on {', '.join(self.type_names)}",
                "train it on data with this species, or remove these atoms",
            )
        return types

    def cache_parameters(self) -> None:
        """From now on predictions keep what they make of the parameters, as long as no tensor of them is changed.

        For potentials that serve and are not trained. A change through ``tensor.data`` would not be seen.
        """
        if isinstance(self.energy_model, DifferentiatedModel):
            self.energy_model.cache_parameters()

    def forward(self, graph: Graph) -> Graph:
        """Predict.

        Args:
            graph: A structure or batch with edges and ``atom_types``.

        Returns:
            The graph's own fields without its labels, so that a label can never pass for a prediction, and
            ``total_energy (graphs, 1)`` and ``atomic_energy (atoms, 1)`` in eV; with derivatives also
            ``forces (atoms, 3)`` in eV/Angstrom, ``stress (graphs, 3, 3)`` in eV/Angstrom^3 and
            ``virial (graphs, 3, 3)`` in eV, all float64. Stress and virial of a structure without a cell are NaN. In
            training mode the derivatives keep their graph, so that a loss of forces can be differentiated.

        Raises:
            ModelError: Under ``torch.inference_mode()``.
        """
        if self.do_derivatives and torch.is_inference_mode_enabled():
            raise ModelError(
                "forces are derivatives, which torch.inference_mode() forbids",
                "use torch.no_grad(), and Trainer(inference_mode=False)",
            )
        inputs = {key: value for key, value in graph.items() if key not in fields.LABELS}
        return inputs | self._predict(graph)

    def hessian_product(self, graph: Graph, vectors: Tensor) -> Tensor:
        """The Hessian of the energy times vectors, exactly: how the gradient changes along them.

        A product takes about twice the time of forces, whatever the number of atoms, and no memory for a matrix. The
        values are computed once for all vectors. Of periodic structures all images of an atom move together (the
        Hessian at the Gamma point of the cell that is given).

        Args:
            graph: A structure or batch with edges and ``atom_types``; the Hessian of a batch has no entries between
                structures.
            vectors: For each atom a change of its position: shape (atoms, 3), or (..., atoms, 3) for many.

        Returns:
            Of the same shape, eV/Angstrom^2 times the vectors' unit, float64.

        Raises:
            ModelError: If the vectors are of another shape, or under ``torch.inference_mode()``.

        Example:
            Two atoms that move together feel nothing:

            >>> from ase import Atoms
            >>> from nequip_like.data.io.structures import graph_from_atoms
            >>> from nequip_like.data.neighbors import add_neighbors
            >>> from nequip_like.model import NequIPGNNModel
            >>> tiny = {"r_max": 3.0, "num_layers": 2, "num_features": 4, "avg_num_neighbors": 2}
            >>> potential = NequIPGNNModel(type_names=["H"], model_dtype="float64", kernel="reference", **tiny)
            >>> graph = add_neighbors(graph_from_atoms(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])), 3.0)
            >>> graph["atom_types"] = potential.assign_types(graph["atomic_numbers"])
            >>> bool(potential.hessian_product(graph, torch.ones(2, 3)).abs().max() < 1e-9)
            True
        """
        return compute_hessian_product(self, graph, vectors)

    def hessian(self, graph: Graph) -> Tensor:
        """The Hessian of the energy of a structure, shape (3 atoms, 3 atoms), eV/Angstrom^2, float64, symmetric.

        Rows and columns are x, y, z of the first atom, then of the second one, and so on. Of a periodic structure it is
        folded: an entry is the sum over all images, as at the Gamma point.

        Args:
            graph: A structure with edges and ``atom_types``.

        Raises:
            ModelError: If it is a batch of several, or under ``torch.inference_mode()``.
        """
        return compute_hessian(self, graph)

    def _predict(self, graph: Graph) -> Graph:
        if self.uncertainty is None:
            return self._predict_energies(graph)
        prediction, features = self.predict_with_features(graph)
        prediction[fields.ENERGY_UNCERTAINTY] = self.uncertainty(features.detach())
        return prediction

    def predict_with_features(self, graph: Graph) -> tuple[Graph, Tensor]:
        """Predicted fields but the uncertainty, and last-layer features (graphs, features), in one pass if possible.

        Args:
            graph: A structure or batch with edges and ``atom_types``.

        Raises:
            ModelError: If the family does not tell its features.
        """
        name = "predict_with_features" if self.do_derivatives else "predict_energies_with_features"
        together = getattr(self.energy_model, name, None)
        result = None if together is None else together(graph)
        if result is None:
            return self._predict_energies(graph), announce_features(self.energy_model).last_layer_features(graph)
        first, features = result
        prediction = _name_fields(first) if self.do_derivatives else self._sum_energies(graph, first)
        return prediction, features

    def _predict_energies(self, graph: Graph) -> Graph:
        # Not isinstance with the protocol, which takes as long as a tenth of a small molecule's network.
        predict = getattr(self.energy_model, "predict_derivatives", None)
        if self.do_derivatives and predict is not None:
            result: Differentiated | None = predict(graph)
            if result is not None:
                return _name_fields(result)
        if not self.do_derivatives:
            predict = getattr(self.energy_model, "predict_energies", None)
            energies = None if predict is None else predict(graph)
            if energies is None:
                energies = self.energy_model(graph, edge_vectors(graph).detach())
            return self._sum_energies(graph, energies)
        vectors = edge_vectors(graph).detach()
        with torch.enable_grad():
            vectors.requires_grad_(True)
            prediction = self._sum_energies(graph, self.energy_model(graph, vectors))
            (gradient,) = torch.autograd.grad(
                prediction[fields.TOTAL_ENERGY].sum(), vectors, create_graph=self.training, materialize_grads=True
            )
        if not self.training:
            vectors = vectors.detach()
            prediction = {key: value.detach() for key, value in prediction.items()}
        prediction.update(compute_derivatives(graph, *sum_over_edges(graph, vectors, gradient)))
        return prediction

    @staticmethod
    def _sum_energies(graph: Graph, energies: Tensor) -> Graph:
        atomic = energies.unsqueeze(-1)
        total = sum_rows(atomic, batch_index(graph), num_graphs(graph))
        return {fields.TOTAL_ENERGY: total, fields.PER_ATOM_ENERGY: atomic}


def _name_fields(result: Differentiated) -> Graph:
    return {
        fields.TOTAL_ENERGY: result.totals.unsqueeze(-1),
        fields.PER_ATOM_ENERGY: result.energies.unsqueeze(-1),
        fields.FORCES: result.forces,
        fields.STRESS: result.stress,
        fields.VIRIAL: result.virial,
    }


def _check_plain(config: dict[str, Any]) -> None:
    try:
        json.dumps(config, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"the config of a model of the family '{config.get('family')}' cannot be written to a file: {error}",
            "give its arguments as plain values: finite numbers, texts, lists and mappings",
        ) from error


def sum_over_edges(graph: Graph, vectors: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Forces (atoms, 3), and for each structure the sum of vector (x) gradient over its edges (graphs, 3, 3).

    Args:
        graph: The structures.
        vectors: Of the edges, shape (edges, 3), Angstrom.
        gradient: Derivative of the energy by them, shape (edges, 3), eV/Angstrom.
    """
    centre, neighbour = graph[fields.EDGE_INDEX]
    atoms = len(graph[fields.POSITIONS])
    differences = sum_rows(gradient, centre, atoms) - sum_rows(gradient, neighbour, atoms)
    outer = (vectors.detach().unsqueeze(2) * gradient.unsqueeze(1)).flatten(1)
    of_atom = sum_rows(outer, centre, atoms).view(-1, 3, 3)
    return differences, sum_rows(of_atom, batch_index(graph), num_graphs(graph))


def compute_derivatives(graph: Graph, forces: Tensor, strain: Tensor) -> Graph:
    """Forces, stress and virial from the sums over edges.

    Args:
        graph: The structures.
        forces: Shape (atoms, 3), eV/Angstrom.
        strain: Of each structure the sum of vector (x) gradient over its edges, shape (graphs, 3, 3), eV.
    """
    strain_derivative = 0.5 * (strain + strain.transpose(1, 2))
    volume = volumes(graph).view(-1, 1, 1) if fields.CELL in graph else strain.new_zeros(len(strain), 1, 1)
    has_cell = volume > 0
    # The denominator is made safe before the division: NaN must not reach the weights through a masked branch.
    stress = strain_derivative / torch.where(has_cell, volume, torch.ones_like(volume))
    nan = torch.full_like(stress, torch.nan)
    return {
        fields.FORCES: forces,
        fields.STRESS: torch.where(has_cell, stress, nan),
        fields.VIRIAL: torch.where(has_cell, -strain_derivative, nan),
    }

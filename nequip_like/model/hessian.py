"""Second derivatives of the energy by the positions: the Hessian, and its products with vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import edge_vectors, num_graphs
from nequip_like.errors import ModelError
from nequip_like.nn.evaluation_mode import evaluation_mode
from nequip_like.nn.scatter import sum_rows

if TYPE_CHECKING:
    from nequip_like.model.potential import Potential


@runtime_checkable
class TwiceDifferentiatedModel(Protocol):
    """What a model family may supply beside, where it has second derivatives that are faster than autograd's."""

    def multiply_hessian(self, graph: Graph, changes: Tensor) -> Tensor | None:
        """The Hessian of the sum of all energies times changes of the positions; None where that is not available.

        Args:
            graph: Structures with positions, cells, ``atom_types`` and edges.
            changes: Shape (changes, atoms, 3), float64.

        Returns:
            Of the same shape, float64.
        """
        ...


def compute_hessian_product(potential: Potential, graph: Graph, vectors: Tensor) -> Tensor:
    """See :meth:`nequip_like.model.potential.Potential.hessian_product`."""
    _check_graph(graph)
    positions = graph[fields.POSITIONS]
    if vectors.ndim < 2 or vectors.shape[-2:] != positions.shape:
        raise ModelError(
            f"a vector for each atom has the shape {tuple(positions.shape)}; these have {tuple(vectors.shape)}",
            "give vectors (atoms, 3), or many of them (..., atoms, 3)",
        )
    if torch.is_inference_mode_enabled():
        raise ModelError("a Hessian has derivatives, which torch.inference_mode() forbids", "use torch.no_grad()")
    changes = vectors.detach().to(positions.device, torch.float64).reshape(-1, *positions.shape)
    with evaluation_mode(potential):
        return multiply(potential.energy_model, graph, changes).reshape(vectors.shape)


def compute_hessian(potential: Potential, graph: Graph) -> Tensor:
    """See :meth:`nequip_like.model.potential.Potential.hessian`."""
    _check_graph(graph)
    if num_graphs(graph) != 1:
        raise ModelError(
            f"the Hessian of {num_graphs(graph)} structures together is asked for",
            "give one at a time; hessian_product takes batches",
        )
    size = graph[fields.POSITIONS].numel()
    unit = torch.eye(size, dtype=torch.float64, device=graph[fields.POSITIONS].device)
    hessian = compute_hessian_product(potential, graph, unit.view(size, -1, 3)).reshape(size, size)
    # Symmetric but for rounding; whoever diagonalises it looks at one triangle.
    return 0.5 * (hessian + hessian.T)


def _check_graph(graph: Graph) -> None:
    needed = (fields.POSITIONS, fields.EDGE_INDEX, fields.ATOM_TYPES)
    if not isinstance(graph, Mapping) or not all(name in graph for name in needed):
        raise ModelError(
            "a Hessian is of a graph with neighbours and types",
            "take it from Predictor(potential).read_batches(atoms), or ask NequIPCalculator for get_hessian(atoms)",
        )


def multiply(energy_model: torch.nn.Module, graph: Graph, changes: Tensor) -> Tensor:
    """The Hessian times changes of the positions (changes, atoms, 3): by the model's own means, else by autograd."""
    supplied = getattr(energy_model, "multiply_hessian", None)
    products: Tensor | None = None if supplied is None else supplied(graph, changes)
    if products is not None:
        return products
    return multiply_by_autograd(graph, lambda vectors: energy_model(graph, vectors), changes)


def multiply_by_autograd(graph: Graph, energies_of: Callable[[Tensor], Tensor], changes: Tensor) -> Tensor:
    """The Hessian of a function of edge vectors times changes of the positions.

    The function and its gradient are evaluated once; each product is a pass back through both.

    Args:
        graph: Positions, cells and edges.
        energies_of: Energies of the atoms from edge vectors (edges, 3).
        changes: Shape (changes, atoms, 3).
    """
    centre, neighbour = graph[fields.EDGE_INDEX]
    with torch.enable_grad():
        vectors = edge_vectors(graph).detach().requires_grad_(True)
        total = energies_of(vectors).sum()
        (gradient,) = torch.autograd.grad(total, vectors, create_graph=True, materialize_grads=True)
    products = torch.zeros_like(changes)
    if not gradient.requires_grad:  # nothing interacts, or only linearly
        return products
    atoms = changes.shape[1]
    for change, product in zip(changes, products, strict=True):
        (of_edges,) = torch.autograd.grad(
            gradient, vectors, change[neighbour] - change[centre], retain_graph=True, materialize_grads=True
        )
        product.copy_(sum_rows(of_edges, neighbour, atoms) - sum_rows(of_edges, centre, atoms))
    return products

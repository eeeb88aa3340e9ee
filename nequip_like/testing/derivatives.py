"""Checks of derivatives: forces, stress and gradients of the weights against central finite differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate, edge_vectors, to_device
from nequip_like.model.potential import Potential
from nequip_like.testing.structures import batch_of, device_of, graph_of, predict
from nequip_like.testing.tolerances import check_close

STEP = 2e-5  # Angstrom, or strain: truncation and rounding errors are then both below 1e-7


def numerical_forces(potential: Potential, atoms: Atoms) -> Tensor:
    """``-dE/dx`` of every coordinate by central differences, shape (atoms, 3); neighbour lists are made anew."""
    return -_differences(potential, displace_coordinates(atoms, STEP)).view(-1, 3)


def numerical_stress(potential: Potential, atoms: Atoms) -> Tensor:
    """``dE/dstrain / volume`` by central differences of symmetric strains, shape (1, 3, 3); tension is positive."""
    return _differences(potential, strain_symmetrically(atoms, STEP)).view(1, 3, 3) / atoms.get_volume()


def displace_coordinates(atoms: Atoms, step: float, coordinates: Sequence[int] | None = None) -> list[Atoms]:
    """A structure with one coordinate after the other moved forth, then back.

    Args:
        atoms: The structure.
        step: Displacement, Angstrom.
        coordinates: Which of the 3 * atoms coordinates; all by default.

    Example:
        >>> [moved.positions[0].tolist() for moved in displace_coordinates(Atoms("H"), 0.5, [2])]
        [[0.0, 0.0, 0.5], [0.0, 0.0, -0.5]]
    """
    displaced = []
    for coordinate in range(3 * len(atoms)) if coordinates is None else coordinates:
        for sign in (1, -1):
            structure = atoms.copy()
            structure.positions.reshape(-1)[coordinate] += sign * step
            displaced.append(structure)
    return displaced


def strain_symmetrically(atoms: Atoms, step: float) -> list[Atoms]:
    """A structure under one symmetric strain after the other, each forth, then back: xx, xy, xz, yx, ..., zz."""
    strained = []
    for row in range(3):
        for column in range(3):
            for sign in (1, -1):
                deformation = np.eye(3)
                deformation[row, column] += sign * step / 2
                deformation[column, row] += sign * step / 2
                structure = atoms.copy()
                structure.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
                strained.append(structure)
    return strained


def _differences(potential: Potential, structures: Sequence[Atoms]) -> Tensor:
    """``(E(+) - E(-)) / 2h`` of structures that alternate between plus and minus."""
    energies = predict(potential, batch_of(structures, potential))[fields.TOTAL_ENERGY].view(-1, 2)
    return (energies[:, 0] - energies[:, 1]) / (2 * STEP)


def check_forces(potential: Potential, atoms: Atoms, tolerance: float) -> None:
    """Forces are the negative gradient of the energy.

    Raises:
        AssertionError: If a force differs from its finite difference, or if all are zero.

    Example:
        >>> from ase.build import molecule
        >>> from nequip_like.model import NequIPGNNModel
        >>> tiny = {"num_layers": 2, "num_features": 4, "avg_num_neighbors": 2, "kernel": "reference"}
        >>> potential = NequIPGNNModel(type_names=["H", "O"], r_max=3.0, model_dtype="float64", **tiny).eval()
        >>> check_forces(potential, molecule("H2O"), tolerance=1e-7)  # silent: they are -dE/dx
    """
    forces = predict(potential, atoms)[fields.FORCES]
    _check_not_all_zero(forces, "forces")
    check_close(forces, numerical_forces(potential, atoms), tolerance, "forces")


def check_stress(potential: Potential, atoms: Atoms, tolerance: float) -> None:
    """Stress is the strain derivative over the volume; virial is minus the volume times the stress.

    Raises:
        AssertionError: If they differ, or if all are zero.
    """
    prediction = predict(potential, atoms)
    expected = numerical_stress(potential, atoms)
    _check_not_all_zero(expected, "stress")
    volume = atoms.get_volume()
    # Compared as energies: the stress of a soft model is small against 1 eV/A^3.
    check_close(volume * prediction[fields.STRESS], volume * expected, tolerance, "volume * stress")
    check_close(prediction[fields.VIRIAL], -volume * prediction[fields.STRESS], 1e-13, "virial")


def _check_not_all_zero(values: Tensor, quantity: str) -> None:
    if not float(values.abs().max()) > 1e-4:
        raise AssertionError(f"{quantity} of the test structure are all zero, so that nothing was tested")


def check_no_gradient_across(potential: Potential, structures: Sequence[Atoms]) -> None:
    """The energy of one structure of a batch has exactly zero gradient with respect to the edges of the others.

    Raises:
        AssertionError: If a gradient is not zero, or if a structure's own gradient is.
    """
    batch = to_device(batch_of(structures, potential), device_of(potential))
    vectors = edge_vectors(batch).detach().requires_grad_(True)
    owner = batch[fields.BATCH][batch[fields.EDGE_INDEX][0]]
    atomic = potential.energy_model(batch, vectors)
    for i in range(len(structures)):
        (gradient,) = torch.autograd.grad(atomic[batch[fields.BATCH] == i].sum(), vectors, retain_graph=True)
        _check_not_all_zero(gradient[owner == i], f"gradients of structure {i}")
        if bool((gradient[owner != i] != 0).any()):
            raise AssertionError(f"the energy of structure {i} depends on edges of other structures")


def force_loss(prediction: Graph) -> Tensor:
    """A loss of energies, forces and, of structures that have one, stress; its minimum is not at zero forces."""
    stress = prediction[fields.STRESS]
    return (
        (prediction[fields.FORCES] - 0.3).square().mean()
        + 0.1 * (prediction[fields.PER_ATOM_ENERGY] + 1.0).square().mean()
        + 10.0 * (stress[~stress.isnan()] - 0.1).square().sum()
    )


def loss_gradients(potential: Potential, batch: Graph) -> dict[str, Tensor]:
    """Gradients of :func:`force_loss` with respect to the weights, in training mode."""
    potential.train()
    potential.zero_grad(set_to_none=True)
    force_loss(potential(to_device(batch, device_of(potential)))).backward()
    potential.eval()
    gradients = {name: p.grad for name, p in potential.named_parameters() if p.grad is not None}
    potential.zero_grad(set_to_none=True)
    return gradients


def check_finite_gradients(potential: Potential, structures: Sequence[Atoms]) -> dict[str, Tensor]:
    """A loss that leaves the NaN stress of molecules out has finite gradients for all weights; returns them.

    Raises:
        AssertionError: If a weight has no gradient, or one that is not finite.
    """
    gradients = loss_gradients(potential, collate([graph_of(atoms, potential) for atoms in structures]))
    for name, parameter in potential.named_parameters():
        if parameter.requires_grad and name not in gradients:
            raise AssertionError(f"the loss of forces gives no gradient to '{name}'")
        if name in gradients and not bool(gradients[name].isfinite().all()):
            raise AssertionError(f"the gradient of '{name}' is not finite")
    return gradients


def check_weight_gradients(potential: Potential, structures: Sequence[Atoms], tolerance: float, most: int = 6) -> None:
    """Gradients of a loss of forces and stress equal finite differences, along one direction for each of some weights.

    Args:
        potential: The potential to check, in float64.
        structures: The batch.
        tolerance: Bound of the relative difference.
        most: Number of weight tensors that are tried, spread over the model.

    Raises:
        AssertionError: If a gradient is wrong.
    """
    batch = to_device(batch_of(structures, potential), device_of(potential))
    gradients = check_finite_gradients(potential, structures)
    weights = dict(potential.named_parameters())
    names = list(gradients)
    generator = torch.Generator().manual_seed(0)
    for name in names[:: max(1, -(-len(names) // most))]:
        weight = weights[name]
        direction = torch.randn(weight.shape, generator=generator, dtype=weight.dtype).to(weight.device)
        direction /= direction.norm()
        values = []
        original = weight.detach().clone()
        for sign in (1, -1):
            weight.data.copy_(original + sign * STEP * direction)
            values.append(force_loss(potential(batch)))
        weight.data.copy_(original)
        numerical = (values[0] - values[1]) / (2 * STEP)
        check_close((gradients[name] * direction).sum(), numerical.detach(), tolerance, f"gradient of '{name}'")


def check_modes_agree(potential: Potential, atoms: Atoms, tolerance: float) -> None:
    """Training mode keeps the graph of the derivatives, evaluation mode does not; the numbers are the same.

    Raises:
        AssertionError: If predictions differ, or if the graphs are not as they should be.
    """
    graph = to_device(graph_of(atoms, potential), device_of(potential))
    results = {}
    for mode in (True, False):
        potential.train(mode)
        results[mode] = potential(graph)
    for key in potential.predicted_fields:
        check_close(results[True][key], results[False][key], tolerance, key)
        if results[False][key].requires_grad:
            raise AssertionError(f"{key} keeps its graph in evaluation mode")
        if any(p.requires_grad for p in potential.parameters()) and not results[True][key].requires_grad:
            raise AssertionError(f"{key} has no graph in training mode")

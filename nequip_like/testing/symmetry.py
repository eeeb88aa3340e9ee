"""Checks that predictions turn, move and reorder with the structure."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.model.potential import Potential
from nequip_like.testing.structures import graph_of, predict
from nequip_like.testing.tolerances import check_close


def random_rotation(seed: int) -> np.ndarray:
    """A proper rotation matrix.

    Example:
        >>> rotation = random_rotation(seed=0)
        >>> bool(np.allclose(rotation @ rotation.T, np.eye(3))), round(float(np.linalg.det(rotation)), 6)
        (True, 1.0)
    """
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return rotation * np.sign(np.linalg.det(rotation))


def rotate_prediction(prediction: Graph, matrix: np.ndarray) -> Graph:
    """Predictions after an orthogonal matrix acted on space, as the table of fields says for each of them."""
    turn = torch.tensor(matrix, dtype=torch.float64)
    result = {}
    for key, value in prediction.items():
        character = fields.field(key).character
        if character == "vector":
            value = value @ turn.T
        elif character == "tensor":
            value = turn @ value @ turn.T
        result[key] = value
    return result


def check_equivariance(
    potential: Potential, atoms: Atoms, matrix: np.ndarray, tolerance: float, translation: float = 0.0
) -> None:
    """Turn (and shift) the structure and compare with the turned predictions.

    Args:
        potential: The potential to check.
        atoms: The structure.
        matrix: Orthogonal matrix; a determinant of -1 includes the inversion.
        tolerance: Bound of the relative difference.
        translation: Shift along (1, 1, 1) after the turn, Angstrom.

    Raises:
        AssertionError: If a field does not follow.

    Example:
        >>> from nequip_like.model import NequIPGNNModel
        >>> from nequip_like.testing.structures import molecule
        >>> tiny = {"num_layers": 2, "num_features": 4, "avg_num_neighbors": 2, "kernel": "reference"}
        >>> potential = NequIPGNNModel(type_names=["H", "C", "O"], r_max=3.0, model_dtype="float64", **tiny).eval()
        >>> check_equivariance(potential, molecule(), random_rotation(seed=0), tolerance=1e-9)  # silent: all turn along
    """
    check_predictions(*compare_moved(potential, atoms, matrix, translation), tolerance)


def compare_moved(
    potential: Potential, atoms: Atoms, matrix: np.ndarray, translation: float = 0.0
) -> tuple[Graph, Graph]:
    """Predictions of the turned and shifted structure, and the turned predictions of the structure as it is."""
    rotated = atoms.copy()
    rotated.set_cell(atoms.cell.array @ matrix.T)
    rotated.positions = atoms.positions @ matrix.T + translation
    return predict(potential, rotated), rotate_prediction(predict(potential, atoms), matrix)


def check_predictions(actual: Graph, expected: Graph, tolerance: float, prefix: str = "") -> None:
    """Compare every predicted field.

    Raises:
        AssertionError: Naming the first field that differs.
    """
    if actual.keys() != expected.keys():
        raise AssertionError(f"predicted fields differ: {sorted(actual)} and {sorted(expected)}")
    for key, value in expected.items():
        check_close(actual[key], value, tolerance, prefix + key)


def check_field_shapes(potential: Potential, atoms: Atoms) -> None:
    """Every predicted field has the shape that the table of fields says, is float64 and finite.

    Stress and virial of a structure without a cell are NaN instead.

    Raises:
        AssertionError: Naming the first field that is otherwise, or the fields if some are missing.
    """
    prediction = predict(potential, atoms)
    if set(prediction) != set(fields.LABELS):
        raise AssertionError(f"predicted fields are {sorted(prediction)} instead of {sorted(fields.LABELS)}")
    for key, value in prediction.items():
        shape = (len(atoms) if fields.field(key).owner == "node" else 1, *fields.field(key).shape)
        if value.shape != shape or value.dtype != torch.float64:
            raise AssertionError(f"{key} is {tuple(value.shape)} {value.dtype} instead of {shape} torch.float64")
        has_value = atoms.pbc.any() or key not in (fields.STRESS, fields.VIRIAL)
        if not bool(value.isfinite().all() if has_value else value.isnan().all()):
            raise AssertionError(f"{key} is {'not finite' if has_value else 'not NaN without a cell'}")


def check_atom_order(potential: Potential, atoms: Atoms, tolerance: float) -> None:
    """Number the atoms differently: fields of atoms are reordered, all others stay.

    Raises:
        AssertionError: If a field does not follow.
    """
    check_predictions(*compare_atom_orders(potential, atoms), tolerance)


def compare_atom_orders(potential: Potential, atoms: Atoms) -> tuple[Graph, Graph]:
    """Predictions of the structure with its atoms in another order, and its own in that order."""
    order = np.random.default_rng(0).permutation(len(atoms))
    expected = {
        key: value[torch.from_numpy(order)] if fields.field(key).owner == "node" else value
        for key, value in predict(potential, atoms).items()
    }
    return predict(potential, atoms[order]), expected


def check_edge_order(potential: Potential, atoms: Atoms, tolerance: float) -> None:
    """List the edges in another order: nothing changes.

    Raises:
        AssertionError: If a field changes.
    """
    check_predictions(*compare_edge_orders(potential, atoms), tolerance)


def compare_edge_orders(potential: Potential, atoms: Atoms) -> tuple[Graph, Graph]:
    """Predictions with the edges listed in another order, and in their own."""
    graph = graph_of(atoms, potential)
    order = torch.from_numpy(np.random.default_rng(1).permutation(graph[fields.EDGE_INDEX].shape[1]))
    shuffled = {
        **graph,
        fields.EDGE_INDEX: graph[fields.EDGE_INDEX][:, order],
        fields.EDGE_CELL_SHIFT: graph[fields.EDGE_CELL_SHIFT][order],
    }
    return predict(potential, shuffled), predict(potential, graph)


def check_wrapping(potential: Potential, atoms: Atoms, tolerance: float) -> None:
    """Move atoms of a crystal by lattice vectors, out of the cell: nothing changes.

    Raises:
        AssertionError: If a field changes.
    """
    check_predictions(*compare_wrapped(potential, atoms), tolerance)


def compare_wrapped(potential: Potential, atoms: Atoms) -> tuple[Graph, Graph]:
    """Predictions with atoms moved by lattice vectors, and without."""
    shifts = np.random.default_rng(2).integers(-2, 3, size=(len(atoms), 3))
    wrapped = atoms.copy()
    wrapped.positions += shifts @ atoms.cell.array
    return predict(potential, wrapped), predict(potential, atoms)


def check_net_force(prediction: Graph, tolerance: float) -> None:
    """The forces of one structure add up to zero, and stress and virial are symmetric.

    Raises:
        AssertionError: If they are not.
    """
    forces = prediction[fields.FORCES]
    check_close(forces.sum(0), torch.zeros(3, dtype=forces.dtype), tolerance * _scale(forces), "net force")
    for key in (fields.STRESS, fields.VIRIAL):
        check_close(prediction[key], prediction[key].transpose(1, 2), tolerance, f"transposed {key}")


def _scale(values: Tensor) -> float:
    return max(1.0, float(values.abs().max()))

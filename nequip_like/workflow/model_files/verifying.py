"""Verifies a model: whether its numbers are whole, and whether it obeys the physics that every potential obeys."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import torch
from ase import Atoms

from nequip_like.artifacts.description import name_dtype
from nequip_like.artifacts.reading import check_description
from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.errors import NequipLikeError
from nequip_like.inference import model_file
from nequip_like.inference.manifest import Manifest
from nequip_like.model.families import Families
from nequip_like.model.potential import Potential
from nequip_like.testing.derivatives import check_forces
from nequip_like.testing.structures import CUTOFF, crystal, molecule, predict
from nequip_like.testing.symmetry import (
    check_atom_order,
    check_net_force,
    check_predictions,
    check_wrapping,
    compare_moved,
    random_rotation,
)
from nequip_like.testing.tolerances import TOLERANCES
from nequip_like.whole_files import temporary_folder

# A model may be deeper than those that the tolerances are of.
_DEEPER = 10.0


@dataclass(frozen=True)
class ModelCheck:
    """What came of one check.

    Attributes:
        name: What was asked.
        passed: Whether it is so.
        reason: What is otherwise, where it is not.
    """

    name: str
    passed: bool
    reason: str = ""


def verify_model(
    potential: Potential, families: Families | None = None, manifest: Manifest | None = None
) -> list[ModelCheck]:
    """Ask of a model what has to be so of each.

    Its file has been read before: that its SHA-256 and its tensors are what it says is known by then.

    Args:
        potential: The model.
        families: As for :func:`~nequip_like.inference.model_file.read_model`.
        manifest: Of artifacts.

    Returns:
        A verdict for each check: whether artifacts describe the model, all weights are finite, predictions are finite,
        turn and move with the structure and follow the numbering of its atoms, forces add up to zero and, in float64,
        are the differences of the energy, and whether the model is the same after it was saved and read.

    Example:
        >>> from nequip_like.model import NequIPGNNModel
        >>> tiny = {"r_max": 3.0, "num_layers": 2, "num_features": 4, "avg_num_neighbors": 2, "kernel": "reference"}
        >>> all(verdict.passed for verdict in verify_model(NequIPGNNModel(type_names=["H", "O"], **tiny).eval()))
        True
    """
    checks = list(_list_checks(potential, families))
    if manifest is not None:
        checks.insert(0, ("its description is that of the model", lambda: check_description(manifest, potential)))
    return [_ask(name, check) for name, check in checks]


def make_test_structures(potential: Potential) -> tuple[Atoms, Atoms]:
    """A molecule and a crystal of the model's species, whose distances fit to its cutoff."""
    structures = molecule(), crystal()
    for atoms in structures:
        atoms.symbols[:] = list(islice(cycle(potential.type_names), len(atoms)))
        scale = potential.cutoff / CUTOFF
        atoms.set_cell(atoms.cell.array * scale)
        atoms.positions *= scale
    return structures


def _list_checks(potential: Potential, families: Families | None) -> Iterator[tuple[str, Callable[[], None]]]:
    small, periodic = make_test_structures(potential)
    dtype = name_dtype(potential)
    tolerance = _DEEPER * TOLERANCES[dtype].rounding
    yield "weights are finite", lambda: _check_finite_weights(potential)
    yield "predictions are finite", lambda: _check_finite_predictions(potential, periodic)
    yield "predictions turn with a molecule", lambda: _check_turned(potential, small, tolerance)
    yield "predictions turn with a crystal", lambda: _check_turned(potential, periodic, tolerance)
    yield "atoms can be numbered in any order", lambda: check_atom_order(potential, small, tolerance)
    yield "atoms can be moved by lattice vectors", lambda: check_wrapping(potential, periodic, tolerance)
    if potential.do_derivatives:
        yield "forces add up to zero", lambda: check_net_force(predict(potential, periodic), tolerance)
        if dtype == "float64":
            limit = TOLERANCES[dtype].finite_differences
            yield "forces are the gradient of the energy", lambda: check_forces(potential, small, _DEEPER * limit)
    yield "saved and read it is the same", lambda: _check_saved(potential, periodic, families)


def _ask(name: str, check: Callable[[], None]) -> ModelCheck:
    try:
        check()
    except (AssertionError, NequipLikeError) as error:
        return ModelCheck(name, False, " ".join(str(error).split()))
    return ModelCheck(name, True)


def _check_finite_weights(potential: Potential) -> None:
    for name, tensor in potential.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise AssertionError(f"'{name}' has {int((~tensor.isfinite()).sum())} numbers that are not finite")


def _select_labels(prediction: Graph) -> Graph:
    """Without uncertainties: those of forces are of the axes, and do not turn."""
    return {key: value for key, value in prediction.items() if key in fields.LABELS}


def _check_finite_predictions(potential: Potential, atoms: Atoms) -> None:
    for key, value in predict(potential, atoms).items():
        if not bool(value.isfinite().all()):
            raise AssertionError(f"{key} of a crystal is not finite")


def _check_turned(potential: Potential, atoms: Atoms, tolerance: float) -> None:
    actual, expected = compare_moved(potential, atoms, random_rotation(seed=0), translation=0.7)
    check_predictions(_select_labels(actual), _select_labels(expected), tolerance)


def _check_saved(potential: Potential, atoms: Atoms, families: Families | None) -> None:
    with tempfile.TemporaryDirectory(dir=temporary_folder()) as folder:
        path = Path(folder) / "model.safetensors"
        model_file.save(potential, path)
        again = model_file.read_model(path, families=families)
    for (name, tensor), (_, other) in zip(potential.state_dict().items(), again.state_dict().items(), strict=True):
        if not torch.equal(tensor.nan_to_num(), other.nan_to_num()):
            raise AssertionError(f"'{name}' is another tensor after it was saved and read")
    check_predictions(predict(again, atoms), predict(potential, atoms), 0.0)

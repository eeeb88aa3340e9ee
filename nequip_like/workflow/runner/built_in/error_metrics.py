"""Errors as a run file's metrics name them: of energies per atom each atom counts, of forces each component."""

from __future__ import annotations

import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.inference.evaluation import Evaluation


def compute_run_metrics(evaluation: Evaluation) -> dict[str, float]:
    r"""Errors of an evaluation, eV, eV/Angstrom, eV/Angstrom^3; what no frame has a label for is left out.

    - ``energy_rmse``, ``energy_mae``: of energies per atom, eV, where a structure of n atoms counts n times:
      :math:`\sqrt{\sum n (\Delta E / n)^2 / \sum n}` and :math:`\sum |\Delta E| / \sum n`;
    - ``energy_mae_cfg``: the mean of :math:`|\Delta E|` over structures, eV;
    - ``force_rmse``, ``force_mae``, ``stress_rmse``, ``stress_mae``: over components.
    """
    metrics: dict[str, float] = {}
    for label in evaluation.compared:
        labels, predictions = evaluation.pairs(label)
        errors = (predictions - labels).to(torch.float64)
        if label == fields.TOTAL_ENERGY:
            metrics |= compute_energy_errors(errors[:, 0], _count_atoms(evaluation))
        else:
            known = errors[~torch.isnan(errors)]
            name = {fields.FORCES: "force", fields.STRESS: "stress"}[label]
            metrics |= {
                f"{name}_rmse": float(known.square().mean().sqrt()),
                f"{name}_mae": float(known.abs().mean()),
            }
    return metrics


def compute_energy_errors(errors: Tensor, atoms: Tensor) -> dict[str, float]:
    """Errors of energies.

    Args:
        errors: Of total energies, eV, shape (structures,); NaN where there is no label.
        atoms: Numbers of atoms, shape (structures,).

    Example:
        Structures of 2 and 6 atoms that are 0.2 and 1.2 eV off, so 0.1 and 0.2 eV/atom:

        >>> errors = compute_energy_errors(torch.tensor([0.2, -1.2]), torch.tensor([2, 6]))
        >>> {name: round(value, 4) for name, value in errors.items()}
        {'energy_rmse': 0.1803, 'energy_mae': 0.175, 'energy_mae_cfg': 0.7}
    """
    known = ~torch.isnan(errors)
    errors, atoms = errors[known].to(torch.float64), atoms[known].to(torch.float64)
    return {
        "energy_rmse": float((errors.square() / atoms).sum().div(atoms.sum()).sqrt()),
        "energy_mae": float(errors.abs().sum() / atoms.sum()),
        "energy_mae_cfg": float(errors.abs().mean()),
    }


def list_energies(evaluation: Evaluation) -> list[tuple[int, float, float, int]]:
    """Number, energy (eV), energy per atom and number of atoms of each structure, as they are predicted."""
    energies = [float(prediction[fields.TOTAL_ENERGY]) for prediction in evaluation.predictions]
    counts = _count_atoms(evaluation).tolist()
    return [(i, energy, energy / n, n) for i, (energy, n) in enumerate(zip(energies, counts, strict=True))]


def _count_atoms(evaluation: Evaluation) -> Tensor:
    return torch.tensor([len(frame[fields.POSITIONS]) for frame in evaluation.dataset.frames])

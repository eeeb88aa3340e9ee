"""How much of the loss each of its terms has: what has hardly any is hardly trained."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from nequip_like.data.fields import FORCES, TOTAL_ENERGY
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.terms import WEIGHTED_SUM

_SMALL = 0.01
_SMALL_ENERGY = 1e-5  # beside forces
JUDGED_EPOCH = 2  # the third: errors have come down from where they began, and nothing is learned to the end


def compute_shares(loss: MetricsManager, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The share of each term that has a coefficient, from 0 to 1; none of a loss of one term.

    Args:
        loss: The loss.
        values: What :meth:`~nequip_like.metrics.manager.MetricsManager.compute` gave.

    Example:
        0.25 times 1 of 3.25, and 0.75 times 4:

        >>> import torch
        >>> from nequip_like.metrics import EnergyForceLoss
        >>> values = {"per_atom_energy_mse": 1.0, "forces_mse": 4.0, "weighted_sum": 3.25}
        >>> shares = compute_shares(
        ...     EnergyForceLoss({"total_energy": 1.0, "forces": 3.0}),
        ...     {name: torch.tensor(value) for name, value in values.items()},
        ... )
        >>> {name: round(float(share), 4) for name, share in shares.items()}
        {'per_atom_energy_mse': 0.0769, 'forces_mse': 0.9231}
    """
    coeffs = {name: coeff for name, coeff in loss.coeffs.items() if coeff is not None}
    if len(coeffs) < 2 or WEIGHTED_SUM not in values:
        return {}
    # A term without a label in the epoch is NaN and adds nothing.
    shares = {name: (values[name] * coeff).nan_to_num(0.0) for name, coeff in coeffs.items()}
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def describe_loss(shares: Mapping[str, float]) -> str:
    """The shares in one line.

    Example:
        >>> describe_loss({"forces_mse": 0.987, "stress_mse": 0.0134})
        'loss: forces_mse 98.7 %, stress_mse 1.3 %'
    """
    return "loss: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items())


def describe_small_shares(loss: MetricsManager, shares: Mapping[str, float]) -> list[str]:
    """A sentence for each term with less than 1 % of the loss.

    Energies beside forces may have much less: their differences are learnt from the forces, too, and per atom they are
    small numbers. In a training of molecules with equal coefficients they have 0.1 %, and come out well.

    Args:
        loss: The loss.
        shares: What :func:`compute_shares` gave.
    """
    labels = {term.name: _name_key(term.modifier) for term in loss.terms}
    forces = any(label == FORCES and loss.coeffs[name] for name, label in labels.items())
    return [
        f"note: {name} has {100 * share:.2g} % of the loss, so it is hardly trained: raise its coefficient, "
        f"training_module.loss.{'weights' if loss.absolute else 'coeffs'}.{labels[name]}"
        for name, share in shares.items()
        if share < (_SMALL_ENERGY if forces and labels[name] == TOTAL_ENERGY else _SMALL) and loss.coeffs[name]
    ]


def _name_key(modifier: object) -> str:
    return str(getattr(modifier, "field", "NAME"))

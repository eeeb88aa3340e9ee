"""A committee of one training: members that differ in their last layers, drawn from what the training data allow."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from nequip_like.errors import ModelError
from nequip_like.model.committee import CommitteePotential
from nequip_like.model.last_layer import LastLayerUncertainty, announce_weights
from nequip_like.model.potential import Potential


def draw_members(potential: Potential, members: int = 8, seed: int = 0) -> CommitteePotential:
    """Make a committee of a single potential, by its last-layer uncertainty.

    Members are the potential with other weights in its last layer, ``w + R z``, where ``R R^T`` is the calibrated
    covariance of these weights. So their energies spread by ``energy_uncertainty``, and their forces, as derivatives of
    the same energies, by the standard deviation that belongs to it; both up to the chance of so few draws. The draws
    add up to zero: the committee's mean is what the potential predicts.

    Args:
        potential: A potential that has an uncertainty; it stays as it is.
        members: How many, two or more.
        seed: Of the draws.

    Returns:
        The committee, whose members have no uncertainties of their own.

    Raises:
        ModelError: If the potential has no uncertainty, its family does not tell the weights of its last layer, or
            these are a sum of others (low-rank adaptation, before it is merged by a model file).
    """
    uncertainty = potential.uncertainty
    if not isinstance(uncertainty, LastLayerUncertainty):
        raise ModelError(
            "the potential has no uncertainty of its last layer, which members could be drawn by",
            "train with uncertainty=llpr, or fit_uncertainty(potential, train_set, val_set)",
        )
    if not all(isinstance(weight, nn.Parameter) for weight in announce_weights(potential.energy_model)):
        raise ModelError(
            "the weights of the last layer are adapted by a low-rank product, to which no draw could be added",
            "save the potential, and draw from the file, which has their sum",
        )
    changes = draw_changes(uncertainty.root, members, seed)
    drawn = []
    for change in changes:
        member = copy.deepcopy(potential)
        member.uncertainty = None
        add_to_last_layer(announce_weights(member.energy_model), change)
        drawn.append(member)
    return CommitteePotential(drawn).eval()


def draw_changes(root: Tensor, members: int, seed: int) -> Tensor:
    """Changes of weights (members, weights) with the covariance ``root root^T`` and a mean of exactly zero.

    Args:
        root: Shape (weights, weights), float64.
        members: How many.
        seed: Of the draws.

    Example:
        >>> changes = draw_changes(torch.tensor([[2.0]], dtype=torch.float64), 10_000, 0)
        >>> round(float(changes.std()), 1), abs(float(changes.mean())) < 1e-12
        (2.0, True)
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(members, root.shape[1], generator=generator, dtype=torch.float64)
    # Around their own mean they are closer than around that of the Gaussian: the factor makes up for it.
    draws = (draws - draws.mean(0)) * (members / max(1, members - 1)) ** 0.5
    return draws.to(root.device) @ root.T


def add_to_last_layer(weights: list[Tensor], change: Tensor) -> None:
    """Add a change (features,) to weights, in place.

    Args:
        weights: Those of the last layer, in the order of its features.
        change: One number for each of them.
    """
    sizes = [weight.numel() for weight in weights]
    with torch.no_grad():
        for weight, part in zip(weights, change.split(sizes), strict=True):
            weight += part.reshape(weight.shape).to(weight.dtype)

"""Uncertainty of a single potential from the features that its last layer is given.

The energy of a structure is linear in the weights ``w`` of the last layer: ``E = f . w + rest`` with the features
``f = dE/dw``, summed over the atoms. Of all weights that fit the training data about as well, those of a Gaussian
with the covariance ``(F^T F + s^2 I)^-1`` around ``w`` are the ones that a linear fit would allow, where the rows of
``F`` are the features of the training structures. So the variance of a predicted energy is

    ``sigma^2(f) = a^2 f^T (F^T F + s^2 I)^-1 f``

up to the scale ``a``, which held-out errors tell: the last-layer prediction rigidity, LLPR (F. Bigi, S. Chong,
M. Ceriotti, F. Grasselli, Machine Learning: Science and Technology 5, 045018, 2024).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from nequip_like.data.fields import Graph
from nequip_like.errors import ModelError


@runtime_checkable
class LastLayerModel(Protocol):
    """What a model family supplies so that its potentials can have uncertainties of their own.

    One that gets the features along with the derivatives may supply
    ``predict_with_features(graph) -> tuple[Differentiated, Tensor] | None`` beside. One whose members can be drawn
    (``committee/last_layer_draws.py``) is a :class:`DrawnModel`, too.
    """

    def last_layer_features(self, graph: Graph) -> Tensor:
        """Derivative of each structure's energy by the weights of the last layer, shape (graphs, features), float64.

        Args:
            graph: Structures with positions, cells, ``atom_types`` and edges.
        """
        ...


@runtime_checkable
class DrawnModel(Protocol):
    """What a model family supplies beside its features, so that committees can be drawn from one training."""

    def last_layer_weights(self) -> list[Tensor]:
        """The weights of the last layer, in the order of its features; the energy is linear in them."""
        ...


@dataclass(frozen=True)
class Calibration:
    """How the scale of an uncertainty was found.

    Attributes:
        method: ``scale``: the scale under which held-out errors are most likely, ``a^2 = mean((error / sigma)^2)``.
            ``conformal``: the one with which a stated share of held-out errors is below the Gaussian's quantile.
        frames: Number of held-out structures.
        held_out: Whether these were kept from the training; False tells that there were none.
        coverage: The stated share; None of ``scale``.
        regularizer: ``s``.
        scale: ``a``.
        train_frames: Number of training structures in the covariance.
    """

    method: str
    frames: int
    held_out: bool
    coverage: float | None
    regularizer: float
    scale: float
    train_frames: int

    def describe(self) -> dict[str, Any]:
        """As JSON values, for the card of a model file."""
        return asdict(self)


class LastLayerUncertainty(nn.Module):
    """Standard deviation of energies: ``sigma = |f R|`` with ``R R^T = a^2 (F^T F + s^2 I)^-1``.

    Its numbers are no part of a potential's ``state_dict``: they belong to the weights that they were made with.

    Args:
        root: ``R``, shape (features, features), float64.
        calibration: Where it comes from.

    Example:
        >>> calibration = Calibration("scale", 10, True, None, 0.0, 1.0, 20)
        >>> model = LastLayerUncertainty(torch.tensor([[2.0, 0.0], [0.0, 0.5]], dtype=torch.float64), calibration)
        >>> model(torch.tensor([[1.5, 0.0], [0.0, 2.0]], dtype=torch.float64)).tolist()
        [[3.0], [1.0]]
    """

    root: Tensor

    def __init__(self, root: Tensor, calibration: Calibration) -> None:
        super().__init__()
        self.register_buffer("root", root.to(torch.float64), persistent=False)
        self.calibration = calibration

    def forward(self, features: Tensor) -> Tensor:
        """Standard deviation of each structure's energy, shape (graphs, 1), eV.

        Args:
            features: Shape (graphs, features), float64.
        """
        if features.device.type == "cpu":  # by NumPy, which takes a tenth of torch's time for a structure or two
            return torch.from_numpy(np.linalg.norm(features.numpy() @ self.root.numpy(), axis=1, keepdims=True))
        return torch.linalg.vector_norm(features @ self.root, dim=1, keepdim=True)


def announce_features(energy_model: nn.Module) -> LastLayerModel:
    """The energy model as one with last-layer features.

    Raises:
        ModelError: If its family has none.
    """
    if not isinstance(energy_model, LastLayerModel):
        raise ModelError(
            f"{type(energy_model).__name__} does not tell the features of its last layer",
            "write uncertainty: none, or give its family last_layer_features (docs/reference/uncertainty.md)",
        )
    return energy_model


def announce_weights(energy_model: nn.Module) -> list[Tensor]:
    """The weights of the last layer of an energy model.

    Raises:
        ModelError: If its family does not tell them.
    """
    if not isinstance(energy_model, DrawnModel):
        raise ModelError(
            f"{type(energy_model).__name__} does not tell the weights of its last layer",
            "train a committee, or give its family last_layer_weights (docs/reference/uncertainty.md)",
        )
    return energy_model.last_layer_weights()

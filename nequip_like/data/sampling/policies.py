"""Weights by which training frames are drawn, as aenet-PyTorch defines them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nequip_like.arguments import Count, NotNegative, check, check_key
from nequip_like.data import fields
from nequip_like.data.tables.frame_table import FrameTable
from nequip_like.errors import ConfigError, DataError, closest_hint

UNIFORM, ENERGY_WEIGHTED, ERROR_WEIGHTED = POLICIES = ("uniform", "energy_weighted", "error_weighted")
_SMALLEST = 1e-12  # of a weight that is not to be zero


@dataclass(frozen=True)
class Sampling:
    """What a config says of it.

    Attributes:
        policy: One of :data:`POLICIES`. With ``uniform`` each frame is drawn once before any is drawn again; with the
            others frames are drawn independently, in proportion to their weights.
        samples_per_epoch: Frames of an epoch; as many as there are by default.
        bootstrap: Seed by which as many frames as there are, are drawn with replacement before training: some count
            twice or more, about 37 % are left out. Reference energies and statistics are those of all frames.
    """

    policy: str = UNIFORM
    samples_per_epoch: int | None = None
    bootstrap: int | None = None

    @classmethod
    def read(cls, section: Mapping[str, Any] | None) -> Sampling:
        """The sampling of ``data.sampling``.

        Raises:
            ConfigError: If a key or the policy is unknown, or the number is none.
        """
        values = dict(section or {})
        for key in values:
            check_key("sampling", key, [entry.name for entry in dataclasses.fields(cls)])
        sampling = cls(**values)
        if sampling.policy not in POLICIES:
            raise ConfigError(
                f"sampling.policy is {sampling.policy!r}",
                f"{closest_hint(sampling.policy, POLICIES)}the policies are {', '.join(POLICIES)}",
            )
        if sampling.samples_per_epoch is not None:
            check("sampling.samples_per_epoch", sampling.samples_per_epoch, Count)
        if sampling.bootstrap is not None:
            check("sampling.bootstrap", sampling.bootstrap, NotNegative)
            if sampling.policy != UNIFORM:
                raise ConfigError(
                    f"sampling.bootstrap and sampling.policy={sampling.policy} are given", "draw frames by one of them"
                )
        return sampling


def compute_energy_weights(table: FrameTable, references: Mapping[str, float]) -> np.ndarray:
    """Weights that fall with the energy: ``1 / (1 + (e - min e) / (max e - min e))``, between 1 and 1/2.

    ``e`` is the energy per atom above the reference energies. A frame without an energy has the mean of the others.

    Args:
        table: The table of the frames.
        references: Reference energy of each species, eV; of others 0.

    Returns:
        Weights (frames,).

    Raises:
        DataError: If no frame has an energy.
    """
    energies = table.compute_energies(references)
    labelled = table.find_labelled(fields.TOTAL_ENERGY)
    if not labelled.any():
        raise DataError("no training frame has an energy to sample by", "write sampling.policy: uniform")
    above = energies[labelled] - energies[labelled].min()
    weights = np.ones(len(table))
    if above.max() > 0:
        weights[labelled] = 1.0 / (1.0 + above / above.max())
        weights[~labelled] = weights[labelled].mean()
    return weights


def compute_error_weights(scores: np.ndarray) -> np.ndarray:
    """Weights in proportion to scores, with a mean of 1.

    A score that is negative or not finite counts as 0; where all are 0 all weights are 1, else none is below 1e-12.

    Args:
        scores: Mean absolute error of the energy per atom of each frame, when it was drawn last (frames,), eV.

    Example:
        >>> weights = compute_error_weights(np.array([2.0, 0.0, np.nan, 1.0]))
        >>> [float(f"{weight:.3g}") for weight in weights]
        [2.67, 1.33e-12, 1.33e-12, 1.33]
    """
    sound = np.where(np.isfinite(scores), np.maximum(scores, 0.0), 0.0)
    if not sound.any():
        return np.ones(len(sound))
    raised = np.maximum(sound, _SMALLEST)
    weights: np.ndarray = raised / raised.mean()
    return weights

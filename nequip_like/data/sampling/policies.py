"""Weights by which training frames are drawn, as aenet-PyTorch defines them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from nequip_like.arguments import Count, NotNegative, Positive, Range, check, check_key
from nequip_like.data import fields
from nequip_like.data.tables.frame_table import FrameTable
from nequip_like.errors import ConfigError, DataError, closest_hint

UNIFORM, ENERGY_WEIGHTED, ERROR_WEIGHTED = POLICIES = ("uniform", "energy_weighted", "error_weighted")
RANDOM, FIXED = FORCE_SAMPLINGS = ("random", "fixed")
_SMALLEST = 1e-12  # of a weight that is not to be zero

_KINDS: dict[str, Any] = {
    "samples_per_epoch": Count | None,
    "temperature": Positive,
    "force_fraction": Annotated[float, Range(low=0, high=1, low_open=True)],
    "force_resample_num_epochs": NotNegative,
    "force_min_structures_per_epoch": NotNegative,
    "force_scale_unbiased": bool,
}


@dataclass(frozen=True)
class Sampling:
    """What a config says of it.

    Attributes:
        policy: One of :data:`POLICIES`. With ``uniform`` each frame is drawn once before any is drawn again; with the
            others frames are drawn independently, in proportion to their weights.
        samples_per_epoch: Frames of an epoch; as many as there are by default.
        temperature: ``T`` of the shares of several data sets, see
            :meth:`~nequip_like.data.sampling.mixtures.MixedFrames.compute_shares`.
        force_fraction: Part of the frames with forces whose forces are trained on; of the others only the energy (and
            whatever else they have) is.
        force_sampling: ``random``: these frames are drawn anew from time to time; ``fixed``: never.
        force_resample_num_epochs: After how many epochs they are drawn anew; 0: never.
        force_min_structures_per_epoch: Fewest of them.
        force_scale_unbiased: Multiply errors of forces in the loss by ``sqrt(1 / f)``, where ``f`` is the number of
            atoms of a batch whose forces are trained on, divided by that of those that have forces.
    """

    policy: str = UNIFORM
    samples_per_epoch: int | None = None
    temperature: float = 1.0
    force_fraction: float = 1.0
    force_sampling: str = RANDOM
    force_resample_num_epochs: int = 0
    force_min_structures_per_epoch: int = 1
    force_scale_unbiased: bool = False

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
        for key, options in (("policy", POLICIES), ("force_sampling", FORCE_SAMPLINGS)):
            value = getattr(sampling, key)
            if value not in options:
                raise ConfigError(
                    f"sampling.{key} is {value!r}", f"{closest_hint(value, options)}write one of {', '.join(options)}"
                )
        for key, kind in _KINDS.items():
            check(f"sampling.{key}", getattr(sampling, key), kind)
        asked = [key for key in values if key.startswith("force_") and key != "force_fraction"]
        if asked and sampling.force_fraction == 1:
            raise ConfigError(
                f"sampling.{asked[0]} is given, but all forces are trained on",
                "give sampling.force_fraction, such as 0.3, or leave it out",
            )
        if sampling.force_sampling == FIXED and sampling.force_resample_num_epochs:
            raise ConfigError(
                "sampling.force_sampling is fixed, but force_resample_num_epochs is "
                f"{sampling.force_resample_num_epochs}",
                "write force_sampling: random, or leave one of them out",
            )
        return sampling

    @property
    def draws_frames(self) -> bool:
        """Whether it says itself which frames an epoch has, beside the shares of data sets."""
        return self.policy != UNIFORM or self.samples_per_epoch is not None


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

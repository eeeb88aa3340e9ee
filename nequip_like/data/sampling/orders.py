"""Which order of frames a config asks for: by weights, of several sets, with replay, or of epochs of another length."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from nequip_like.data.prepare import Prepared
from nequip_like.data.samplers import FrameBatchSampler
from nequip_like.data.sampling.policies import (
    ENERGY_WEIGHTED,
    ERROR_WEIGHTED,
    Sampling,
    compute_energy_weights,
)
from nequip_like.data.sampling.samplers import (
    BootstrapSampler,
    ErrorWeightedSampler,
    MixtureSampler,
    RoundsSampler,
    WeightedSampler,
)


def build_order(
    data: Prepared, sampling: Sampling, num_replayed: int, batch_size: int, **arguments: Any
) -> FrameBatchSampler:
    """Build the order of the training frames, and of those that are replayed, whose indices are behind them.

    Args:
        data: The data sets.
        sampling: What the config says.
        num_replayed: Frames of replay in an epoch.
        batch_size: Frames per batch and process.
        **arguments: As for :class:`~nequip_like.data.samplers.FrameBatchSampler`.

    Raises:
        ConfigError: If an epoch would have no frame of one of several sets.
        DataError: If frames are to be drawn by their energies, and none (of one of several sets) has one.
    """
    frames, mixed = len(data.train), data.mixed
    samples = sampling.samples_per_epoch
    if sampling.policy == ERROR_WEIGHTED:
        balance = None if mixed is None else partial(mixed.balance, temperature=sampling.temperature)
        return ErrorWeightedSampler(frames, samples or frames, batch_size, balance=balance, **arguments)
    if sampling.policy == ENERGY_WEIGHTED:
        return WeightedSampler(_weigh_energies(data, sampling), samples or frames, batch_size, **arguments)
    if mixed is not None or data.replay is not None:
        parts: list[Sequence[int]] = [range(frames)] if mixed is None else list(map(mixed.list_frames, mixed.names))
        drawn = [frames] if mixed is None else list(count_draws(data, sampling).values())
        if data.replay is not None:
            parts.append(range(frames, frames + len(data.replay)))
            drawn.append(num_replayed)
        return MixtureSampler(parts, drawn, batch_size, **arguments)
    if (draw_seed := sampling.bootstrap) is not None:
        return BootstrapSampler(frames, samples or frames, batch_size, draw_seed, **arguments)
    if samples is not None:
        return RoundsSampler(frames, samples, batch_size, **arguments)
    return FrameBatchSampler(frames, batch_size, **arguments)


def count_draws(data: Prepared, sampling: Sampling) -> dict[str, int]:
    """``{set: frames of it in an epoch}`` of several sets; with weights of frames, on average. Empty of one set.

    Raises:
        ConfigError: If a set would have none.
    """
    if data.mixed is None:
        return {}
    samples = sampling.samples_per_epoch or len(data.train)
    return dict(zip(data.mixed.names, data.mixed.count_draws(samples, sampling.temperature), strict=True))


def _weigh_energies(data: Prepared, sampling: Sampling) -> np.ndarray:
    """Weights by energies; of several sets within each, for the sets have their shares."""
    references = {} if data.reference is None else data.reference.energies
    table, mixed = data.train.table, data.mixed
    if mixed is None:
        return compute_energy_weights(table, references)
    weights = np.ones(len(table))
    for name in mixed.names:
        frames = mixed.list_frames(name)
        weights[frames] = compute_energy_weights(table.select(frames), references)
    return mixed.balance(weights, sampling.temperature)

"""One small model that is fitted to some frames: a plain loop, as no validation, checkpoint or log is wanted of it.

Its loss is robust (Huber's, linear beyond 0.1 eV/atom and 0.5 eV/Angstrom), so a few labels that are far off among
those that it learns from pull it by their number and not by their size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate
from nequip_like.metrics.losses import FieldLoss
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.terms import PER_ATOM_ENERGY, WEIGHTED_SUM
from nequip_like.model.builders import NequIPGNNModel
from nequip_like.model.potential import Potential
from nequip_like.optim.build import build_optimizer
from nequip_like.optim.schedules.curves import cosine

_MODEL: dict[str, Any] = {"l_max": 2, "parity": False, "num_layers": 2, "num_features": 16, "radial_mlp_depth": 1}
_RATE = 0.03
_OPTIMIZER = {"_target_": "nequip_like.optim.soap.SOAPAndAdamW", "lr": _RATE}
_ENERGY_WEIGHT = 10.0
# eV/atom, eV/Angstrom; the loss is linear beyond. Smaller ones leave rare frames unlearnt: with 0.01 the nine surfaces
# of a set of molybdenum were 0.3 eV/atom off, with these 0.03.
_DELTAS = {PER_ATOM_ENERGY: 0.1, fields.FORCES: 0.5}
_WARMUP = 0.05  # of the steps
_ATOMS = 100  # of a step
_LEAST_FRAMES = 2  # of a step: a single one decides too much
_LARGEST_GRADIENT = 10.0


@dataclass(frozen=True)
class ModelScales:
    """What the models take from the data.

    Attributes:
        shifts: Energy of each species, eV.
        forces_rms: Root mean square of force components, or without forces the spread of energies, eV/Angstrom.
        neighbors: Neighbours of an atom, mean.
    """

    shifts: Mapping[str, float]
    forces_rms: float
    neighbors: float


def choose_batch_size(dataset: GraphDataset, used: Sequence[int] | np.ndarray) -> int:
    """Frames of a step: some hundred atoms, for many steps teach more than exact ones."""
    atoms = float(dataset.table.atoms[np.asarray(used)].mean())
    return max(_LEAST_FRAMES, round(_ATOMS / atoms))


def fit_model(
    dataset: GraphDataset,
    used: Sequence[int] | np.ndarray,
    scales: ModelScales,
    steps: int,
    seed: int,
    tell: Callable[[], None] = lambda: None,
) -> Potential:
    """Fit a small model to some frames: energies and forces, with a rate that rises shortly and falls as a cosine.

    Args:
        dataset: The frames, with neighbour lists.
        used: Which of them it learns from.
        scales: What the models of the data share.
        steps: Number of steps.
        seed: Of its weights and of the order of frames.
        tell: Called after each step.

    Returns:
        The model, ready to predict.
    """
    model = NequIPGNNModel(
        seed=seed,
        model_dtype="float32",
        type_names=dataset.type_names,
        r_max=dataset.cutoff,
        avg_num_neighbors=scales.neighbors,
        per_type_energy_scales=scales.forces_rms,
        per_type_energy_shifts=dict(scales.shifts),
        **_MODEL,
    )
    loss = _build_loss(dataset)
    optimizer = build_optimizer(_OPTIMIZER, model)
    batches = _draw_batches(dataset, np.asarray(used), seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * _compute_share(step, steps)
        batch = next(batches)
        optimizer.zero_grad()
        loss.step(model(batch), batch)[WEIGHTED_SUM].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), _LARGEST_GRADIENT)
        optimizer.step()
        tell()
    return model.eval()


def _build_loss(dataset: GraphDataset) -> MetricsManager:
    """A robust loss of the labels that there are."""
    terms = {
        term: weight
        for label, term, weight in (
            (fields.TOTAL_ENERGY, PER_ATOM_ENERGY, _ENERGY_WEIGHT),
            (fields.FORCES, fields.FORCES, 1.0),
        )
        if label in dataset.labels
    }
    deltas = {term: _DELTAS[term] for term in terms}
    return FieldLoss(terms, type_names=dataset.type_names, function="huber", delta=deltas)


def time_step(dataset: GraphDataset, used: Sequence[int], scales: ModelScales, steps: int = 12) -> float:
    """Seconds of a step, the median of some; what is compiled before the first is not counted."""
    times = [time.perf_counter()]
    fit_model(dataset, used, scales, steps, 0, tell=lambda: times.append(time.perf_counter()))
    return float(np.median(np.diff(times)[2:]))


def _compute_share(step: int, steps: int) -> float:
    """Share of the highest rate: a line up, then half a cosine down."""
    rise = (step + 1) / max(1.0, _WARMUP * steps)
    return min(1.0, rise) * cosine(step, steps)


def _draw_batches(dataset: GraphDataset, frames: np.ndarray, seed: int) -> Iterator[Graph]:
    """Batches without end: each round has all frames once, in a new order."""
    size = choose_batch_size(dataset, frames)
    generator = np.random.default_rng(seed)
    queue: list[int] = []
    while True:
        while len(queue) < size:
            queue += generator.permutation(frames).tolist()
        indices, queue = queue[:size], queue[size:]
        yield collate(dataset.__getitems__(indices))

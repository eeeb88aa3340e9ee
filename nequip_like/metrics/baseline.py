"""Errors of a model that knows nothing: no forces, no stress, reference energies with the mean of what they leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate
from nequip_like.data.tables.frame_table import LARGE_NUMBERS, FrameTable, list_references, tabulate
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.terms import WEIGHTED_SUM

_BATCH = 256
_PREDICTED = frozenset((fields.TOTAL_ENERGY, fields.FORCES, fields.STRESS, fields.VIRIAL))
_GRAPH = (fields.POSITIONS, fields.NUM_ATOMS, fields.ATOM_TYPES, fields.CELL, fields.FRAME_WEIGHT, fields.ATOM_WEIGHT)
_USED = (*_GRAPH, *fields.LABEL_WEIGHTS.values(), fields.TOTAL_ENERGY, fields.FORCES, fields.STRESS)


@LARGE_NUMBERS
def compute_mean_remainder(table: FrameTable, references: Mapping[str, float]) -> float:
    """What reference energies leave per atom, in the mean over frames with an energy, eV; 0 if there are none.

    Args:
        table: The table of the frames.
        references: Reference energy of each species, eV; of others 0.
    """
    labelled = table.find_labelled(fields.TOTAL_ENERGY)
    return float(table.compute_energies(references)[labelled].mean()) if labelled.any() else 0.0


def compute_baseline_errors(
    frames: Sequence[Graph], manager: MetricsManager, references: Mapping[str, float], mean: float
) -> dict[str, float]:
    """Errors of the baseline over a whole data set, as a manager measures them: masked, weighted, by name.

    Args:
        frames: The frames of the data set.
        manager: The metrics. Those of anything but energies, forces, stress and virial are left out; then there is no
            weighted sum either.
        references: Reference energy of each species, eV; of others 0.
        mean: What is added for each atom, eV.
    """
    labels = set(tabulate(frames).count_labels())
    terms = [
        term
        for term in manager.terms
        if term.modifier is not None
        and term.modifier.prediction_fields
        and term.modifier.prediction_fields <= _PREDICTED
        and term.modifier.target_fields <= labels | {fields.CELL}
    ]
    if not terms:
        return {}
    coeffs = manager.configured_coeffs
    entries = [
        {
            "name": term.name,
            "field": term.modifier,
            "metric": term.metric,
            "average": term.average,
            "ignore_nan": term.ignore_nan,
            "coeff": coeffs[term.name],
        }
        for term in terms
        if not term.type_names
    ]
    of_number = torch.from_numpy(list_references(references))
    sums = MetricsManager(entries, sync=False, absolute=manager.absolute)
    for start in range(0, len(frames), _BATCH):
        chosen = frames[start : start + _BATCH]
        batch = collate([{key: frame[key] for key in _USED if key in frame} for frame in chosen])
        energies = [float((of_number[frame[fields.ATOMIC_NUMBERS]] + mean).sum()) for frame in chosen]
        no_stress = torch.zeros(len(chosen), 3, 3, dtype=torch.float64)
        sums.update(
            {
                **batch,
                fields.TOTAL_ENERGY: torch.tensor(energies, dtype=torch.float64)[:, None],
                fields.FORCES: torch.zeros_like(batch[fields.POSITIONS]),
                fields.STRESS: no_stress,
                fields.VIRIAL: no_stress,
            },
            batch,
        )
    errors = {name: float(value) for name, value in sums.compute().items()}
    weighted = {term.name for term in manager.terms if coeffs[term.name]}
    if not weighted <= errors.keys():
        errors.pop(WEIGHTED_SUM, None)
    return errors

"""Frames that look like another level of theory: their energies lie apart by the same, as another functional's do.

The energies of two levels of theory differ mostly by an energy for each atom of a species, their forces by some
percent. So among the frames whose energies stand out, those are looked for that have one shift in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.workflow.label_audit.committee import Predictions
from nequip_like.workflow.label_audit.scores import Scores
from nequip_like.workflow.label_audit.suspects import ENERGY_LIMIT, Suspect

_FEWEST, _FEWEST_FAR = 3, 2  # frames of a group; of one that is far off, for two such energies do not agree by chance
_FAR = 50.0  # typical residuals
_COMMON = 0.15  # of the shift, that energies of one group may differ by before species are told apart
_REST = 3.0  # typical residuals, that may be left of each
_ROUNDS = 5


@dataclass(frozen=True)
class TheoryLevel:
    """Frames with a shift of the energy in common.

    Attributes:
        frames: Their positions.
        shift: Of the energy per atom, eV, mean.
        species: Shift of each species, eV; None where compositions do not tell them apart.
        slope: What the forces are, times those that are predicted.
    """

    frames: tuple[int, ...]
    shift: float
    species: Mapping[str, float] | None
    slope: float | None

    def describe(self) -> str:
        """As a sentence."""
        shifts = (
            "" if self.species is None else " (" + ", ".join(f"{s} {e:+.3f}" for s, e in self.species.items()) + ")"
        )
        forces = "" if self.slope is None else f", forces {self.slope:.3f} times those of the others"
        return (
            f"{len(self.frames)} frames look like another level of theory: energies {1000 * self.shift:+.4g} meV/atom "
            f"from the others{shifts}{forces}"
        )


def find_levels(dataset: GraphDataset, predictions: Predictions, scores: Scores) -> list[TheoryLevel]:
    """Groups of frames whose energies have a shift in common, the largest first.

    Args:
        dataset: The frames.
        predictions: Of models that have not seen them.
        scores: How labels compare with that.
    """
    candidates = np.flatnonzero(scores.energy_score > ENERGY_LIMIT).tolist()
    levels = []
    while len(candidates) >= _FEWEST_FAR:
        members, shifts = _grow_group(dataset, scores, candidates)
        far = len(members) > 0 and abs(float(scores.energy[members].mean())) > _FAR * scores.typical_energy
        if len(members) < (_FEWEST_FAR if far else _FEWEST):
            break
        levels.append(
            TheoryLevel(
                tuple(members),
                float(scores.energy[members].mean()),
                shifts,
                measure_slope(dataset, predictions, members),
            )
        )
        candidates = [i for i in candidates if i not in members]
    return sorted(levels, key=lambda level: -len(level.frames))


def mark_levels(suspects: Sequence[Suspect], levels: Sequence[TheoryLevel]) -> list[Suspect]:
    """The suspects, with those of groups named so."""
    level_of = {frame: (number, level) for number, level in enumerate(levels) for frame in level.frames}
    marked = []
    for suspect in suspects:
        if suspect.frame in level_of and suspect.kind in ("energy", "energy and forces"):
            number, level = level_of[suspect.frame]
            text = f"another level of theory, of {len(level.frames)} frames with {1000 * level.shift:+.4g} meV/atom"
            changed = replace(suspect, kind="level of theory", reason=text, action="drop")
            suspect = changed.with_evidence(group=number, group_forces=level.slope)
        marked.append(suspect)
    return marked


def measure_slope(dataset: GraphDataset, predictions: Predictions, members: Sequence[int]) -> float | None:
    """What forces are, times the predicted ones, by least squares over some frames; None without forces."""
    product = square = 0.0
    for i in members:
        if fields.FORCES not in dataset.frames[i]:
            continue
        labels, predicted = dataset.frames[i][fields.FORCES].numpy(), predictions.forces[i]
        labelled = ~np.isnan(labels)
        product += float((labels[labelled] * predicted[labelled]).sum())
        square += float((predicted[labelled] ** 2).sum())
    return product / square if square > 0 else None


def _grow_group(
    dataset: GraphDataset, scores: Scores, candidates: Sequence[int]
) -> tuple[list[int], Mapping[str, float] | None]:
    """The most frames that have one shift, and this of each species as far as it is known."""
    shift = scores.energy[candidates]
    tolerance = np.maximum(_COMMON * np.abs(shift), _REST * scores.typical_energy)
    counts = [(np.abs(shift - value) < limit).sum() for value, limit in zip(shift, tolerance, strict=True)]
    centre = int(np.argmax(counts))
    in_group = np.abs(shift - shift[centre]) < tolerance[centre]
    fractions = dataset.table.compute_fractions(_list_numbers(dataset), np.asarray(candidates))
    solution = np.zeros(fractions.shape[1])
    for _ in range(_ROUNDS):
        solution = np.linalg.lstsq(fractions[in_group], shift[in_group], rcond=1e-6)[0]
        residuals = np.abs(shift - fractions @ solution)
        closer = residuals < np.maximum(_REST * scores.typical_energy, 0.02 * np.abs(shift))
        if (closer == in_group).all():
            break
        if closer.sum() < _FEWEST_FAR:
            return [], None
        in_group = closer
    members = [int(candidates[k]) for k in np.flatnonzero(in_group).tolist()]
    told_apart = np.linalg.matrix_rank(fractions[in_group], tol=1e-3) == fractions.shape[1] > 1
    enough = len(members) > fractions.shape[1]
    shifts = dict(zip(dataset.type_names, map(float, solution), strict=True)) if told_apart and enough else None
    return members, shifts


def _list_numbers(dataset: GraphDataset) -> list[int]:
    from ase.data import atomic_numbers

    return [atomic_numbers[name] for name in dataset.type_names]

"""Frames whose labels stand far out, and what is the matter with each: the kinds of faults, and what mends them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.selection.repair_file import Action
from nequip_like.workflow.label_audit.committee import FoldModels, Predictions
from nequip_like.workflow.label_audit.scores import Scores

# Scores above which a label stands out. Errors of models have longer tails than a normal distribution: of the right
# frames of two molecules and of a metal, the largest scores were 3.4 to 4.1 of energies, and of the worst force of a
# frame 4.6, 4.0 and 7.1, where the median frame has a worst one of 1.3, 1.7 and 2.4.
ENERGY_LIMIT = 6.5
FORCE_LIMIT = 5.5
_MEDIAN_FACTOR = 3.5  # the limit of forces is at least so many times the worst score of the median frame
# And never less than so many typical residuals: where models agree closely by chance, a small one has a large score.
_TYPICAL = 5.0
# An exchange that explains everything is believed from lower scores on. That of species leaves models without any
# idea: they differ from each other by as much as from the label. So it is the residual itself that is looked at.
_EXCHANGE_LIMIT = 4.0
_STRANGE = 15.0  # typical residuals
# Forces of a calculation add up to zero, and so do those of a model. One that is replaced shows in their sum; one that
# the models do not know does not: it is balanced by others, and has to stand out by more.
_BALANCED_FACTOR = 2.0
_SHARE_IN_SUM = 0.5  # of the residual, that the sum of forces is at least
_MOST_STRANGE = 300  # frames in which an exchange of species is looked for
_TRIED = 8  # atoms with the largest residuals, among which exchanges are looked for
_MENDED = 0.4  # an exchange is believed where it leaves less than that of the residuals
_WHOLE = 0.5  # of the atoms; where more stand out, it is the frame and not single atoms
_WHOLE_LIMIT = 4.0  # score of an atom of such a frame


@dataclass(frozen=True)
class Suspect:
    """A frame whose labels stand out.

    Attributes:
        frame: Its position.
        kind: ``energy``, ``exchanged forces``, ``force of an atom``, ``exchanged species``, ``forces``, ``energy and
            forces``, ``level of theory`` or ``contradiction``.
        action: What is proposed.
        reason: One sentence.
        atoms: The atoms it is about.
        evidence: Residuals, scores and more.
    """

    frame: int
    kind: str
    action: Action
    reason: str
    atoms: tuple[int, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def with_evidence(self, **values: Any) -> Suspect:
        """The same with further evidence."""
        return replace(self, evidence={**self.evidence, **values})


def choose_force_limit(scores: Scores) -> float:
    """The score above which a force stands out: higher in sets whose models have long tails.

    Args:
        scores: Those of all frames.
    """
    worst_scores = scores.worst[~np.isnan(scores.worst)]
    return max(FORCE_LIMIT, _MEDIAN_FACTOR * float(np.median(worst_scores))) if len(worst_scores) else FORCE_LIMIT


def find_suspects(
    dataset: GraphDataset, committee: FoldModels, predictions: Predictions, scores: Scores
) -> list[Suspect]:
    """Frames that stand out, each with what is most likely the matter with it.

    Args:
        dataset: The frames.
        committee: The models.
        predictions: What they say of frames that they have not seen.
        scores: How labels compare with that.
    """
    limits = _choose_limits(dataset, scores)
    strange = set(_list_strange(scores))
    suspects = []
    for i in range(len(dataset)):
        energy = abs(scores.energy[i])
        energy_out = scores.energy_score[i] > ENERGY_LIMIT and energy > _TYPICAL * scores.typical_energy
        large = scores.force[i] > _TYPICAL * scores.typical_force
        outlying = np.flatnonzero(large & (scores.force_score[i] > limits[i]))
        suspect = None
        if not energy_out and (large & (scores.force_score[i] > _EXCHANGE_LIMIT)).any():
            suspect = _judge_forces(i, dataset, predictions, scores)
        if suspect is None and i in strange:
            suspect = _judge_species(i, dataset, committee, scores)
        if suspect is None and (energy_out or len(outlying)):
            suspect = _describe(i, scores, outlying, bool(energy_out))
        if suspect is not None:
            suspects.append(suspect.with_evidence(**_measure(scores, i)))
    return suspects


def _choose_limits(dataset: GraphDataset, scores: Scores) -> np.ndarray:
    """The score above which a force of each frame stands out (frames,): lower where the sum of forces tells so, too.

    In data whose forces do not add up to zero, the sum says nothing.
    """
    limit = choose_force_limit(scores)
    limits, sums = np.full(len(scores.worst), limit), np.full(len(scores.worst), np.nan)
    if fields.FORCES not in dataset.labels:
        return limits
    for i, frame in enumerate(dataset.frames):
        sums[i] = np.linalg.norm(frame[fields.FORCES].numpy().sum(axis=0))
    has_forces = ~np.isnan(sums)
    if not has_forces.any() or float(np.median(sums[has_forces])) > scores.typical_force:
        return limits
    for i in np.flatnonzero(has_forces & ~np.isnan(scores.worst)).tolist():
        residual = scores.force[i][int(np.nanargmax(scores.force_score[i]))]
        unbalanced = sums[i] > max(_SHARE_IN_SUM * residual, _TYPICAL * scores.typical_force)
        limits[i] = _EXCHANGE_LIMIT if unbalanced else _BALANCED_FACTOR * limit
    return limits


def _list_strange(scores: Scores) -> list[int]:
    """Frames whose residuals are large, whatever the models know of them; the largest ones first."""
    largest = np.array([0.0 if np.isnan(part).all() else np.nanmax(part) for part in scores.force])
    excess = largest / scores.typical_force
    order = np.argsort(-excess, kind="stable")[:_MOST_STRANGE]
    return [int(i) for i in order if excess[i] > _STRANGE]


def _judge_forces(index: int, dataset: GraphDataset, predictions: Predictions, scores: Scores) -> Suspect | None:
    """A suspect if the forces of two atoms fit where they are exchanged."""
    labels = dataset.frames[index][fields.FORCES].numpy()
    pair = _find_exchanged_forces(labels, predictions.forces[index], scores.force[index])
    if pair is None:
        return None
    text = f"the forces of the atoms {pair[0]} and {pair[1]} are exchanged: put back, they are what models predict"
    return Suspect(index, "exchanged forces", "exchange_forces", text, pair)


def _judge_species(index: int, dataset: GraphDataset, committee: FoldModels, scores: Scores) -> Suspect | None:
    """A suspect if energy and forces fit where the species of two atoms are exchanged."""
    pair = _find_exchanged_species(index, dataset, committee, scores)
    if pair is None:
        return None
    types = dataset.frames[index][fields.ATOM_TYPES]
    atoms = " and ".join(f"{atom} ({dataset.type_names[int(types[atom])]})" for atom in pair)
    text = f"the species of the atoms {atoms} are exchanged: put back, energy and forces are what models predict"
    return Suspect(index, "exchanged species", "exchange_species", text, pair)


def _measure(scores: Scores, index: int) -> dict[str, Any]:
    """Residuals and scores of a frame, those of its worst force."""
    evidence: dict[str, Any] = {}
    if not np.isnan(scores.energy[index]):
        evidence["energy_residual"] = _round(scores.energy[index])
        evidence["energy_score"] = _round(scores.energy_score[index])
    if not np.isnan(scores.worst[index]):
        worst = int(np.nanargmax(scores.force_score[index]))
        evidence["force_atom"] = worst
        evidence["force_residual"] = _round(scores.force[index][worst])
        evidence["force_score"] = _round(scores.force_score[index][worst])
    return evidence


def _describe(index: int, scores: Scores, outlying: np.ndarray, energy_out: bool) -> Suspect:
    """A suspect by which of its labels stand out."""
    force, score = scores.force[index], scores.force_score[index]
    energy = f"the energy is {1000 * scores.energy[index]:+.3g} meV/atom off"
    if not len(outlying):
        text = f"{energy}, {scores.energy_score[index]:.0f} times what is usual; its forces agree with the models"
        return Suspect(index, "energy", "drop", text)
    few = len(outlying) <= 2 and np.nanmean(score > _WHOLE_LIMIT) < _WHOLE
    atoms = tuple(int(atom) for atom in outlying[np.argsort(-force[outlying], kind="stable")])
    forces_text = f"the force{'s' * (len(atoms) > 1)} of {_name_atoms(atoms)} {'are' if len(atoms) > 1 else 'is'} off"
    largest = f"by up to {np.nanmax(force):.3g} eV/Å, {np.nanmax(score):.0f} times what is usual"
    if energy_out:
        return Suspect(index, "energy and forces", "drop", f"{energy}, and {forces_text} {largest}", atoms)
    if few:
        text = f"{forces_text} {largest}; energy and the other atoms agree with the models"
        return Suspect(index, "force of an atom", "unlabel", text, atoms)
    return Suspect(index, "forces", "drop", f"{forces_text} {largest}; the energy agrees with the models", atoms)


def _find_exchanged_forces(labels: np.ndarray, predicted: np.ndarray, residual: np.ndarray) -> tuple[int, int] | None:
    """Two atoms whose labels fit if they are exchanged; None if there are none."""
    tried = np.argsort(-np.nan_to_num(residual))[:_TRIED].tolist()
    best, pair = _MENDED, None
    for a, b in combinations(tried, 2):
        as_labelled = np.hypot(residual[a], residual[b])
        exchanged = np.hypot(np.linalg.norm(labels[a] - predicted[b]), np.linalg.norm(labels[b] - predicted[a]))
        # Both were wrong, and the worst of all is among them.
        if (
            tried[0] in (a, b)
            and min(residual[a], residual[b]) > _MENDED * as_labelled / 2
            and exchanged < best * as_labelled
        ):
            best, pair = exchanged / as_labelled, (min(a, b), max(a, b))
    return pair


def _find_exchanged_species(
    index: int, dataset: GraphDataset, committee: FoldModels, scores: Scores
) -> tuple[int, int] | None:
    """Two atoms of different species, of which the models predict the labels if they are exchanged; None without."""
    frame, residual = dataset[index], scores.force[index]
    types = frame[fields.ATOM_TYPES]
    tried = np.argsort(-np.nan_to_num(residual))[:_TRIED].tolist()
    pairs = [(min(a, b), max(a, b)) for a, b in combinations(tried, 2) if int(types[a]) != int(types[b])]
    if not pairs:
        return None
    changed = []
    for a, b in pairs:
        exchanged = types.clone()
        exchanged[[a, b]] = types[[b, a]]
        changed.append({**frame, fields.ATOM_TYPES: exchanged})
    labels, energy = frame[fields.FORCES].numpy(), float(dataset.table.energy[index])
    as_labelled = float(np.sqrt(np.nanmean(residual**2)))
    best, pair = _MENDED * as_labelled, None
    enough = max(_MENDED * abs(scores.energy[index]), _TYPICAL * scores.typical_energy)
    for candidate, (predicted, forces) in zip(pairs, committee.predict_changed(index, changed), strict=True):
        residual_rms = float(np.sqrt(np.nanmean(np.square(labels - forces).sum(axis=1))))
        off = abs((energy - predicted) / len(labels) - scores.common)
        if residual_rms < best and not off > enough:
            best, pair = residual_rms, candidate
    return pair


def _name_atoms(atoms: Sequence[int], most: int = 4) -> str:
    ending = f" and {len(atoms) - most} more" if len(atoms) > most else ""
    return f"{'atoms' if len(atoms) > 1 else 'atom'} {', '.join(map(str, atoms[:most]))}{ending}"


def _round(value: float) -> float:
    return float(f"{value:.4g}")

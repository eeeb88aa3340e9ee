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
from nequip_like.workflow.label_audit.committee import Committee, Predictions
from nequip_like.workflow.label_audit.scores import Scores

# Scores above which a label stands out. Of 800 right frames of five sets of molecules, liquids and solids the largest
# were 7 to 12: tails of models' errors are longer than those of a normal distribution.
ENERGY_LIMIT = 12.0
FORCE_LIMIT = 13.0
# And never less than so many typical residuals: where models agree closely by chance, a small one has a large score.
_TYPICAL = 5.0
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


def stands_out(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """Which frames have an energy, and which have a force, that stands out (frames,) each."""
    energy = (scores.energy_score > ENERGY_LIMIT) & (np.abs(scores.energy) > _TYPICAL * scores.typical_energy)
    force = np.array([bool(_find_outlying_atoms(scores, i).any()) for i in range(len(scores.worst))], dtype=bool)
    return energy, force


def find_suspects(
    dataset: GraphDataset, committee: Committee, predictions: Predictions, scores: Scores
) -> list[Suspect]:
    """Frames that stand out, each with what is most likely the matter with it.

    Args:
        dataset: The frames.
        committee: The models.
        predictions: What they say of frames that they have not seen.
        scores: How labels compare with that.
    """
    energy_out, force_out = stands_out(scores)
    return [
        _explain(i, dataset, committee, predictions, scores, bool(energy_out[i]))
        for i in np.flatnonzero(energy_out | force_out).tolist()
    ]


def _explain(
    index: int,
    dataset: GraphDataset,
    committee: Committee,
    predictions: Predictions,
    scores: Scores,
    energy_out: bool,
) -> Suspect:
    outlying = np.flatnonzero(_find_outlying_atoms(scores, index))
    suspect = _describe(index, scores, outlying, energy_out)
    if not len(outlying):
        return suspect
    labels = dataset.frames[index][fields.FORCES].numpy()
    forces = _find_exchanged_forces(labels, predictions.forces[index], scores.force[index])
    if forces is not None and not energy_out:
        a, b = forces
        text = f"the forces of the atoms {a} and {b} are exchanged: put back, they are what models predict"
        return replace(suspect, kind="exchanged forces", action="exchange_forces", atoms=forces, reason=text)
    if (species := _find_exchanged_species(index, dataset, committee, scores)) is not None:
        names = [dataset.type_names[int(dataset.frames[index][fields.ATOM_TYPES][a])] for a in species]
        atoms = " and ".join(f"{atom} ({name})" for atom, name in zip(species, names, strict=True))
        text = f"the species of the atoms {atoms} are exchanged: put back, energy and forces are what models predict"
        return replace(suspect, kind="exchanged species", action="exchange_species", atoms=species, reason=text)
    return suspect


def _describe(index: int, scores: Scores, outlying: np.ndarray, energy_out: bool) -> Suspect:
    """A suspect by which of its labels stand out."""
    force, score = scores.force[index], scores.force_score[index]
    evidence: dict[str, Any] = {}
    if not np.isnan(scores.energy[index]):
        evidence |= {
            "energy_residual": _round(scores.energy[index]),
            "energy_score": _round(scores.energy_score[index]),
        }
    if not np.isnan(scores.worst[index]):
        worst = int(np.nanargmax(score))
        evidence |= {"force_atom": worst, "force_residual": _round(force[worst]), "force_score": _round(score[worst])}
    energy = f"the energy is {1000 * scores.energy[index]:+.3g} meV/atom off"
    if not len(outlying):
        text = f"{energy}, {scores.energy_score[index]:.0f} times what is usual; its forces agree with the models"
        return Suspect(index, "energy", "drop", text, (), evidence)
    few = len(outlying) <= 2 and np.nanmean(score > _WHOLE_LIMIT) < _WHOLE
    atoms = tuple(int(atom) for atom in outlying[np.argsort(-force[outlying], kind="stable")])
    named = f"the force{'s' * (len(atoms) > 1)} of {_name_atoms(atoms)} {'are' if len(atoms) > 1 else 'is'} off"
    largest = f"by up to {np.nanmax(force):.3g} eV/Å, {np.nanmax(score):.0f} times what is usual"
    if energy_out:
        return Suspect(index, "energy and forces", "drop", f"{energy}, and {named} {largest}", atoms, evidence)
    if few:
        text = f"{named} {largest}; energy and the other atoms agree with the models"
        return Suspect(index, "force of an atom", "unlabel", text, atoms, evidence)
    return Suspect(index, "forces", "drop", f"{named} {largest}; the energy agrees with the models", atoms, evidence)


def _find_outlying_atoms(scores: Scores, index: int) -> np.ndarray:
    out: np.ndarray = (scores.force_score[index] > FORCE_LIMIT) & (
        scores.force[index] > _TYPICAL * scores.typical_force
    )
    return out


def _find_exchanged_forces(labels: np.ndarray, predicted: np.ndarray, residual: np.ndarray) -> tuple[int, int] | None:
    """Two atoms whose labels fit if they are exchanged; None if there are none."""
    tried = np.argsort(-np.nan_to_num(residual))[:_TRIED].tolist()
    best, pair = _MENDED, None
    for a, b in combinations(tried, 2):
        before = np.hypot(residual[a], residual[b])
        after = np.hypot(np.linalg.norm(labels[a] - predicted[b]), np.linalg.norm(labels[b] - predicted[a]))
        # Both were wrong, and the worst of all is among them.
        if tried[0] in (a, b) and min(residual[a], residual[b]) > _MENDED * before / 2 and after < best * before:
            best, pair = after / before, (min(a, b), max(a, b))
    return pair


def _find_exchanged_species(
    index: int, dataset: GraphDataset, committee: Committee, scores: Scores
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
    before = float(np.sqrt(np.nanmean(residual**2)))
    labels = frame[fields.FORCES].numpy()
    rests = [
        float(np.sqrt(np.nanmean(np.square(labels - forces).sum(axis=1))))
        for _, forces in committee.predict_changed(index, changed)
    ]
    best = int(np.argmin(rests))
    return pairs[best] if rests[best] < _MENDED * before else None


def _name_atoms(atoms: Sequence[int], most: int = 4) -> str:
    more = f" and {len(atoms) - most} more" if len(atoms) > most else ""
    return f"{'atoms' if len(atoms) > 1 else 'atom'} {', '.join(map(str, atoms[:most]))}{more}"


def _round(value: float) -> float:
    return float(f"{value:.4g}")

"""The audit of labels: models learn, judge what they have not seen, and judge again without the suspects."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nequip_like.arguments import Count, Positive, check
from nequip_like.data import fields
from nequip_like.data.dataset import COLLISION, GraphDataset
from nequip_like.data.inspection.checks.findings import select_frames_of
from nequip_like.data.prepared.frames import write_key
from nequip_like.data.selection.repair_file import FrameRepair, hash_content, locate_frame
from nequip_like.errors import ConfigError, DataError
from nequip_like.summaries import Summarized
from nequip_like.workflow.label_audit.alike_frames import (
    Contradiction,
    find_alike_pairs,
    find_contradictions,
    group_equal,
)
from nequip_like.workflow.label_audit.committee import MODELS, FoldModels, Predictions
from nequip_like.workflow.label_audit.fitting import time_step
from nequip_like.workflow.label_audit.levels import TheoryLevel, find_levels, mark_levels
from nequip_like.workflow.label_audit.robust_scales import fit_scales
from nequip_like.workflow.label_audit.scores import Scores, compute_scores
from nequip_like.workflow.label_audit.suspects import ENERGY_LIMIT, Suspect, choose_force_limit, find_suspects

LEAST_FRAMES = 20
MINUTES = 5.0
_LEAST_STEPS = 50  # of a model; with fewer it knows nothing
_FIRST_PASS = 0.4  # of the steps; it has only to find what would spoil the second

Tell = Callable[[str, int, int], None]


@dataclass(repr=False)
class LabelAudit(Summarized):
    """What the audit found.

    Attributes:
        suspects: Frames whose labels stand out, in the order of the frames.
        contradictions: Pairs of frames that are nearly the same, with labels that are not.
        levels: Groups of frames that look like another level of theory.
        origins: File and index of each frame.
        repairs: What is proposed for each suspect.
        judged: Number of frames that were judged; others have neither energy nor forces, or cannot be right.
        cleared: Frames that stood out at first, and no longer once suspects were left out of the training.
        settings: How it was done: models, steps, seed, limits.
        typical: Typical residuals (medians): ``energy`` in eV/atom, ``force`` in eV/Angstrom.
        scores: All scores; of the frames that were judged.
    """

    suspects: list[Suspect]
    contradictions: list[Contradiction]
    levels: list[TheoryLevel]
    origins: list[str]
    repairs: list[FrameRepair]
    judged: int
    cleared: list[int]
    settings: dict[str, Any]
    typical: dict[str, float]
    scores: Scores = field(repr=False)

    def summary(self) -> dict[str, Any]:
        """How many frames stand out, of each kind."""
        kinds: dict[str, int] = {}
        for suspect in self.suspects:
            kinds[suspect.kind] = kinds.get(suspect.kind, 0) + 1
        return {"frames": len(self.origins), "judged": self.judged, **kinds}

    def as_json(self) -> dict[str, Any]:
        """All but the scores of single atoms, as values that JSON has."""
        return {
            "settings": self.settings,
            "judged": self.judged,
            "typical": self.typical,
            "suspects": [
                {
                    "frame": self.origins[suspect.frame],
                    "kind": suspect.kind,
                    "action": suspect.action,
                    "reason": suspect.reason,
                    "atoms": list(suspect.atoms),
                    "evidence": dict(suspect.evidence),
                }
                for suspect in self.suspects
            ],
            "contradictions": [
                {
                    "frames": [self.origins[pair.first], self.origins[pair.second]],
                    "energy": pair.energy,
                    "force": pair.force,
                }
                for pair in self.contradictions
            ],
            "levels": [
                {
                    "frames": [self.origins[i] for i in level.frames],
                    "shift": level.shift,
                    "species": level.species,
                    "forces": level.slope,
                }
                for level in self.levels
            ],
            "cleared": [self.origins[i] for i in self.cleared],
        }


def audit_labels(
    dataset: GraphDataset,
    *,
    minutes: Positive = MINUTES,
    steps: Count | None = None,
    seed: int = 0,
    tell: Tell | None = None,
) -> LabelAudit:
    """Find frames whose labels are not what models predict that have learnt from other frames.

    Four small models learn energies and forces, each from another half of the frames, so that two of them judge each
    frame without having seen it. What stands out is left out of the training in a second pass, which judges all again.

    Args:
        dataset: Frames with neighbour lists; the models have its cutoff radius.
        minutes: Time for it, on this machine.
        steps: In place of a time: steps of each model in both passes together. The same number gives the same result.
        seed: Of weights and folds.
        tell: Called with a title, the steps that are done, and all.

    Raises:
        ConfigError: If an argument is out of range.
        DataError: If there are too few labelled frames.

    Example::

        found = audit_labels(load_dataset("train.xyz", ["H", "C", "O"], 5.0), minutes=3)
        [(found.origins[suspect.frame], suspect.reason) for suspect in found.suspects]
    """
    check("minutes", minutes, Positive)
    check("steps", steps, Count | None)
    return _LabelAudit(dataset, minutes, steps, seed, tell or (lambda title, step, total: None)).run()


class _LabelAudit:
    def __init__(self, dataset: GraphDataset, minutes: float, steps: int | None, seed: int, tell: Tell) -> None:
        self.end = time.monotonic() + 60 * minutes
        self.full_dataset = dataset
        self.seed = seed
        self.tell = tell
        self.positions = _list_judged(dataset)
        if len(self.positions) < LEAST_FRAMES:
            raise DataError(
                f"{len(self.positions)} frames have labels that models can learn and judge",
                f"an audit needs {LEAST_FRAMES} or more with energies or forces, better 100",
            )
        self.dataset = _select(dataset, self.positions)
        self.scales = fit_scales(self.dataset)
        self.steps = self._count_steps() if steps is None else steps

    def run(self) -> LabelAudit:
        pairs = find_alike_pairs(self.dataset)
        groups = _deal_groups(group_equal(len(self.dataset), pairs), self.seed)
        first = max(1, round(_FIRST_PASS * self.steps))
        committee, predictions, scores = self._pass("first pass", groups, (), first)
        suspected = [suspect.frame for suspect in find_suspects(self.dataset, committee, predictions, scores)]
        committee, predictions, scores = self._pass("second pass", groups, suspected, max(1, self.steps - first))
        suspects = find_suspects(self.dataset, committee, predictions, scores)
        levels = find_levels(self.dataset, predictions, scores)
        contradictions = find_contradictions(self.dataset, pairs, predictions)
        suspects = mark_levels(suspects, levels)
        suspects = _add_contradictions(suspects, contradictions, scores, self._name)
        cleared = [i for i in suspected if i not in {suspect.frame for suspect in suspects}]
        return self._report(suspects, contradictions, levels, cleared, scores)

    def _name(self, index: int) -> str:
        """File and index of a frame that is judged."""
        return self.full_dataset.origin(self.positions[index])

    def _count_steps(self) -> int:
        """Steps of each model that fit into the time."""
        step_seconds = time_step(self.dataset, range(len(self.dataset)), self.scales)
        steps = int(0.9 * (self.end - time.monotonic()) / step_seconds / MODELS)
        if steps < _LEAST_STEPS:
            raise ConfigError(
                f"the time has room for {max(0, steps)} steps of each model", "give more of it: --minutes 10"
            )
        return steps

    def _pass(
        self, title: str, groups: np.ndarray, left_out: Sequence[int], steps: int
    ) -> tuple[FoldModels, Predictions, Scores]:
        steps_done, total = 0, MODELS * steps

        def count() -> None:
            nonlocal steps_done
            steps_done += 1
            self.tell(title, steps_done, total)

        committee = FoldModels(self.dataset, groups, left_out, self.scales, steps, self.seed, count)
        predictions = committee.predict()
        return committee, predictions, compute_scores(self.dataset, predictions)

    def _report(
        self,
        suspects: Sequence[Suspect],
        contradictions: Sequence[Contradiction],
        levels: Sequence[TheoryLevel],
        cleared: Sequence[int],
        scores: Scores,
    ) -> LabelAudit:
        """What was found, with positions in the whole data set."""
        place, origins = self.positions, [self.full_dataset.origin(i) for i in range(len(self.full_dataset))]
        renumbered = [Suspect(place[s.frame], s.kind, s.action, s.reason, s.atoms, s.evidence) for s in suspects]
        return LabelAudit(
            suspects=renumbered,
            contradictions=[
                Contradiction(place[c.first], place[c.second], c.distance, c.energy, c.force) for c in contradictions
            ],
            levels=[
                TheoryLevel(tuple(place[i] for i in level.frames), level.shift, level.species, level.slope)
                for level in levels
            ],
            origins=origins,
            repairs=[self._propose(suspect, origins[suspect.frame]) for suspect in renumbered],
            judged=len(place),
            cleared=[place[i] for i in cleared],
            settings={
                "models": MODELS,
                "steps": self.steps,
                "seed": self.seed,
                "cutoff": self.dataset.cutoff,
                "energy_limit": ENERGY_LIMIT,
                "force_limit": choose_force_limit(scores),
            },
            typical={
                name: value
                for name, value in (("energy", scores.typical_energy), ("force", scores.typical_force))
                if not math.isnan(value)
            },
            scores=scores,
        )

    def _propose(self, suspect: Suspect, origin: str) -> FrameRepair:
        file, index = locate_frame(origin)
        content = hash_content(
            self.full_dataset.frames[suspect.frame], write_key(self.full_dataset.keys[suspect.frame])
        )
        atoms = suspect.atoms if suspect.action != "drop" else ()
        evidence = {"kind": suspect.kind, **suspect.evidence}
        return FrameRepair(file, index, content, suspect.action, suspect.reason, atoms, (), evidence)


def _list_judged(dataset: GraphDataset) -> list[int]:
    """Frames with energies or forces and neighbours; those with atoms on each other are named by other checks."""
    table = dataset.table
    labelled = table.find_labelled(fields.TOTAL_ENERGY) | table.find_labelled(fields.FORCES)
    sound = (table.shortest > COLLISION) & np.isfinite(table.shortest) & ~table.isolated
    return [int(i) for i in np.flatnonzero(labelled & sound)]


def _select(dataset: GraphDataset, positions: Sequence[int]) -> GraphDataset:
    return dataset if len(positions) == len(dataset) else select_frames_of(dataset, positions)


def _deal_groups(structures: np.ndarray, seed: int) -> np.ndarray:
    """A group for each frame, all about as large; frames of the same structure are in one (frames,)."""
    order = np.random.default_rng(seed).permutation(np.unique(structures))
    group_of = {int(number): place % MODELS for place, number in enumerate(order)}
    return np.array([group_of[int(number)] for number in structures])


def _add_contradictions(
    suspects: Sequence[Suspect],
    contradictions: Sequence[Contradiction],
    scores: Scores,
    name_frame: Callable[[int], str],
) -> list[Suspect]:
    """The suspects and, of pairs none of which is one, the frame that stands out more."""
    by_frame = {suspect.frame: suspect for suspect in suspects}
    for pair in contradictions:
        members = (pair.first, pair.second)
        if any(frame in by_frame for frame in members):
            continue
        outlier = max(members, key=lambda frame: np.nan_to_num(_measure(scores, frame)))
        partner = members[1] if outlier == members[0] else members[0]
        by_frame[outlier] = Suspect(
            outlier,
            "contradiction",
            "drop",
            f"nearly the same structure as {name_frame(partner)}, but energies differ by {1000 * pair.energy:.3g} "
            f"meV/atom and forces by up to {pair.force:.3g} eV/Å more than they should; of both, this one is farther "
            "from the models",
            (),
            {"other": name_frame(partner), "energy_difference": pair.energy, "force_difference": pair.force},
        )
    return sorted(by_frame.values(), key=lambda suspect: suspect.frame)


def _measure(scores: Scores, frame: int) -> float:
    return float(np.nanmax([scores.energy_score[frame], scores.worst[frame]]))

"""All checks: what each is called, what it says, and what to do where something is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from nequip_like.data.inspection.checks.agreement import (
    find_force_mismatch,
    find_mismatch_of_files,
    find_stress_mismatch,
    find_stress_mismatch_of_files,
)
from nequip_like.data.inspection.checks.exchanged_labels import find_exchanged_labels
from nequip_like.data.inspection.checks.findings import LEVELS, Finding, Level, Subject, keep_sentences
from nequip_like.data.inspection.checks.labelled_values import (
    find_energy_problems,
    find_energy_unit_problems,
    find_force_problems,
    find_outlying_frames,
    find_reference_problems,
)
from nequip_like.data.inspection.checks.labels import find_missing_labels, find_reading_notes
from nequip_like.data.inspection.checks.mixed_units import find_mixed_units
from nequip_like.data.inspection.checks.repeats import find_contradicting_repeats, find_repeats, find_shared_frames
from nequip_like.data.inspection.checks.structures import (
    find_cell_problems,
    find_close_pairs,
    find_distance_problems,
    find_lonely_atoms,
    find_many_neighbors,
    find_rare_species,
)

_Find = Callable[[Subject], Iterator[Finding]]


@dataclass(frozen=True)
class Check:
    """A question to the data.

    Attributes:
        name: What it is about.
        advice: What to do where something is found, one sentence.
        before_training: What ``nequip-train`` asks, too, and warns of.
        further: What takes longer, or has nothing to say of a set that is about to be trained on.
    """

    name: str
    advice: str
    before_training: tuple[_Find, ...] = ()
    further: tuple[_Find, ...] = ()


# In this order training warns.
CHECKS = (
    Check(
        "reading",
        "declare unread names by --key-mapping NAME=LABEL, and units by --units.",
        (find_reading_notes,),
    ),
    Check(
        "repeated frames",
        "keep one frame of each structure, the one whose labels are right.",
        (find_repeats, find_contradicting_repeats),
    ),
    Check(
        "labels",
        "frames without a label are left out of loss and errors there; compute it, if it was meant to be there.",
        (find_missing_labels,),
    ),
    Check(
        "distances",
        "look at these frames, and remove what no calculation can be right for.",
        (find_distance_problems,),
        (find_close_pairs,),
    ),
    Check(
        "energies",
        "declare the unit, or remove the frames whose energies are not those of their atoms.",
        (find_energy_problems,),
    ),
    Check(
        "forces",
        "look at frames with large forces; forces that do not add up to zero, no potential can learn exactly.",
        (find_force_problems,),
    ),
    Check("cells", "set pbc and the cell as the calculation had them.", (find_cell_problems,)),
    Check("energy unit", "declare it: --units energy=Hartree.", (find_energy_unit_problems,)),
    Check(
        "mixed units",
        "convert each part with its own --units (nequip-data convert), and merge the results.",
        (find_mixed_units,),
    ),
    Check(
        "neighbours",
        "raise the cutoff radius where atoms see nobody, and lower it where they see very many.",
        (find_lonely_atoms,),
        (find_many_neighbors,),
    ),
    Check(
        "energies and forces",
        "declare the unit or sign that is wrong, or compute one of both again.",
        (find_force_mismatch,),
        (find_mismatch_of_files,),
    ),
    Check(
        "stress",
        "declare its sign or unit (--units stress_sign=compression), or train without it.",
        (find_stress_mismatch,),
        (find_stress_mismatch_of_files,),
    ),
    Check(
        "exchanged labels",
        "put the labels back to the frames that they were computed for.",
        further=(find_exchanged_labels,),
    ),
    Check(
        "species",
        "add frames with the species that are seldom seen, or do not rely on the model there.",
        further=(find_rare_species,),
    ),
    Check(
        "reference energies",
        "add isolated atoms or other compositions, or give reference_energies in the config.",
        further=(find_reference_problems,),
    ),
    Check(
        "outliers",
        "look at these frames: a calculation that did not converge, or the rare event that is to be learned.",
        further=(find_outlying_frames,),
    ),
    Check(
        "shared frames",
        "remove them from the file that is for validation or test.",
        further=(find_shared_frames,),
    ),
)


@dataclass(frozen=True)
class Verdict:
    """What a check says of data.

    Attributes:
        check: Name of the check.
        level: The worst level of what was found.
        sentences: What was found; without a finding, what holds.
        advice: What to do; empty where nothing was found.
        frames: Frames that the sentences are about.
    """

    check: str
    level: Level
    sentences: tuple[str, ...]
    advice: str
    frames: tuple[int, ...]

    @property
    def text(self) -> str:
        """All sentences."""
        return "; ".join(self.sentences)


def judge(subject: Subject) -> list[Verdict]:
    """Ask all checks, in their order."""
    return [
        _judge(check, [f for find in (*check.before_training, *check.further) for f in find(subject)])
        for check in CHECKS
    ]


def warn_of(subject: Subject) -> list[str]:
    """What is told before a training: sentences on what is not in order."""
    return [text for check in CHECKS for find in check.before_training for text in keep_sentences(find(subject))]


def _judge(check: Check, findings: Sequence[Finding]) -> Verdict:
    level = max((finding.level for finding in findings), key=LEVELS.index)
    told = [finding for finding in findings if level == "ok" or finding.level != "ok"]
    frames = dict.fromkeys(frame for finding in told for frame in finding.frames)
    return Verdict(
        check.name,
        level,
        tuple(finding.text for finding in told),
        "" if level == "ok" else check.advice,
        tuple(frames),
    )

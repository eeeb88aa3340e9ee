"""Frames that are the same structure: within the data, and in two of the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.inspection.checks.findings import Finding, Subject

_SAME_LABEL = 1e-4  # eV, eV/Angstrom, eV/Angstrom^3; files round
# Labels of one structure by one method, with other settings or less well converged, are closer than that.
_OTHER_ENERGY = 0.05  # eV/atom
_OTHER_FORCE = 1.0  # eV/Angstrom


def find_repeats(subject: Subject) -> Iterator[Finding]:
    """Frames that repeat an earlier one; labels that differ by far are certainly wrong in one of both."""
    repeated, frames = subject.repeated, subject.dataset.frames
    if repeated:
        last, first = next(iter(repeated.items()))
        labels_agree = all(_has_same_labels(frames[a], frames[b]) for a, b in repeated.items())
        difference = "" if labels_agree else ", some with other labels"
        yield Finding(
            "look",
            f"{len(repeated)} frames repeat an earlier one{difference}; "
            f"first: {subject.origin(last)} is {subject.origin(first)}",
            list(repeated),
        )
    yield Finding("ok", "no two frames are the same structure")


def find_contradicting_repeats(subject: Subject) -> Iterator[Finding]:
    """Frames of one structure whose labels differ by more than any two calculations by one method do."""
    frames = subject.dataset.frames
    other = [a for a, b in subject.repeated.items() if _has_other_labels(frames[a], frames[b])]
    if other:
        twin = subject.origin(subject.repeated[other[0]])
        yield Finding(
            "wrong",
            f"{len(other)} frames are the same structure as another one but have other energies or forces; first: "
            f"{subject.origin(other[0])} and {twin}",
            other,
        )


def find_shared_frames(subject: Subject) -> Iterator[Finding]:
    """Structures that are in two of the files: a test on one that was trained on says nothing."""
    pairs: Counter[tuple[str, str]] = Counter()
    shared = []
    for later, first in subject.repeated.items():
        if subject.files[later] != subject.files[first]:
            pairs[subject.files[first], subject.files[later]] += 1
            shared.append(later)
    for (first_file, later_file), count in pairs.items():
        frames = [i for i in shared if subject.files[i] == later_file]
        yield Finding(
            "look",
            f"{count} frames of {later_file} are in {first_file}, too; first: {subject.origin(frames[0])} is "
            f"{subject.origin(subject.repeated[frames[0]])}",
            frames,
        )
    files = len(set(subject.files))
    yield Finding("ok", f"no frame is in two of {files} files" if files > 1 else "there is one file")


def _has_same_labels(a: Graph, b: Graph) -> bool:
    shared = [label for label in fields.LABELS if label in a]
    return all(torch.allclose(a[label], b[label], rtol=0.0, atol=_SAME_LABEL, equal_nan=True) for label in shared)


def _has_other_labels(a: Graph, b: Graph) -> bool:
    for label, limit in (
        (fields.TOTAL_ENERGY, _OTHER_ENERGY * len(a[fields.POSITIONS])),
        (fields.FORCES, _OTHER_FORCE),
    ):
        if label in a and float((a[label] - b[label]).abs().nan_to_num(0.0).max()) > limit:
            return True
    return False

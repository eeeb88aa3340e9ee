"""Labels that are missing, wholly or in a part, and what the reader remarked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nequip_like.data import fields
from nequip_like.data.inspection.checks.findings import Finding, Subject


def find_reading_notes(subject: Subject) -> Iterator[Finding]:
    """Remarks of the reader, such as labels that were left out, or names that nothing was read from."""
    for note in subject.dataset.notes:
        yield Finding("look", note)
    names = ", ".join(f"{label} from {name}" for label, name in subject.dataset.read_from.items())
    yield Finding("ok", f"read {names}" if names else "no label was read")


def find_missing_labels(subject: Subject) -> Iterator[Finding]:
    """Labels that are missing in some frames, or for some atoms of a frame."""
    dataset = subject.dataset
    for label in dataset.labels:
        partial = np.flatnonzero(dataset.table.find_labelled(label, partly=True)).tolist()
        if partial:
            text = f"'{label}' is NaN for a part of {len(partial)} frames, first: {subject.origin(partial[0])}"
            yield Finding("look", text, partial)
        yield from _find_lacking_frames(subject, label)
    if fields.TOTAL_ENERGY not in dataset.labels:
        yield Finding("look", "no frame has an energy")
    counts = ", ".join(f"{label} {count}" for label, count in dataset.labels.items())
    yield Finding("ok", f"of {len(dataset)} frames: {counts or 'none'}")


def _find_lacking_frames(subject: Subject, label: str) -> Iterator[Finding]:
    """Frames without a label that others have. Single atoms commonly have an energy only."""
    dataset = subject.dataset
    if dataset.labels[label] == len(dataset):
        return
    lacks = ~dataset.table.find_labelled(label)
    if label != fields.TOTAL_ENERGY:
        lacks &= dataset.table.atoms > 1
    if label == fields.STRESS:
        lacks &= dataset.table.periodic > 0
    lacking = np.flatnonzero(lacks).tolist()
    if lacking:
        text = f"'{label}' is missing in {len(lacking)} of {len(dataset)} frames, first: {subject.origin(lacking[0])}"
        yield Finding("look", text, lacking)

"""Labels that are missing, wholly or in a part, and what the reader remarked."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from nequip_like.data import fields
from nequip_like.data.graph import has_label
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
        partial = [i for i, frame in enumerate(dataset.frames) if _is_partly_nan(frame, label)]
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
    periodic_only = label == fields.STRESS
    lacking = [
        i
        for i, frame in enumerate(dataset.frames)
        if not has_label(frame, label)
        and (label == fields.TOTAL_ENERGY or len(frame[fields.POSITIONS]) > 1)
        and not (periodic_only and not bool(frame[fields.PBC].any()))
    ]
    if lacking:
        text = f"'{label}' is missing in {len(lacking)} of {len(dataset)} frames, first: {subject.origin(lacking[0])}"
        yield Finding("look", text, lacking)


def _is_partly_nan(frame: dict[str, torch.Tensor], label: str) -> bool:
    missing = torch.isnan(frame[label])
    return bool(missing.any()) and not bool(missing.all())

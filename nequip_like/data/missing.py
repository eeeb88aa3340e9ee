"""Labels that some frames of a data set have and others lack: NaN in the frame, never an absent key, never zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph

_OPTIONAL = (*fields.LABELS, *fields.WEIGHTS)


def fill_missing_labels(frames: Sequence[Graph]) -> list[Graph]:
    """Give all frames the same keys: a label that one frame has is NaN in those that lack it, a weight is 1.

    Args:
        frames: Graphs of single structures.

    Returns:
        New graphs (the tensors are shared) that all hold every label and weight that any of them holds.
    """
    present = [name for name in _OPTIONAL if any(name in frame for frame in frames)]
    filled = []
    for frame in frames:
        graph = dict(frame)
        for name in present:
            if name not in graph:
                row = fields.field(name)
                rows = len(graph[fields.POSITIONS]) if row.owner == "node" else 1
                value = 1.0 if name in fields.WEIGHTS else torch.nan
                graph[name] = torch.full((rows, *row.shape), value, dtype=row.dtype)
        filled.append(graph)
    return filled


def has_label(frame: Graph, name: str) -> bool:
    """Whether a frame holds at least one value of a label that is not NaN."""
    return name in frame and not bool(torch.isnan(frame[name]).all())

"""Labels that stand with another frame: two that are exchanged, or a list of them that is shifted.

A pair potential that is fitted to the forces explains most of those of every frame, but nothing of forces that belong
to another one. Where those of a second frame fit instead, there is no doubt.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from nequip_like.data import fields
from nequip_like.data.graph import has_label
from nequip_like.data.inspection.checks.findings import Finding, Level, Subject
from nequip_like.data.inspection.pair_potential_fit import predict_forces

_EXPLAINED = 0.6  # of the squared forces of a typical frame; below, the pair potential says nothing
# What is left of a suspect's forces: so many times a typical rest, no less than the first and no more than the second.
_WORSE, _LEAST, _ENOUGH = 5.0, 0.1, 0.7
# Of the other one's: no more than so many times a typical rest, or the second, by the explained part of the third; and
# so many times less than of its own.
_FITTING, _SMALL_REST, _REACHED, _BETTER = 4.0, 0.1, 0.8, 2.0
_SMALL = 0.2  # of typical forces; smaller ones are not looked at
_FEWEST_ATOMS = 4  # the forces of fewer have so few independent components that some fit by chance
_FEWEST_FRAMES = 8
_MOST_FRAMES = 3000
_MOST_SUSPECTS = 300


def find_exchanged_labels(subject: Subject) -> Iterator[Finding]:
    """Frames whose forces are those of another frame of the same atoms."""
    frames = subject.dataset.frames
    complete = [
        i for i, f in enumerate(frames) if has_label(f, fields.FORCES) and len(f[fields.FORCES]) >= _FEWEST_ATOMS
    ]
    complete = [i for i in complete if not bool(frames[i][fields.FORCES].isnan().any())]
    complete = [i for i in complete if frames[i][fields.EDGE_INDEX].shape[1] > 0]
    complete = complete[:: len(complete) // _MOST_FRAMES + 1]
    predicted = dict(zip(complete, predict_forces(subject.dataset, complete), strict=False))
    sizes = torch.tensor([float(frames[i][fields.FORCES].square().mean()) for i in predicted])
    if len(predicted) < _FEWEST_FRAMES:
        yield Finding(
            "ok", "not told: it takes eight frames of four or more atoms with forces, of at most eight species"
        )
        return
    compared = [i for i, size in zip(predicted, sizes, strict=True) if size > _SMALL**2 * sizes.median()]
    explained = {i: _explain(frames[i][fields.FORCES], predicted[i]) for i in compared}
    typical = float(torch.tensor(list(explained.values())).median())
    if typical < _EXPLAINED:
        yield Finding("ok", f"not told: a pair potential explains {typical:.0%} of the forces of a typical frame")
        return
    unexplained = 1.0 - typical
    suspects = [i for i in compared if 1.0 - explained[i] > min(max(_WORSE * unexplained, _LEAST), _ENOUGH)]
    suspects = sorted(suspects, key=explained.__getitem__)[:_MOST_SUSPECTS]
    owners = {}
    for i in suspects:
        candidates = [k for k in suspects if k != i and _has_same_atoms(subject, i, k)]
        rests = [1.0 - _explain(frames[k][fields.FORCES], predicted[i]) for k in candidates]
        limit = min(max(_FITTING * unexplained, _SMALL_REST), 1.0 - _REACHED * typical, (1.0 - explained[i]) / _BETTER)
        if rests and min(rests) < limit:
            owners[i] = candidates[rests.index(min(rests))]
    if owners:
        # Where the other one's labels are not its own either, there is no doubt; a single frame may fit by chance.
        displaced = {i: k for i, k in owners.items() if k in owners}
        level: Level = "wrong" if displaced else "look"
        displaced = displaced or owners
        frame, owner = min(displaced.items())
        names = subject.origin(frame), subject.origin(owner)
        if displaced.get(owner) == frame:
            text = f"the labels of {len(displaced)} frames are exchanged; first: those of {names[0]} and {names[1]}"
        else:
            text = (
                f"{len(displaced)} frames have the forces of another frame; first: {names[0]} has those of {names[1]}"
            )
        yield Finding(level, text, sorted(displaced))
    yield Finding(
        "ok",
        f"a pair potential explains {typical:.0%} of the forces of a typical frame, and none fit another one better",
    )


def _explain(forces: torch.Tensor, predicted: torch.Tensor) -> float:
    """Share of the squared forces that a prediction explains; negative where it is worse than none."""
    return 1.0 - float((forces - predicted).square().sum() / forces.square().sum().clamp(min=1e-300))


def _has_same_atoms(subject: Subject, first: int, second: int) -> bool:
    a, b = (subject.dataset.frames[i][fields.ATOMIC_NUMBERS] for i in (first, second))
    return torch.equal(a, b)

"""Forces that stand with another frame: exchanged, shifted along a list, and what is never accused."""

import pytest
import torch

from nequip_like.data.inspection.checks.exchanged_labels import find_exchanged_labels
from nequip_like.data.inspection.checks.findings import Subject
from tests.data.labelled_sets import as_dataset, frames_of

SHAKEN = ["strained and shaken", "shaken alloy", "shaken silicon", "shaken molecules"]


def move_labels(frames, owners):
    """Frames with the labels of other ones: ``{frame: whose labels}``."""
    return [
        {**frame, **{name: frames[owners.get(i, i)][name] for name in ("total_energy", "forces")}}
        for i, frame in enumerate(frames)
    ]


def find(frames):
    return next(find_exchanged_labels(Subject(as_dataset(frames))))


@pytest.mark.parametrize("name", SHAKEN)
def test_right_labels(name):
    assert find(frames_of(name)).level == "ok"


@pytest.mark.parametrize("name", ["strained and shaken", "shaken alloy", "shaken molecules"])
def test_exchanged(name):
    frames = frames_of(name)
    exchanged = find(move_labels(frames, {2: 7, 7: 2}))
    assert (exchanged.level, exchanged.frames) == ("wrong", [2, 7])
    assert exchanged.text.startswith("the labels of 2 frames are exchanged; first: those of data frame 2 and data fr")


@pytest.mark.parametrize("name", ["strained and shaken", "shaken alloy"])
def test_shifted(name):
    frames = frames_of(name)
    shifted = find(move_labels(frames, {4: 5, 5: 6, 6: 4}))
    assert shifted.frames == [4, 5, 6]
    assert shifted.text.startswith("3 frames have the forces of another frame; first: data frame 4 has those of data f")


def test_random_forces_say_nothing():
    generator = torch.Generator().manual_seed(0)
    frames = [
        {**frame, "forces": torch.randn(frame["forces"].shape, generator=generator, dtype=torch.float64)}
        for frame in frames_of("shaken alloy")
    ]
    finding = find(frames)
    assert finding.level == "ok"
    assert finding.text.startswith("not told: a pair potential explains")

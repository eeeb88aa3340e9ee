"""What a check says: a level, a sentence, and the frames that it is about; and what checks look at."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.coverage import SpeciesCoverage, count_coverage
from nequip_like.data.inspection.label_check import LabelComparison, compare_labels
from nequip_like.data.inspection.measure import FrameFacts, measure
from nequip_like.data.inspection.pair_distances import ClosestPair, find_closest_pairs
from nequip_like.data.inspection.reference_fit import ReferenceFit, fit_references
from nequip_like.data.splits import duplicates

Level = Literal["ok", "look", "wrong"]
_FEWEST_OF_FILE = 8  # frames, to compare their labels by themselves
LEVELS: tuple[Level, ...] = ("ok", "look", "wrong")


@dataclass(frozen=True)
class Finding:
    """One sentence of a check.

    Attributes:
        level: ``wrong`` is certain, as far as data can tell; ``look`` is for a person to judge; ``ok`` says what holds.
        text: The sentence, with file and index of a frame where it is about one.
        frames: All frames that it is about, the first or worst in front.
    """

    level: Level
    text: str
    frames: Sequence[int] = ()


class Subject:
    """A data set that is looked at, with what several checks need, made when it is first asked for.

    Args:
        dataset: Its frames, with neighbour lists.
    """

    def __init__(self, dataset: GraphDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.dataset)

    def origin(self, index: int) -> str:
        """File and index of a frame."""
        return self.dataset.origin(index)

    @cached_property
    def facts(self) -> FrameFacts:
        """Measured values of all frames."""
        return measure(self.dataset.frames)

    @cached_property
    def repeated(self) -> dict[int, int]:
        """Frames that repeat an earlier one, and which."""
        return duplicates(self.dataset.keys)

    @cached_property
    def comparison(self) -> LabelComparison:
        """Labels beside each other."""
        return compare_labels(self.dataset)

    @cached_property
    def comparison_of_files(self) -> dict[str, LabelComparison]:
        """The same within each of several files."""
        parts: dict[str, list[int]] = {}
        for i, file in enumerate(self.files):
            parts.setdefault(file, []).append(i)
        if len(parts) < 2:
            return {}
        large = {file: indices for file, indices in parts.items() if len(indices) >= _FEWEST_OF_FILE}
        return {file: compare_labels(select_frames_of(self.dataset, indices)) for file, indices in large.items()}

    @cached_property
    def references(self) -> ReferenceFit | None:
        """Energies per species that fit best, and what is left of each frame; None without energies."""
        return fit_references(self.dataset.table)

    @cached_property
    def closest_pairs(self) -> list[ClosestPair]:
        """The shortest distance of each pair of species."""
        return find_closest_pairs(self.dataset)

    @cached_property
    def coverage(self) -> list[SpeciesCoverage]:
        """Frames and atoms of each species."""
        return count_coverage(self.dataset.table)

    @cached_property
    def files(self) -> list[str]:
        """The file of each frame."""
        return [self.origin(i).rpartition(" frame ")[0] or self.dataset.name for i in range(len(self))]


def select_frames_of(dataset: GraphDataset, indices: Sequence[int]) -> GraphDataset:
    """A part of a data set, as far as labels are compared; its frames keep their neighbour lists."""
    part = copy.copy(dataset)
    part.frames = [dataset.frames[i] for i in indices]
    part.__dict__.pop("table", None)  # that of all frames
    return part


def join_origins(subject: Subject, frames: Sequence[int], most: int = 3) -> str:
    """Name the first of some frames, and how many more there are."""
    names = "; ".join(subject.origin(i) for i in frames[:most])
    return names if len(frames) <= most else f"{names} and {len(frames) - most} more"


def keep_sentences(findings: Iterator[Finding]) -> Iterator[str]:
    """The sentences of what is not in order."""
    return (finding.text for finding in findings if finding.level != "ok")

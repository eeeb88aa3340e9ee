"""Repairs of a file, made on frames that were read: frames are found by their content, wherever they stand now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.io.reading import Reading
from nequip_like.data.prepared.frames import PreparedFrames, write_key
from nequip_like.data.selection.repair_file import ACTIONS, FrameRepair, hash_content, locate_frame, read_repairs
from nequip_like.errors import DataError

_NAMED = 5  # frames that a sentence names


@dataclass(frozen=True)
class RepairCount:
    """What was done to the frames of one source.

    Attributes:
        dropped: Number of frames that were left out.
        changed: Number of those that were changed.
        sentences: The same with the names of the first.
    """

    dropped: int = 0
    changed: int = 0
    sentences: tuple[str, ...] = ()

    @classmethod
    def join(cls, counts: Sequence[RepairCount]) -> RepairCount:
        """What was done to several sources together."""
        sentences = tuple(sentence for count in counts for sentence in count.sentences)
        return cls(sum(count.dropped for count in counts), sum(count.changed for count in counts), sentences)

    def __str__(self) -> str:
        """As a cell of a table.

        Example:
            >>> str(RepairCount(3, 1)), str(RepairCount())
            ('3 left out, 1 changed', '')
        """
        parts = [
            f"{number} {word}" for number, word in ((self.dropped, "left out"), (self.changed, "changed")) if number
        ]
        return ", ".join(parts)


class Repairs:
    """The repairs of a file, and which of them have been made.

    Args:
        path: The file.

    Raises:
        DataError: If it cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self._entries = read_repairs(path)
        self._applied: dict[int, tuple[str, int]] = {}  # entry: where its frame stands
        self._reached: set[int] = set()  # entries whose file and index were read, whatever stands there now
        self._structures = {entry.hash.partition("-")[0] for entry in self._entries}
        self._places = [(entry.file, entry.index) for entry in self._entries]

    def apply(self, reading: Reading) -> tuple[Reading, RepairCount]:
        """Leave out and change frames of what was read from one source.

        Args:
            reading: What was read.

        Returns:
            The reading without the frames that are dropped, and what was done.

        Raises:
            DataError: If a change cannot be made.
        """
        entry_numbers = self._find(reading)
        if not entry_numbers:
            return reading, RepairCount()
        self._applied |= {number: locate_frame(reading.origins[i]) for i, number in entry_numbers.items()}
        changes = {i: self._entries[number] for i, number in entry_numbers.items()}
        frames: Sequence[Graph] = reading.frames
        changed = {i: change for i, change in changes.items() if change.action != "drop"}
        if changed:
            if isinstance(frames, PreparedFrames):
                first = next(iter(changed.values()))
                raise DataError(
                    f"{self.path}: {first.describe()}: frames of a prepared set cannot be changed",
                    "convert the files with the repairs (nequip-data convert --repair), then prepare what is written",
                )
            frames = [_change(frame, changed[i]) if i in changed else frame for i, frame in enumerate(frames)]
        kept_frames = [i for i in range(len(frames)) if i not in changes or i in changed]
        if not kept_frames:
            raise DataError(f"{self.path} leaves out all {len(frames)} frames", "take entries out of it")
        count = RepairCount(len(changes) - len(changed), len(changed), tuple(self._describe(changes, reading)))
        return replace(reading, frames=frames).select(kept_frames), count

    def check_whole(self) -> list[str]:
        """Refuse frames that have changed since the file was written, once all data were read.

        Returns:
            A sentence on entries that are about other data, if there are any.

        Raises:
            DataError: If a frame that was judged is no longer what it was, or none of them is there.
        """
        missing = [number for number in range(len(self._entries)) if number not in self._applied]
        if changed := [self._entries[number] for number in missing if number in self._reached]:
            ending = f", and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise DataError(
                f"{changed[0].origin} is no longer the frame that {self.path} speaks of: structure or labels have "
                f"changed since{ending}",
                "audit the data again (nequip-data inspect --audit --repair FILE), or take these entries out of it",
            )
        if missing and len(missing) == len(self._entries):
            raise DataError(
                f"none of the {len(missing)} frames of {self.path} is among the data; first: {self._entries[0].origin}",
                "give the file that was written for these data, with the same key_mapping and units",
            )
        if missing:
            names = _name([self._entries[number].origin for number in missing])
            return [
                f"repair: {len(missing)} of {len(self._entries)} frames of {self.path} are not among the data: {names}"
            ]
        return []

    def _find(self, reading: Reading) -> dict[int, int]:
        """Which frame each entry is about, ``{position: number of the entry}``.

        Of equal frames, an entry means the one that stands where it says, if that is among them.
        """
        places: dict[str, list[int]] = {}
        origins = [locate_frame(origin) for origin in reading.origins]
        for i, structure in enumerate(map(write_key, reading.keys)):
            if structure in self._structures:
                places.setdefault(structure, []).append(i)
        read = set(origins)
        self._reached |= {number for number, place in enumerate(self._places) if place in read}
        contents = {i: hash_content(reading.frames[i], structure) for structure, equal in places.items() for i in equal}
        entry_numbers: dict[int, int] = {}
        for in_place in (True, False):
            matched = set(entry_numbers.values())
            for number, entry in enumerate(self._entries):
                if number in matched:
                    continue
                for i in places.get(entry.hash.partition("-")[0], ()):
                    stands_there = origins[i] == self._places[number]
                    # A frame that several sources read is repaired in each; another one with its content is not.
                    is_free = i not in entry_numbers and self._applied.get(number, origins[i]) == origins[i]
                    if is_free and contents[i] == entry.hash and (stands_there or not in_place):
                        entry_numbers[i] = number
                        break
        return entry_numbers

    def _describe(self, changes: dict[int, FrameRepair], reading: Reading) -> list[str]:
        sentences = []
        for action, words in ACTIONS.items():
            names = [reading.origins[i] for i, change in changes.items() if change.action == action]
            if names:
                sentences.append(
                    f"repair ({words}): {len(names)} of {len(reading)} frames, by {self.path}: {_name(names)}"
                )
        return sentences


def _change(frame: Graph, change: FrameRepair) -> Graph:
    """A frame with the change; the one that was read stays as it was."""
    count = len(frame[fields.POSITIONS])
    if change.atoms and not 0 <= min(change.atoms) <= max(change.atoms) < count:
        raise DataError(f"{change.describe()}, but it has {count} atoms", "atoms count from 0")
    if fields.FORCES not in frame and (change.action == "exchange_forces" or (change.atoms and change.labels)):
        raise DataError(f"{change.describe()}, but it has no forces", "take this entry out of the file")
    if change.action == "exchange_forces":
        return {**frame, fields.FORCES: _exchange(frame[fields.FORCES], change.atoms)}
    if change.action == "exchange_species":
        return {**frame, fields.ATOMIC_NUMBERS: _exchange(frame[fields.ATOMIC_NUMBERS], change.atoms)}
    changed = dict(frame)
    for label in change.labels:
        if label in frame:
            changed[label] = torch.full_like(frame[label], torch.nan)
    if change.atoms:
        changed[fields.FORCES] = changed[fields.FORCES].clone()
        changed[fields.FORCES][list(change.atoms)] = torch.nan
    return changed


def _exchange(rows: torch.Tensor, atoms: Sequence[int]) -> torch.Tensor:
    exchanged = rows.clone()
    exchanged[list(atoms)] = rows[list(reversed(atoms))]
    return exchanged


def _name(origins: Sequence[str]) -> str:
    ending = f" and {len(origins) - _NAMED} more" if len(origins) > _NAMED else ""
    return ", ".join(origins[:_NAMED]) + ending

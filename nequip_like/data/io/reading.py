"""What was read from one source: frames, where each comes from, and what a user should know about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import fill_missing_labels
from nequip_like.data.io.annotations import Annotations
from nequip_like.data.labels.free_energies import append_gap
from nequip_like.data.labels.names import FrameNames
from nequip_like.data.labels.units import Units
from nequip_like.data.prepared.annotations import PreparedAnnotations
from nequip_like.data.prepared.frames import Origins, PreparedFrames, list_keys, select_frames, select_origins
from nequip_like.errors import ConfigError
from nequip_like.summaries import Summarized


@dataclass(repr=False)
class Reading(Summarized):
    """What was read from one source.

    Attributes:
        frames: Graphs without edges; all have the same labels, NaN where a frame lacks one.
        origins: ``file frame index`` of each frame, ``Atoms index`` or ``graph index`` of one in memory, for messages.
        files: The files, as absolute paths; none of structures in memory.
        label_names: ``{label: names in the files}``.
        units: Units that the labels were declared in.
        free_energy_gap: How far free energies lie from the energies that are read, at most, eV/atom.
        notes: What a user should know about the reading, such as labels that were left out.
        annotations: What each frame holds beside its structure and labels.
        names: All names of values in the files.
        numbers: Position of each frame among all that were read (frames,), where frames were chosen of them.
    """

    frames: Sequence[Graph] = field(default_factory=list)
    origins: Sequence[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    label_names: dict[str, list[str]] = field(default_factory=dict)
    units: Units = field(default_factory=Units)
    free_energy_gap: float = 0.0
    notes: list[str] = field(default_factory=list)
    annotations: Sequence[Annotations] = field(default_factory=list)
    names: FrameNames = field(default_factory=lambda: FrameNames(frozenset(), frozenset()))
    numbers: np.ndarray | None = None

    def summary(self) -> dict[str, Any]:
        """Size, files, labels and units."""
        labels = {label: "/".join(names) for label, names in self.label_names.items()}
        return {"frames": len(self.frames), "files": self.files, "labels": labels, "units": str(self.units)}

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    @property
    def read_from(self) -> dict[str, str]:
        """``{label: names in the files}``, as tables show them."""
        names = {label: ", ".join(self.label_names[label]) for label in fields.LABELS if label in self.label_names}
        if fields.TOTAL_ENERGY in names:
            names[fields.TOTAL_ENERGY] = append_gap(names[fields.TOTAL_ENERGY], self.free_energy_gap)
        return names

    @cached_property
    def keys(self) -> np.ndarray:
        """Hash of each structure (frames, 2), made when first asked for."""
        return list_keys(self.frames)

    @classmethod
    def of(cls, frames: Sequence[Graph], origins: Sequence[str]) -> Reading:
        """Frames that come from elsewhere, with their origins and nothing else."""
        return cls(list(frames), list(origins), annotations=[Annotations() for _ in frames])

    @classmethod
    def join(cls, readings: Mapping[str, Reading]) -> Reading:
        """Several readings, one behind the other; a label that only some have is missing in the others.

        Args:
            readings: The readings by name, for messages.

        Raises:
            ConfigError: If some are of prepared frames, and others are not.
        """
        parts = list(readings.values())
        prepared = [part.frames for part in parts if isinstance(part.frames, PreparedFrames)]
        if prepared and len(prepared) < len(parts):
            other = next(name for name, part in readings.items() if not isinstance(part.frames, PreparedFrames))
            raise ConfigError(
                f"some of the sets {', '.join(readings)} are prepared, but {other} is not",
                "prepare all of them or none",
            )
        if prepared:
            joined = PreparedFrames.join(prepared)
            frames: Sequence[Graph] = joined
            origins: Sequence[str] = Origins(joined)
            annotations: Sequence[Annotations] = PreparedAnnotations(joined.files, joined.indices)
        else:
            frames = fill_missing_labels([frame for part in parts for frame in part.frames])
            origins = [origin for part in parts for origin in part.origins]
            annotations = [annotation for part in parts for annotation in part.annotations]
        units = {name: part.units for name, part in readings.items()}
        notes = [note for part in parts for note in part.notes]
        if any(unit != parts[0].units for unit in units.values()):
            notes.append(
                f"the sets were read in units of their own: {'; '.join(f'{n}: {u}' for n, u in units.items())}"
            )
        return cls(
            frames=frames,
            origins=origins,
            files=[file for part in parts for file in part.files],
            label_names=join_label_names(part.label_names for part in parts),
            units=parts[0].units,
            free_energy_gap=max(part.free_energy_gap for part in parts),
            notes=notes,
            annotations=annotations,
            names=FrameNames.join(part.names for part in parts),
        )

    def select(self, indices: Sequence[int] | np.ndarray, annotated: bool = True) -> Reading:
        """Some of the frames, with everything that is said of them; without their annotations unless ``annotated``."""
        annotations: Sequence[Annotations] = [Annotations()] * len(indices)
        if annotated:
            own = self.annotations
            annotations = own.select(indices) if isinstance(own, PreparedAnnotations) else [own[i] for i in indices]
        return replace(
            self,
            frames=select_frames(self.frames, indices),
            origins=select_origins(self.origins, indices),
            annotations=annotations,
            numbers=np.asarray(indices) if self.numbers is None else self.numbers[np.asarray(indices)],
        )


def join_label_names(parts: Iterable[Mapping[str, Sequence[str]]]) -> dict[str, list[str]]:
    """``{label: names in the files}`` of several readings together, each name once.

    Example:
        >>> join_label_names([{"forces": ["f"]}, {"forces": ["F", "f"], "stress": ["s"]}])
        {'forces': ['f', 'F'], 'stress': ['s']}
    """
    joined: dict[str, list[str]] = {}
    for part in parts:
        for label, names in part.items():
            known = joined.setdefault(label, [])
            known.extend(name for name in names if name not in known)
    return joined

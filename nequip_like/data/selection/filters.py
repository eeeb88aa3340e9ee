"""Limits that frames of the training data must keep; those beyond are left out, and it is said which."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from nequip_like.arguments import Count, Positive, Range, check, check_key
from nequip_like.data import fields
from nequip_like.data.io.reading import Reading
from nequip_like.data.splits import duplicates
from nequip_like.data.tables.frame_table import FrameTable
from nequip_like.errors import ConfigError, DataError, closest_hint

_NAMED = 5  # frames of which origins are told

_Finite = Annotated[float, Range(low_open=True, high_open=True)]


@dataclass(frozen=True)
class Filters:
    """Limits of a config. An isolated atom passes all but the number of atoms.

    Attributes:
        max_forces: Largest length of the force on an atom, eV/Angstrom.
        max_energy: Largest energy per atom above the reference energies, eV/atom.
        max_atoms: Largest number of atoms.
        labels: Labels that a frame must have.
        duplicates: Whether frames that repeat the structure of an earlier one are left out.
    """

    max_forces: float | None = None
    max_energy: float | None = None
    max_atoms: int | None = None
    labels: Sequence[str] = ()
    duplicates: bool = False

    @classmethod
    def read(cls, section: Mapping[str, Any] | None) -> Filters:
        """The filters of ``data.filters``.

        Raises:
            ConfigError: If a key is unknown, or a value cannot be meant.

        Example:
            >>> Filters.read({"max_forces": 50.0, "labels": ["forces"]})
            Filters(max_forces=50.0, max_energy=None, max_atoms=None, labels=('forces',), duplicates=False)
        """
        values = dict(section or {})
        for key in values:
            check_key("filters", key, [entry.name for entry in dataclasses.fields(cls)])
        for key, kind in (("max_forces", Positive), ("max_energy", _Finite), ("max_atoms", Count)):
            if values.get(key) is not None:
                check(f"filters.{key}", values[key], kind)
        labels = values.pop("labels", None) or ()
        labels = (labels,) if isinstance(labels, str) else tuple(labels)
        for label in labels:
            if label not in fields.LABELS:
                raise ConfigError(
                    f"filters.labels: '{label}' is no label",
                    f"{closest_hint(label, fields.LABELS)}the labels are {', '.join(fields.LABELS)}",
                )
        if not isinstance(values.get("duplicates", False), bool):
            raise ConfigError(f"filters.duplicates is {values['duplicates']!r}", "write true or false")
        return cls(labels=labels, **values)

    def find_kept(self, table: FrameTable, reading: Reading) -> dict[str, np.ndarray]:
        """Which frames each filter but that of energies keeps.

        Args:
            table: The table of the frames.
            reading: The frames, whose structures are hashed where repeated ones are looked for.

        Returns:
            ``{filter: booleans (frames,)}``, of filters that are set.
        """
        kept: dict[str, np.ndarray] = {}
        if self.max_atoms is not None:
            kept[f"max_atoms={self.max_atoms}"] = table.atoms <= self.max_atoms
        if self.max_forces is not None:
            kept[f"max_forces={self.max_forces:g}"] = table.isolated | (table.largest_force <= self.max_forces)
        for label in self.labels:
            kept[f"labels={label}"] = table.isolated | table.find_labelled(label)
        if self.duplicates:
            # Of a structure that is there twice, the one that passes the other filters stays.
            passing = np.flatnonzero(np.logical_and.reduce(list(kept.values()))) if kept else np.arange(len(table))
            unrepeated = np.ones(len(table), dtype=bool)
            unrepeated[passing[list(duplicates(reading.keys[passing]))]] = False
            kept["duplicates=true"] = table.isolated | unrepeated
        return kept

    def find_kept_by_energy(self, table: FrameTable, references: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Which frames the limit of energies keeps; those without an energy are kept.

        Args:
            table: The table of the frames.
            references: Reference energy of each species, eV.
        """
        if self.max_energy is None:
            return {}
        above = table.compute_energies(references)
        return {f"max_energy={self.max_energy:g}": table.isolated | ~(above > self.max_energy)}


def describe_dropped(kept: Mapping[str, np.ndarray], origins: Sequence[str]) -> list[str]:
    """A sentence for each filter: how many frames it leaves out, and which.

    Args:
        kept: Which frames each filter keeps.
        origins: Where each frame comes from.

    Raises:
        DataError: If no frame is left.

    Example:
        >>> describe_dropped({"max_atoms=9": np.array([True, False])}, ["md.xyz frame 0", "md.xyz frame 1"])
        ['filters.max_atoms=9 leaves out 1 of 2 frames: md.xyz frame 1']
    """
    sentences = []
    for name, mask in kept.items():
        dropped = np.flatnonzero(~mask)
        if len(dropped):
            named = ", ".join(origins[int(i)] for i in dropped[:_NAMED])
            more = f" and {len(dropped) - _NAMED} more" if len(dropped) > _NAMED else ""
            sentences.append(f"filters.{name} leaves out {len(dropped)} of {len(mask)} frames: {named}{more}")
    if kept and not np.logical_and.reduce(list(kept.values())).any():
        raise DataError(f"no frame is left to train on: {'; '.join(sentences)}", "loosen data.filters")
    return sentences

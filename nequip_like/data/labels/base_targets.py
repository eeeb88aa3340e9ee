"""Delta learning: labels become differences to a base, which the files hold beside them or a calculator gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.calculators.calculator import Calculator

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import frame_key, has_label
from nequip_like.data.io.given import convert_to_atoms
from nequip_like.data.io.reading import Reading
from nequip_like.data.labels.names import checked_mapping
from nequip_like.data.prepared.sets import get_prepared
from nequip_like.data.sources import FileSource
from nequip_like.errors import ConfigError, DataError, NequipLikeError, first_line
from nequip_like.whole_files import written_whole

KINDS = ("model", "calculator")  # of a base that is no part of the files
_SECTION = "base_targets"
_STRUCTURE = (fields.POSITIONS, fields.CELL, fields.PBC, fields.ATOMIC_NUMBERS, fields.NUM_ATOMS)
_PROPERTIES = {fields.TOTAL_ENERGY: "energy", fields.FORCES: "forces", fields.STRESS: "stress"}


class BaseTargets:
    """What the labels are differences to.

    No dataclass: Hydra would make a mapping of one that is an argument.

    Args:
        names: ``{name in the file: label}`` of the base in the files; empty with a calculator.
        calculator: Gives the base, in ASE's units; None with names.
        title: What the base is called.
        cache: File (``.npz``) with what the calculator gave: a structure that is in it is not computed again.
        keeps: Whether this process writes the cache.
    """

    def __init__(
        self,
        names: Mapping[str, str] | None = None,
        calculator: Any = None,
        title: str = "",
        cache: Path | None = None,
        keeps: bool = True,
    ) -> None:
        self.names = dict(names or {})
        self.calculator = calculator
        self.title = title
        self.cache = cache
        self.keeps = keeps

    @classmethod
    def read(cls, entry: Any) -> BaseTargets | None:
        """Read the argument ``base_targets`` of a :class:`~nequip_like.data.datamodule.DataModule`.

        Args:
            entry: ``{name in the file: label}``, a calculator of ASE, or None for labels as they are.

        Raises:
            ConfigError: If a label is none, or the entry is something else.

        Example:
            >>> BaseTargets.read({"base_energy": "total_energy", "base_forces": "forces"}).title
            'base_energy, base_forces'
        """
        if entry is None or isinstance(entry, cls):
            return entry
        if isinstance(entry, Calculator):
            return cls(calculator=entry, title=type(entry).__name__)
        if not isinstance(entry, Mapping) or not entry:
            raise ConfigError(
                f"{_SECTION} is {entry!r}",
                "write {name in the file: label}, {base_energy: total_energy, base_forces: forces}, {model: FILE}, or "
                "{calculator: NAME}",
            )
        if kinds := [kind for kind in KINDS if kind in entry]:
            if len(entry) > 1:
                raise ConfigError(f"{_SECTION} has '{kinds[0]}' beside other keys", f"give {kinds[0]} alone")
            raise ConfigError(
                f"{_SECTION}.{kinds[0]} is for configs", "from Python, give the calculator: base_targets=calculator"
            )
        names = {name: label for name, label in checked_mapping(entry).items() if label in fields.LABELS}
        if len(names) < len(entry) or fields.TOTAL_ENERGY not in names.values():
            raise ConfigError(
                f"{_SECTION} maps to {', '.join(map(str, entry.values()))}",
                f"map labels only, {fields.TOTAL_ENERGY} among them: {{base_energy: {fields.TOTAL_ENERGY}}}",
            )
        return cls(names, title=", ".join(names))

    def read_differences(self, source: FileSource) -> Reading:
        """Read the frames of a source, with differences to the base in place of their labels.

        Labels that the base does not have are left out, as they would not belong to the others.

        Raises:
            ConfigError: If the source is a prepared set.
            DataError: If the base cannot be had for a frame.
        """
        reading = source.read()
        if get_prepared(reading.frames):
            raise ConfigError(
                f"data.{_SECTION} needs the files themselves, and {reading.files[0]} is a prepared set",
                "give the files that it was prepared from, or prepare files that hold the differences",
            )
        bases = self._read_bases(source) if self.names else self._compute_bases(reading)
        frames, left_out, labels = [], dict.fromkeys(fields.LABELS, 0), set()
        for frame, base in zip(reading.frames, bases, strict=True):
            graph = dict(frame)
            for label in [name for name in fields.LABELS if name in frame]:
                if label in base:
                    graph[label] = frame[label] - base[label]
                had, has = has_label(frame, label), label in base and has_label(graph, label)
                left_out[label] += had and not has
                if has:
                    labels.add(label)
            frames.append(graph)
        absent = [label for label in fields.LABELS if label not in labels]
        notes = [
            f"{label} of {count} frames left out: the base ({self.title}) has none"
            for label, count in left_out.items()
            if count
        ]
        names_by_label = reading.label_names
        return dataclasses.replace(
            reading,
            frames=[{name: value for name, value in frame.items() if name not in absent} for frame in frames],
            label_names={
                label: [f"{name} - base ({self.title})" if label in fields.LABELS else name for name in names]
                for label, names in names_by_label.items()
                if label not in absent
            },
            # Names of the base are read; that they are not labels is what is wanted.
            notes=[*(note for note in reading.notes if not any(f"'{name}'" in note for name in self.names)), *notes],
        )

    def _read_bases(self, source: FileSource) -> Sequence[Graph]:
        """The base in the files: read once more, under its names."""
        label_mapping = {
            name: label for name, label in (source.key_mapping or {}).items() if label not in self.names.values()
        }
        frames = dataclasses.replace(source, key_mapping={**label_mapping, **self.names}).read().frames
        declared = {fields.STRESS if label == fields.VIRIAL else label for label in self.names.values()}
        return [{name: frame[name] for name in declared if name in frame} for frame in frames]

    def _compute_bases(self, reading: Reading) -> Sequence[Graph]:
        cache = self._load()
        cached_count = len(cache)
        bases = []
        for frame, key, origin in zip(reading.frames, map(frame_key, reading.frames), reading.origins, strict=True):
            asked = [label for label in _PROPERTIES if label in frame and has_label(frame, label)]
            if key not in cache or any(label not in cache[key] for label in asked if self._gives(label)):
                cache[key] = self._compute(frame, asked, origin)
            bases.append(cache[key])
        if self.cache is not None and self.keeps and len(cache) > cached_count:
            self._save(self.cache, cache)
        return bases

    def _gives(self, label: str) -> bool:
        return _PROPERTIES[label] in self.calculator.implemented_properties

    def _compute(self, frame: Graph, labels: Sequence[str], origin: str) -> Graph:
        """Labels of a structure by the calculator."""
        atoms = convert_to_atoms({name: frame[name] for name in _STRUCTURE}, origin)
        atoms.calc = self.calculator
        base: Graph = {}
        try:
            for label in labels:
                if self._gives(label):
                    value = atoms.get_stress(voigt=False) if label == fields.STRESS else self._ask(atoms, label)
                    row = fields.field(label)
                    base[label] = torch.as_tensor(np.array(value), dtype=row.dtype).reshape(-1, *row.shape)
        except NequipLikeError as error:
            raise DataError(f"{origin}: the base {self.title}: {error.message}", error.advice) from error
        except Exception as error:  # calculators raise anything
            raise DataError(
                f"{origin}: the base {self.title} cannot be computed: {first_line(error)}",
                "leave this frame out (data.filters), or take another base",
            ) from error
        return base

    def _ask(self, atoms: Any, label: str) -> Any:
        return atoms.get_potential_energy() if label == fields.TOTAL_ENERGY else atoms.get_forces()

    def _load(self) -> dict[str, Graph]:
        """What the cache holds of this base; nothing where it is that of another, or is not there."""
        if self.cache is None or not self.cache.is_file():
            return {}
        with np.load(self.cache, allow_pickle=False) as arrays:
            if str(arrays["title"]) != self.title:
                return {}
            return dict(_split_arrays(arrays))

    def _save(self, path: Path, cache: Mapping[str, Graph]) -> None:
        arrays: dict[str, np.ndarray] = {"title": np.array(self.title), "keys": np.array(list(cache))}
        for label in _PROPERTIES:
            values = [base[label].numpy() if label in base else None for base in cache.values()]
            computed = [value for value in values if value is not None]
            arrays[f"{label}_rows"] = np.array([0 if value is None else len(value) for value in values])
            shape = (0, *fields.field(label).shape)
            arrays[label] = np.concatenate(computed) if computed else np.zeros(shape)
        with written_whole(path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)


def _split_arrays(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, Graph]]:
    keys = arrays["keys"].tolist()
    parts = {label: np.split(arrays[label], np.cumsum(arrays[f"{label}_rows"])[:-1]) for label in _PROPERTIES}
    for i, key in enumerate(keys):
        yield key, {label: torch.from_numpy(part[i].copy()) for label, part in parts.items() if len(part[i])}


def read_targets(source: FileSource, base: BaseTargets | None) -> Reading:
    """The frames of a source, with their labels or with differences to a base."""
    return source.read() if base is None else base.read_differences(source)

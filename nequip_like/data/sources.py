"""Entries of a config that name a data set: paths, lists, mappings and parts of train, brought to one form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nequip_like.arguments import Count, check, check_key, shown
from nequip_like.data.io.given import Index, entries, is_graph, is_structure
from nequip_like.data.io.readers import check_declared, read
from nequip_like.data.io.reading import Reading
from nequip_like.data.selection.indices import check_indices, read_indices
from nequip_like.errors import ConfigError
from nequip_like.summaries import Summarized
from nequip_like.whole_files import path_of

SOURCE_KEYS = (
    "file", "path", "index", "indices", "indices_path", "max_samples", "shuffle", "seed", "key_mapping", "units",
    "trust_pickle",
)  # fmt: skip

_HELD_OUT_KEYS = ("part", "of")


@dataclass(frozen=True, repr=False)
class FileSource(Summarized):
    """Files of one data set, or its structures in memory, and how to read them."""

    files: list[Any]
    index: Index = ":"
    key_mapping: Mapping[str, str] | None = None
    units: Mapping[str, str] | None = None
    trust_pickle: bool = False
    indices: tuple[int, ...] | None = None
    sample: Sample | None = None

    def __post_init__(self) -> None:
        """Refuse units and names that cannot be meant before a file is read."""
        check_declared(self.key_mapping, self.units)

    def summary(self) -> dict[str, Any]:
        """The files and how they are read."""
        values = super().summary()
        seldom = ("trust_pickle", "indices", "sample")
        return {name: value for name, value in values.items() if name not in seldom or value}

    def read(self) -> Reading:
        """Read all frames, or those that are chosen."""
        return self.choose(
            read(
                self.files,
                index=self.index,
                key_mapping=self.key_mapping,
                units=self.units,
                trust_pickle=self.trust_pickle,
            )
        )

    def choose(self, reading: Reading) -> Reading:
        """The frames of the indices, or of the sample; all where there are neither."""
        if self.indices is not None:
            check_indices(self.indices, len(reading), str(self.files[0]))
            return reading.select(self.indices)
        return reading if self.sample is None else reading.select(self.sample.draw(len(reading)))


@dataclass(frozen=True)
class Sample:
    """Frames that are taken of a source: the first ones, or some at random.

    Attributes:
        size: So many, or all where there are fewer.
        shuffle: Whether they are drawn at random; they stay in the order of the file.
        seed: Of the drawing.
    """

    size: int
    shuffle: bool = False
    seed: int = 0

    @classmethod
    def of(cls, entry: Mapping[str, Any], section: str) -> Sample | None:
        """That of an entry of a config.

        Raises:
            ConfigError: If a value cannot be meant.
        """
        values = {key: entry[key] for key in ("max_samples", "shuffle", "seed") if entry.get(key) is not None}
        if not values:
            return None
        if "max_samples" not in values:
            raise ConfigError(f"{section} has a {next(iter(values))}, but no max_samples", "give the number of frames")
        for key, kind in (("max_samples", Count), ("shuffle", bool), ("seed", int)):
            if key in values:
                check(f"{section}.{key}", values[key], kind)
        if chosen := [key for key in ("indices", "indices_path") if entry.get(key) is not None]:
            raise ConfigError(f"{section} has both {chosen[0]} and max_samples", "choose frames by one of them")
        return cls(values["max_samples"], values.get("shuffle", False), values.get("seed", 0))

    def draw(self, frames: int) -> np.ndarray:
        """Numbers of the chosen frames, sorted.

        Example:
            >>> Sample(3).draw(5).tolist(), Sample(9, shuffle=True).draw(5).tolist()
            ([0, 1, 2], [0, 1, 2, 3, 4])
        """
        if not self.shuffle:
            return np.arange(min(self.size, frames))
        order = torch.randperm(frames, generator=torch.Generator().manual_seed(self.seed)).numpy()
        return np.sort(order[: self.size])


@dataclass(frozen=True)
class HeldOut:
    """A part of the training file: a number of frames, or a fraction; of all sets of a mixture, or of one."""

    size: int | float
    of: str | None = None


def file_source(
    entry: Any,
    section: str,
    key_mapping: Mapping[str, str] | None,
    units: Mapping[str, str] | None,
) -> FileSource:
    """A path, structures in memory, a list of these, or a mapping with one: ``{file, index, key_mapping, units, ...}``.

    Args:
        entry: What the configuration says.
        section: ``train``, ``val`` or ``test``, for messages.
        key_mapping: Used if the entry has none of its own.
        units: Used if the entry has none of its own.

    Raises:
        ConfigError: If the entry is something else or has an unknown key, or units or names that cannot be meant.
    """
    if isinstance(entry, str | Path):
        _check_name(str(entry), section)
        return FileSource([entry], ":", key_mapping, units)
    if isinstance(entry, Mapping) and not is_graph(entry):
        for key in entry:
            check_key(section, key, SOURCE_KEYS)
        if ("file" in entry) == ("path" in entry):
            raise ConfigError(f"{section} needs its file, once", f"write {section}: {{file: name.xyz}}")
        inner = file_source(entry.get("file", entry.get("path")), section, None, None)
        index, trust_pickle = entry.get("index"), entry.get("trust_pickle", False)
        if not isinstance(trust_pickle, bool):
            raise ConfigError(f"{section}.trust_pickle is {trust_pickle!r}", "write true or false")
        return FileSource(
            inner.files,
            ":" if index is None else index,
            entry.get("key_mapping", key_mapping),
            entry.get("units", units),
            trust_pickle,
            _read_indices(entry, section),
            Sample.of(entry, section),
        )
    files = [] if isinstance(entry, int | float | None) else entries(entry, section)
    if not files:
        hint = "put a name that YAML reads as true or false, NO, into quotes; or " if isinstance(entry, bool) else ""
        raise ConfigError(f"{section}: {entry!r} is no file", f"{hint}write {section}: name.xyz, or a list of files")
    return FileSource(files, ":", key_mapping, units)


def _read_indices(entry: Mapping[str, Any], section: str) -> tuple[int, ...] | None:
    path = entry.get("indices_path")
    if path is None:
        return read_indices(entry.get("indices"), f"{section}.indices")
    if entry.get("indices") is not None:
        raise ConfigError(f"{section} has both indices and indices_path", "give one of them")
    if not isinstance(path, str | Path):
        raise ConfigError(f"{section}.indices_path is {shown(path)}, which is no file", "give numbers as indices")
    return read_indices(path, f"{section}.indices_path")


def _check_name(name: str, section: str) -> None:
    """Refuse what is written like null or a fraction elsewhere, and is no file."""
    if name in ("None", "none") and not Path(name).exists():
        raise ConfigError(f"{section} is '{name}'", f"write null: {section}=null")
    if re.fullmatch(r"\d+(\.\d+)?\s*%", name) and not Path(name).exists():
        part = float(name.rstrip("% ")) / 100
        raise ConfigError(f"{section} is '{name}'", f"write a fraction: {section}={part:g}")


def held_out_sources(
    entry: Any,
    section: str,
    key_mapping: Mapping[str, str] | None,
    units: Mapping[str, str] | None,
) -> dict[str, FileSource | HeldOut]:
    """Data sets for validation or test: one, a list of several, or a mapping from names.

    Returns:
        ``{name: source}``. The name is the one given, the stem of the first file, or ``section`` for a part of train
        and for structures in memory; made unique by a number.

    Raises:
        ConfigError: As for :func:`file_source`, or if a name is no text or that of another set, too.

    Example:
        >>> held_out_sources({"cold": 0.1, "hot": "hot.xyz"}, "val", None, None)
        {'cold': HeldOut(size=0.1, of=None), 'hot': FileSource(files=[hot.xyz], index=:, key_mapping=None, units=None)}
        >>> list(held_out_sources(["a/md.xyz", "b/md.xyz"], "test", None, None))
        ['md', 'md_2']
    """
    if entry is None:
        return {}
    if isinstance(entry, Mapping) and not is_graph(entry) and not ({"file", "path", "of"} & set(entry)):
        check_set_names(entry, section)
        return {str(name): _make_source(item, f"{section}.{name}", key_mapping, units) for name, item in entry.items()}
    several = isinstance(entry, Sequence) and not isinstance(entry, str) and not any(map(is_structure, entry))
    items = list(entry) if several else [entry]
    sources: dict[str, FileSource | HeldOut] = {}
    for item in items:
        source = _make_source(item, section, key_mapping, units)
        first = source.files[0] if isinstance(source, FileSource) else None
        stem = (Path(first).stem.strip("*?[]") or section) if isinstance(first, str | Path) else section
        name, number = stem, 1
        while name in sources:
            number += 1
            name = f"{stem}_{number}"
        sources[name] = source
    return sources


def check_set_names(names: Iterable[Any], section: str) -> None:
    """Refuse names that YAML reads as something else, and from Python two that are one as text: 1 and "1"."""
    texts: set[str] = set()
    for name in names:
        if name is None or isinstance(name, bool | float):
            raise ConfigError(
                f"{section} has a set named {shown(name)}, which is no text",
                "put the name into quotes in the config file: YAML reads NO and off as false, 1e5 as a number",
            )
        if str(name) in texts:
            raise ConfigError(f"{section} has two sets named '{name}'", "give each set its own name")
        texts.add(str(name))


def _make_source(
    item: Any,
    section: str,
    key_mapping: Mapping[str, str] | None,
    units: Mapping[str, str] | None,
) -> FileSource | HeldOut:
    if isinstance(item, int | float) and not isinstance(item, bool):
        return HeldOut(item)
    if isinstance(item, Mapping) and not is_graph(item) and "of" in item:
        for key in item:
            check_key(section, key, _HELD_OUT_KEYS)
        if "part" not in item:
            raise ConfigError(f"{section} has no 'part'", f"write {section}: {{part: 0.1, of: {item['of']}}}")
        return HeldOut(item["part"], str(item["of"]))
    return file_source(item, section, key_mapping, units)


def below(folder: str | Path | None, entry: Any) -> Any:
    """The entry with each relative file name put below ``folder``.

    Example:
        >>> below("data", {"file": "train.xyz", "index": ":100"})
        {'file': 'data/train.xyz', 'index': ':100'}
    """
    if folder is None or is_structure(entry):
        return entry
    if isinstance(entry, str | Path):
        return str(path_of(folder) / path_of(entry))
    if isinstance(entry, Mapping):
        if "of" in entry:
            return entry  # a part of the training file
        if {"file", "path"} & set(entry):
            files: tuple[str, ...] = ("file", "path", "indices_path")
            files += ("indices",) if isinstance(entry.get("indices"), str | Path) else ()
            return {key: below(folder, value) if key in files else value for key, value in entry.items()}
        return {name: below(folder, value) for name, value in entry.items()}
    if isinstance(entry, Sequence):
        return [below(folder, item) for item in entry]
    return entry

"""Prepared sets as sources of data: one file, or the files of a folder, opened and checked against what they say."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nequip_like.data.fields import Graph
from nequip_like.data.io.given import Index, choose_frames
from nequip_like.data.io.reading import Reading, join_label_names
from nequip_like.data.labels.units import Units
from nequip_like.data.prepared.annotations import PreparedAnnotations
from nequip_like.data.prepared.files import FrameFile, is_prepared
from nequip_like.data.prepared.frames import Origins, PreparedFiles, PreparedFrames
from nequip_like.data.prepared.provenance import find_changed_source
from nequip_like.errors import ConfigError, DataError
from nequip_like.whole_files import path_of


def find_prepared(members: Sequence[Any]) -> list[Path]:
    """The files of prepared sets that a source names, also as patterns and folders; none where it names other files.

    Raises:
        ConfigError: If it names both.
    """
    files: list[Path] = []
    unprepared: list[Any] = []
    for member in members:
        try:
            sets_of_member = _list_prepared(path_of(member)) if isinstance(member, str | Path) else []
        except (OSError, ValueError):  # a name that no file can have; the reader of files says so
            sets_of_member = []
        files.extend(sets_of_member)
        if not sets_of_member:
            unprepared.append(member)
    if files and unprepared:
        raise ConfigError(
            f"{files[0]} is a prepared set, and {unprepared[0]} is none",
            "prepare both into one set, or give one of them",
        )
    return files


def open_prepared(
    files: Sequence[Path],
    index: Index = ":",
    key_mapping: Mapping[str, str] | None = None,
    units: Units | Mapping[str, str] | None = None,
) -> Reading:
    """Open the files of a prepared set, as if their sources had been read.

    Args:
        files: The files, in order.
        index: Which frames, of all files together.
        key_mapping: Must be None: names were declared when the set was prepared.
        units: The same.

    Raises:
        ConfigError: If names or units are declared.
        DataError: If a file is damaged, files do not belong together, or a source has changed since.
    """
    if key_mapping or units:
        given = "key_mapping" if key_mapping else "units"
        raise ConfigError(
            f"{given} is declared, but {files[0]} is a prepared set, whose labels have been read",
            f"declare it when you prepare the set, and below the entries of other files: {{file: ..., {given}: ...}}",
        )
    opened = [FrameFile(path) for path in files]
    manifests = [file.manifest for file in opened]
    _check_together(files, manifests)
    for manifest in manifests:
        if changed := find_changed_source(manifest["sources"]):
            raise DataError(
                f"{changed} has changed since {files[0]} was prepared from it",
                "prepare the set again, or, if the set is what you want, give the file another name",
            )
    names = list(manifests[0]["fields"])
    names += [name for manifest in manifests[1:] for name in manifest["fields"] if name not in names]
    everything = PreparedFrames(PreparedFiles(opened, names))
    numbers = choose_frames(str(files[0]), len(everything), index)
    frames = everything if len(numbers) == len(everything) else everything.select(numbers)
    return Reading(
        frames=frames,
        origins=Origins(frames),
        files=[path.absolute() for path in files],
        label_names=join_label_names(manifest["label_names"] for manifest in manifests),
        units=Units.declared(manifests[0]["units"]),
        free_energy_gap=max(manifest["free_energy_gap"] for manifest in manifests),
        notes=list(dict.fromkeys(note for manifest in manifests for note in manifest["notes"])),
        annotations=PreparedAnnotations(frames.files, frames.indices),
    )


def get_prepared(frames: Sequence[Graph]) -> PreparedFiles | None:
    """The files that frames are read from; None for frames in memory."""
    return frames.files if isinstance(frames, PreparedFrames) else None


def hold_frames(sets: Sequence[Sequence[Graph]], memory: float) -> None:
    """Let prepared sets hold the frames that were read, as far as they fit, in the order in which they are given.

    Args:
        sets: Frames of data sets, prepared or not.
        memory: What all of them together may take, bytes.
    """
    room = memory
    for prepared in dict.fromkeys(filter(None, map(get_prepared, sets))):
        if prepared.memory <= room:
            prepared.holds = True
            room -= prepared.memory


def check_cutoff(frames: Sequence[Graph], cutoff: float) -> None:
    """Refuse prepared frames whose neighbour lists are of another cutoff radius.

    Raises:
        DataError: With both.
    """
    prepared = get_prepared(frames)
    if prepared is None:
        return
    for file in prepared.files:
        if file.manifest["cutoff"] != cutoff:
            raise DataError(
                f"{file.path.absolute()} was prepared with a cutoff radius of {file.manifest['cutoff']:g} Angstrom; "
                f"the model has {cutoff:g}",
                f"prepare it again with --cutoff {cutoff:g}, or write cutoff_radius={file.manifest['cutoff']:g}",
            )


def _list_prepared(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(entry for entry in path.iterdir() if entry.is_file() and is_prepared(entry))
    if path.is_file():
        return [path] if is_prepared(path) else []
    matches = [Path(match) for match in sorted(glob.glob(str(path)))]
    return [match for match in matches if match.is_file() and is_prepared(match)]


def _check_together(files: Sequence[Path], manifests: Sequence[Mapping[str, Any]]) -> None:
    """Refuse files of different cutoffs or units, and parts of a set without the others."""
    for path, manifest in zip(files, manifests, strict=True):
        for key, title in (("cutoff", "cutoff radii"), ("units", "units"), ("key_mapping", "declared names")):
            if manifest[key] != manifests[0][key]:
                raise DataError(
                    f"{files[0]} and {path} were prepared with different {title}: {manifests[0][key]} and "
                    f"{manifest[key]}",
                    "prepare one of them again",
                )
    shards = [manifest["shard"] for manifest in manifests]
    if not any(shards):
        return
    counts = {shard[1] if shard else 1 for shard in shards}
    numbers = sorted(shard[0] if shard else 1 for shard in shards)
    expected = list(range(1, max(counts) + 1))
    if len(counts) > 1 or numbers != expected:
        missing = sorted(set(expected) - set(numbers))
        lack = "a part is there twice"
        if missing:
            lack = f"parts {', '.join(map(str, missing))} of {max(counts)} are missing"
        raise DataError(
            f"the prepared set in {files[0].parent} is not whole: {lack}",
            "prepare what is missing (nequip-data prepare --shard), and keep the parts of one set in a folder",
        )

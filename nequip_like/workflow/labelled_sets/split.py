"""Files of labelled structures, split at random into parts for training, validation and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from nequip_like.data.io.readers import read
from nequip_like.data.splits import check_size, split_whole
from nequip_like.data.tables.frame_table import tabulate
from nequip_like.errors import ConfigError, DataError
from nequip_like.report.labelled_files import check_new_file, write_labelled
from nequip_like.whole_files import path_of
from nequip_like.workflow.labelled_sets.convert import print_notes, report_written

_PARTS = ("train", "val", "test")
_ROUNDING = 1e-9


def split_files(
    sources: Sequence[str | Path],
    folder: str | Path,
    sizes: Mapping[str, int | float],
    *,
    seed: int = 0,
    key_mapping: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    console: Console | None = None,
) -> dict[str, Path]:
    """Deal all frames of files to ``train.xyz``, ``val.xyz`` and ``test.xyz`` in a folder.

    Frames that are the same structure go to one part, and isolated atoms, which are reference energies, to ``train``.

    Args:
        sources: Files or patterns.
        folder: Where the parts are written to.
        sizes: ``{part: size}``: a number of frames, or a fraction of all. Without ``train`` this gets the rest.
        seed: The same seed always gives the same parts.
        key_mapping: ``{name in the files: label}``.
        units: Units of the files.
        console: Where to print; the terminal by default.

    Returns:
        ``{part: file}``.

    Raises:
        ConfigError: If a size is none, or fractions are more than all.
        DataError: If a file cannot be read, or there are fewer frames than asked for.
        OutputError: If a file of a part is there already, or cannot be written.
    """
    console = console or Console()
    for part, size in sizes.items():
        check_size(part, size)
    files = {
        part: check_new_file(path_of(folder) / f"{part}.xyz") for part in _PARTS if part == "train" or part in sizes
    }
    reading = read(list(sources), key_mapping=key_mapping, units=units)
    print_notes(reading.notes, console)
    isolated = np.flatnonzero(tabulate(reading.frames).isolated).tolist()
    parts = split_whole(reading.keys, _count_frames(sizes, len(reading)), seed, first=isolated)
    if empty := [part for part, indices in parts.items() if not indices]:
        raise DataError(
            f"{len(reading)} frames: none of them would be in {empty[0]}", "give more frames, or fewer parts"
        )
    for part, indices in parts.items():
        selected = reading.select(indices)
        report_written(files[part], selected, write_labelled(selected, files[part]), console)
    if left := len(reading) - sum(map(len, parts.values())):
        console.print(f"in no part: {left} frames", highlight=False)
    return files


def _count_frames(sizes: Mapping[str, int | float], frames: int) -> dict[str, int]:
    """Number of frames of each part, ``train`` first; with fractions that make up all, every frame is in a part."""
    fractions = [size for size in sizes.values() if isinstance(size, float)]
    if sum(fractions) > 1 + _ROUNDING:
        raise ConfigError(f"the fractions make up {sum(fractions):g}", "give fractions that make up 1 or less")
    counts = {
        part: size if isinstance(size, int) else max(1, round(size * frames))
        for part, size in sizes.items()
        if part != "train"
    }
    rest = frames - sum(counts.values())
    train = sizes.get("train")
    if isinstance(train, int):
        wanted = train
    elif train is None or sum(fractions) > 1 - _ROUNDING:
        wanted = rest
    else:
        wanted = round(train * frames)
    if wanted > rest or rest < 1:
        asked = ", ".join(f"{part} {size:g}" for part, size in sizes.items())
        raise DataError(f"there are {frames} frames, too few for {asked}", "give smaller sizes")
    return {"train": wanted, **counts}

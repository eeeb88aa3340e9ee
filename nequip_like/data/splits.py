"""Parts of a data set: which frames train and which are held out, and the proof that they do not overlap."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

import torch

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.errors import ConfigError, DataError

_DECIMALS = 5  # positions that agree to 1e-5 Angstrom are the same frame


def split(
    num_frames: int, sizes: Mapping[str, int | float], seed: int, *, keep_in_train: Collection[int] = ()
) -> dict[str, list[int]]:
    """Hold frames out at random; the rest is ``train``.

    Args:
        num_frames: Number of frames.
        sizes: ``{part: size}`` for the parts that are held out: an int is a number of frames, a float between 0 and 1
            a fraction of ``num_frames`` (rounded, at least one frame).
        seed: The same seed always gives the same parts.
        keep_in_train: Frames that are never held out, such as those that occur more than once.

    Returns:
        ``{part: sorted frame indices}`` with ``train`` first. Each frame is in exactly one part.

    Raises:
        ConfigError: If a size is negative, zero, or a fraction outside (0, 1).
        DataError: If nothing would be left to train on.
    """
    counts = {part: _count(part, size, num_frames) for part, size in sizes.items()}
    keep = set(keep_in_train)
    order = torch.randperm(num_frames, generator=torch.Generator().manual_seed(seed)).tolist()
    free = [i for i in order if i not in keep]
    held_out = sum(counts.values())
    if held_out > len(free) or held_out >= num_frames:
        wanted = ", ".join(f"{part}: {count}" for part, count in counts.items())
        kept = f" ({len(keep)} of them occur more than once and stay in train)" if keep else ""
        raise DataError(
            f"cannot hold out {wanted} of {num_frames} frames{kept}: nothing would be left to train on",
            "hold out fewer frames",
        )
    parts: dict[str, list[int]] = {"train": []}
    start = 0
    for part, count in counts.items():
        parts[part] = sorted(free[start : start + count])
        start += count
    parts["train"] = sorted([*free[start:], *keep])
    return parts


def frame_key(frame: Graph) -> str:
    """Hash of a structure: species, positions, and its cell as far as it is periodic, to 1e-5 Angstrom."""
    pbc = frame[fields.PBC]
    cell = torch.where(pbc[..., None], frame[fields.CELL], torch.zeros_like(frame[fields.CELL]))
    digest = hashlib.sha256()
    digest.update(frame[fields.ATOMIC_NUMBERS].numpy().tobytes())
    digest.update(pbc.numpy().tobytes())
    for lengths in (frame[fields.POSITIONS], cell):
        digest.update(torch.round(lengths * 10**_DECIMALS).to(torch.int64).numpy().tobytes())
    return digest.hexdigest()


def duplicates(frames: Sequence[Graph]) -> dict[int, int]:
    """Frames that repeat an earlier one: ``{frame: the first frame that is the same}``."""
    first: dict[str, int] = {}
    repeated = {}
    for i, frame in enumerate(frames):
        original = first.setdefault(frame_key(frame), i)
        if original != i:
            repeated[i] = original
    return repeated


def check_disjoint(groups: Mapping[str, Sequence[GraphDataset]]) -> None:
    """Refuse a structure that is in two groups of data sets.

    Args:
        groups: Data sets of ``train``, ``val`` and ``test``. Sets of one group may overlap: two test sets that share
            a frame both judge the model fairly.

    Raises:
        DataError: Naming the two frames.
    """
    seen: dict[str, tuple[str, str]] = {}
    for group, datasets in groups.items():
        here: dict[str, tuple[str, str]] = {}
        for dataset in datasets:
            for i, frame in enumerate(dataset.frames):
                key = frame_key(frame)
                if key in seen:
                    other_group, other = seen[key]
                    raise DataError(
                        f"the same structure is in {other_group} ({other}) and in {group} ({dataset.origin(i)})",
                        "remove it from one of them, or write data.allow_overlap: true if this is meant",
                    )
                here.setdefault(key, (group, dataset.origin(i)))
        seen |= here


def _count(part: str, size: int | float, num_frames: int) -> int:
    if isinstance(size, bool) or not isinstance(size, int | float):
        raise ConfigError(f"{part}: '{size}' is no size", "write a number of frames, or a fraction such as 0.1")
    if isinstance(size, int):
        if size < 1:
            raise ConfigError(f"{part}: cannot hold out {size} frames", "write a positive number of frames")
        return size
    if not 0 < size < 1:
        raise ConfigError(
            f"{part}: {size} is no fraction between 0 and 1", "write an integer for a number of frames, such as 50"
        )
    return max(1, round(size * num_frames))

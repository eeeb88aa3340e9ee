"""Parts of a data set: which frames train and which are held out, and the proof that they do not overlap."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate

import numpy as np
import torch

from nequip_like.data.dataset import GraphDataset
from nequip_like.errors import ConfigError, DataError


def split_frames(
    num_frames: int,
    sizes: Mapping[str, int | float],
    seed: int,
    *,
    keep_in_train: Collection[int] = (),
    train_size: int | None = None,
    among: Mapping[str, Collection[int]] | None = None,
) -> dict[str, list[int]]:
    """Hold frames out at random; the rest is ``train``.

    Args:
        num_frames: Number of frames.
        sizes: ``{part: size}`` for the parts that are held out: an int is a number of frames, a float between 0 and 1
            a fraction of ``num_frames`` (rounded, at least one frame).
        seed: The same seed always gives the same parts.
        keep_in_train: Frames that are never held out, such as those that occur more than once.
        train_size: Number of frames of ``train``, drawn from what is left; all of it by default.
        among: ``{part: frames}`` of parts that are drawn from some of the frames only, of which a fraction then is.

    Returns:
        ``{part: sorted frame indices}`` with ``train`` first. Each frame is in one part at most.

    Raises:
        ConfigError: If a size is negative, zero, or a fraction outside (0, 1).
        DataError: If nothing, or fewer than ``train_size`` frames, would be left to train on.

    Example:
        >>> parts = split_frames(10, {"val": 0.2, "test": 3}, seed=0)
        >>> {name: len(frames) for name, frames in parts.items()}
        {'train': 5, 'val': 2, 'test': 3}
        >>> sorted(frame for frames in parts.values() for frame in frames) == list(range(10))
        True
    """
    some = {part: set(frames) for part, frames in (among or {}).items()}
    counts = {part: _count(part, size, len(some.get(part, range(num_frames)))) for part, size in sizes.items()}
    keep = set(keep_in_train)
    order = torch.randperm(num_frames, generator=torch.Generator().manual_seed(seed)).numpy()
    free = order[~np.isin(order, list(keep))] if keep else order
    held_out = sum(counts.values())
    if held_out > len(free) or held_out >= num_frames:
        requested = ", ".join(f"{_format_title(part)}: {count}" for part, count in counts.items())
        repeats = f" ({len(keep)} of them occur more than once and stay in train)" if keep else ""
        raise DataError(
            f"cannot hold out {requested} of {num_frames} frames{repeats}: nothing would be left to train on",
            "hold out fewer frames",
        )
    parts: dict[str, list[int]] = {"train": []}
    # Parts of some of the frames first, before these are gone; each set of frames is seen in the same order.
    for part, count in sorted(counts.items(), key=lambda entry: entry[0] not in some):
        chosen = (free[np.isin(free, list(some[part]))] if part in some else free)[:count]
        if len(chosen) < count:
            raise DataError(
                f"cannot hold out {_format_title(part)}: {count} of {len(chosen)} frames that may be held out",
                "hold out fewer frames",
            )
        parts[part] = np.sort(chosen).tolist()
        free = free[~np.isin(free, chosen)]
    remaining = [*keep, *free.tolist()]
    if train_size is not None and train_size > len(remaining):
        raise DataError(
            f"train_size is {train_size}, but {len(remaining)} of {num_frames} frames are left to train on",
            "hold out fewer frames, or train on fewer",
        )
    parts["train"] = np.sort(remaining[:train_size]).tolist()
    return parts


def split_whole(
    keys: np.ndarray, sizes: Mapping[str, int], seed: int, *, first: Collection[int] = ()
) -> dict[str, list[int]]:
    """Deal frames to parts at random; frames that are the same structure go to one part.

    Args:
        keys: Hash of each frame (frames, 2).
        sizes: ``{part: number of frames}``, together no more than there are. A part is as large as that, or a little
            smaller where only structures that occur several times are left.
        seed: The same seed always gives the same parts.
        first: Frames that go to the first part, such as isolated atoms, and count there.

    Returns:
        ``{part: sorted frame indices}``.

    Example:
        >>> keys = np.array([[0, 1], [0, 2], [0, 1], [0, 3], [0, 4], [0, 5]])
        >>> parts = split_whole(keys, {"train": 4, "test": 2}, seed=0)
        >>> {name: len(frames) for name, frames in parts.items()}, any(0 in p and 2 in p for p in parts.values())
        ({'train': 4, 'test': 2}, True)
    """
    repeated = duplicates(keys)
    originals = [repeated.get(i, i) for i in range(len(keys))]
    groups: dict[int, list[int]] = {}
    for i, original in enumerate(originals):
        groups.setdefault(original, []).append(i)
    fixed = {originals[i] for i in first}
    pool = list(groups)
    drawn = [pool[i] for i in torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed)).tolist()]
    order = [*(key for key in pool if key in fixed), *(key for key in drawn if key not in fixed)]
    # Large groups first, while there is room for them; single frames fill what is left.
    order.sort(key=lambda key: (key not in fixed, -len(groups[key])))
    left = dict(sizes)
    parts: dict[str, list[int]] = {part: [] for part in sizes}
    for key in order:
        size = len(groups[key])
        fitting = [part for part in sizes if left[part] >= size]
        part = next(iter(sizes) if key in fixed else iter(fitting), None)
        if part is not None:
            parts[part] += groups[key]
            left[part] -= size
    return {part: sorted(frames) for part, frames in parts.items()}


def duplicates(keys: np.ndarray) -> dict[int, int]:
    """Frames that repeat an earlier one: ``{frame: the first frame that is the same}``, in the order of the frames.

    Args:
        keys: Hash of each frame (frames, 2), as :func:`nequip_like.data.prepared.frames.list_keys` makes it.

    Example:
        >>> duplicates(np.array([[7, 7], [7, 8], [7, 7], [7, 7]]))
        {2: 0, 3: 0}
    """
    originals = _find_originals(keys)
    repeated = np.flatnonzero(originals != np.arange(len(keys)))
    return dict(zip(repeated.tolist(), originals[repeated].tolist(), strict=True))


def _find_originals(keys: np.ndarray) -> np.ndarray:
    """The first frame that has the key of each frame (frames,)."""
    originals = np.arange(len(keys))
    # Frames of which the first half of the key occurs twice are few: a sort of numbers is all that the others take.
    halves = np.sort(keys[:, 0])
    twice = np.flatnonzero(np.isin(keys[:, 0], halves[1:][halves[1:] == halves[:-1]]))
    if len(twice):
        order = np.lexsort(keys[twice].T)  # frames of one key stay in their order
        ordered = keys[twice][order]
        begins = np.ones(len(twice), dtype=bool)
        begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        firsts = order[np.maximum.accumulate(np.where(begins, np.arange(len(twice)), 0))]
        originals[twice[order]] = twice[firsts]
    return originals


def check_disjoint(groups: Mapping[str, Sequence[GraphDataset]]) -> None:
    """Refuse a structure that is in two groups of data sets.

    Args:
        groups: Data sets of ``train``, ``val`` and ``test``. Sets of one group may overlap: two test sets that share
            a frame both judge the model fairly.

    Raises:
        DataError: Naming the two frames.
    """
    members = [(group, dataset) for group, datasets in groups.items() for dataset in datasets]
    names = list(groups)
    group_of = np.repeat([names.index(group) for group, _ in members], [len(dataset) for _, dataset in members])
    originals = _find_originals(np.concatenate([dataset.keys for _, dataset in members]))
    shared = np.flatnonzero(group_of != group_of[originals])
    if not len(shared):
        return
    ends = list(accumulate(len(dataset) for _, dataset in members))
    places = []
    for frame in (int(originals[shared[0]]), int(shared[0])):
        member = bisect_right(ends, frame)
        group, dataset = members[member]
        places.append(f"{group} ({dataset.origin(frame - ends[member] + len(dataset))})")
    raise DataError(
        f"the same structure is in {places[0]} and in {places[1]}",
        "remove it from one of them, or, if this is meant, write allow_overlap: true below data, "
        "+data.allow_overlap=true behind the command",
    )


def _format_title(part: str) -> str:
    """``val/val`` and ``val`` as ``val``, ``test/hot`` as ``test hot``."""
    kind, _, name = part.partition("/")
    return f"{kind} {name}" if name and name != kind else kind


def check_size(part: str, size: int | float) -> None:
    """Refuse what is neither a number of frames nor a fraction.

    Args:
        part: Name of the part, for messages.
        size: An int is a number of frames, a float between 0 and 1 a fraction.

    Raises:
        ConfigError: If it is something else.

    Example:
        1.0 is no fraction, and no number of frames either:

        >>> check_size("val", 1.0)
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: val: 1.0 is no fraction between 0 and 1
          -> write an integer for a number of frames, such as 50
    """
    if isinstance(size, bool) or not isinstance(size, int | float):
        raise ConfigError(f"{part}: '{size}' is no size", "write a number of frames, or a fraction such as 0.1")
    if isinstance(size, int):
        if size < 1:
            raise ConfigError(f"{part}: cannot hold out {size} frames", "write a positive number of frames")
    elif not 0 < size < 1:
        raise ConfigError(
            f"{part}: {size} is no fraction between 0 and 1",
            "write an integer for a number of frames, such as 50",
        )


def _count(part: str, size: int | float, num_frames: int) -> int:
    check_size(_format_title(part), size)
    if isinstance(size, int):
        return size
    return max(1, round(size * num_frames))

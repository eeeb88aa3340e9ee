"""Small batches, several of them joined at once, out of one array for each field.

For each tensor Python and torch need time, whatever its size: for a few molecules that is far more than it takes to
copy their numbers, and most of it is waiting for code and data that the training step before has displaced from the
processor's cache. So the frames of a data set are put into one array for each field, and what several batches need is
taken out of it at once and cut into batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise
from operator import add, attrgetter, is_, mul
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph

Owner = Literal["graph", "node", "edge"]

_MOST_BATCHES = 64  # more at once save little more
_MOST_BYTES = 1_500_000  # of batches at once: all of them stay in memory for as long as one is held
_FEWEST = 4  # batches of average size that are worth it: fewer are joined as quickly one by one
_MOST_MEMORY = 1e9  # bytes of a data set, half of which are there twice while it is packed
_LINE = 8  # rows, of eight bytes each or more: arrays of a batch begin at a line of the cache as any tensor does
_NEEDED = {fields.POSITIONS, fields.EDGE_INDEX, fields.NUM_ATOMS}
_JOINED = set(fields.FIELDS) - {fields.BATCH}
_get_kind = attrgetter("dtype", "layout", "is_cpu", "requires_grad")


class PackedFrames:
    """The frames of a data set, in one array for each field.

    They are not held twice: tensors of the frames are replaced by equal ones that are views of the arrays.

    Args:
        frames: Frames that :meth:`of` has looked at.

    Attributes:
        frames: The frames.
    """

    def __init__(self, frames: list[Graph]) -> None:
        self.frames = frames
        rows = _count_rows(frames)
        self._sizes = _measure_bytes(frames[0].keys(), rows)
        self._places = {owner: _Places(counts) for owner, counts in rows.items()}
        self._arrays = {name: self._pack(name) for name in sorted(frames[0])}
        self._tensors = [tuple(frame.values()) for frame in frames]

    @classmethod
    def of(cls, frames: Sequence[Graph], per_batch: float) -> PackedFrames | None:
        """Pack frames where that helps and can be done.

        Args:
            frames: The frames of a data set.
            per_batch: How many of them a batch has, on average.

        Returns:
            None if they are not all in a list, or are too many; if batches are so large that only a few of them can
            be joined at once; or if frames are anything but single structures with neighbours and the same fields, each
            of which is as the table of fields says.
        """
        if type(frames) is not list or not frames:
            return None
        names = frames[0].keys()
        if not (_NEEDED <= names <= _JOINED and all(frame.keys() == names for frame in frames)):
            return None
        if len(set(map(id, frames))) < len(frames) or not all(_have_kind(frames, name) for name in names):
            return None
        rows = _count_rows(frames)
        memory = sum(_measure_bytes(names, rows))
        is_small = memory <= _MOST_MEMORY and _FEWEST * per_batch * memory / len(frames) <= _MOST_BYTES
        return cls(frames) if is_small and _have_shapes(frames, rows) else None

    def _pack(self, name: str) -> np.ndarray:
        row, starts = fields.field(name), self._places[fields.field(name).owner].starts
        tensors = [frame[name] for frame in self.frames]
        if name == fields.EDGE_INDEX:  # one row behind the other, both of one frame before those of the next
            starts = [2 * start for start in starts]
            padding = torch.zeros(2 * _LINE, dtype=row.dtype)
            array = torch.cat([*map(Tensor.flatten, tensors), padding]).numpy()
            views = [array[start:stop].reshape(2, (stop - start) // 2) for start, stop in pairwise(starts)]
        else:
            padding = torch.zeros(_LINE, *row.shape, dtype=row.dtype)
            array = torch.cat([*tensors, padding]).numpy()
            views = [array[start:stop] for start, stop in pairwise(starts)]
        for frame, view in zip(self.frames, views, strict=True):
            frame[name] = torch.from_numpy(view)
        return array

    def join(self, batches: Iterable[Sequence[int]], join_alone: Callable[[list[Graph]], Graph]) -> Iterator[Graph]:
        """Join frames to batches as :func:`nequip_like.data.graph.collate` does.

        They are joined before they are asked for, as by processes that load batches: a change of a frame's numbers
        comes into those that have not been joined.

        Args:
            batches: Indices of the frames of each batch.
            join_alone: Joins the frames of one batch: a large one, one without frames, and those of a run in which a
                frame has got other tensors.

        Yields:
            The batches. No tensor shares its memory with another one.
        """
        for run in self._cut_runs(batches):
            if len(run) > 1 and all(run) and self._are_unchanged(run):
                yield from _Run(self._places, run).join(self._arrays)
            else:
                yield from (join_alone([self.frames[i] for i in indices]) for indices in run)

    def _cut_runs(self, batches: Iterable[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
        """Runs of batches that are joined at once."""
        run: list[Sequence[int]] = []
        total = 0
        for indices in batches:
            size = sum([self._sizes[i] for i in indices])
            if run and (len(run) == _MOST_BATCHES or total + size > _MOST_BYTES):
                yield run
                run, total = [], 0
            run.append(indices)
            total += size
        if run:
            yield run

    def _are_unchanged(self, run: Iterable[Sequence[int]]) -> bool:
        """Whether frames still consist of the tensors that they got here. What is in these may change."""
        indices = list(chain.from_iterable(run))
        tensors = [self.frames[i].values() for i in indices]
        return set(map(len, tensors)) == {len(self._arrays)} and all(
            map(is_, chain.from_iterable(tensors), chain.from_iterable([self._tensors[i] for i in indices]))
        )


class _Places:
    """Where the rows of each frame are in an array of all of them, and behind these a padding.

    Args:
        counts: Rows of each frame.

    Attributes:
        counts: The same.
        starts: First row of each frame, and of the padding.
    """

    def __init__(self, counts: list[int]) -> None:
        self.counts = counts
        self.starts = list(accumulate(counts, initial=0))


class _Spans:
    """Which rows the joined arrays of a run of batches consist of: those of frames, and behind each batch a padding.

    Args:
        places: Where the rows are.
        run: Indices of the frames of each batch.

    Attributes:
        starts: Where a frame's or a padding's rows begin, in the arrays of all frames.
        counts: How many these are.
        entries: First frame of each batch, and its padding, in these lists.
        parts: The rows of each batch, in the joined arrays.
        length: Rows of the joined arrays.
    """

    def __init__(self, places: _Places, run: Sequence[Sequence[int]]) -> None:
        self.starts: list[int] = []
        self.counts: list[int] = []
        self.entries: list[tuple[int, int]] = []
        self.parts: list[slice] = []
        end = 0
        for batch in run:
            counts = [places.counts[i] for i in batch]
            size = sum(counts)
            added = -size % _LINE
            self.entries.append((len(self.counts), len(self.counts) + len(counts)))
            self.starts += [places.starts[i] for i in batch]
            self.starts.append(places.starts[-1])
            self.counts += counts
            self.counts.append(added)
            self.parts.append(slice(end, end + size))
            end += size + added
        self.length = end

    def list_rows(self) -> np.ndarray:
        """The rows, one by one."""
        counts = np.array(self.counts)
        rows: np.ndarray = np.repeat(np.array(self.starts) - counts.cumsum() + counts, counts)
        rows += np.arange(self.length)
        return rows

    def cut(self, array: np.ndarray) -> list[Tensor]:
        """The rows of each batch, of a joined array."""
        return [torch.from_numpy(array[part]) for part in self.parts]


class _Run:
    """Batches that are joined at once.

    Args:
        places: ``{owner: where its rows are}`` in the arrays of the data set.
        run: Indices of the frames of each batch.
    """

    def __init__(self, places: dict[Owner, _Places], run: Sequence[Sequence[int]]) -> None:
        self._run = run
        self._graphs, self._atoms, self._edges = (_Spans(places[owner], run) for owner in ("graph", "node", "edge"))
        self._rows = {"graph": self._graphs.list_rows(), "node": self._atoms.list_rows()}

    def join(self, arrays: dict[str, np.ndarray]) -> list[Graph]:
        """Join the batches.

        Args:
            arrays: All rows of each field of the data set.
        """
        columns = [self._join_field(fields.field(name), array) for name, array in arrays.items()]
        numbers = [number for batch in self._run for number in range(len(batch) + 1)]
        columns.append(self._atoms.cut(np.repeat(numbers, self._atoms.counts)))
        names = (*arrays, fields.BATCH)
        return [dict(zip(names, tensors, strict=True)) for tensors in zip(*columns, strict=True)]

    def _join_field(self, row: fields.Field, array: np.ndarray) -> list[Tensor]:
        if row.name == fields.EDGE_INDEX:
            return self._join_edge_index(array)
        spans = {"graph": self._graphs, "node": self._atoms, "edge": self._edges}[row.owner]
        joined = _make_array((spans.length, *row.shape), row.dtype)
        if row.owner == "edge":  # many rows of each frame: they are copied together
            ends = map(add, spans.starts, spans.counts)
            np.concatenate([array[start:end] for start, end in zip(spans.starts, ends, strict=True)], out=joined)
        else:
            # mode: numpy would check each row, and write into memory of its own first
            array.take(self._rows[row.owner], axis=0, out=joined, mode="clip")
        return spans.cut(joined)

    def _join_edge_index(self, array: np.ndarray) -> list[Tensor]:
        """The edges of each batch, between atoms that are counted in it.

        In the array the neighbours of a frame stand behind its centres; in a batch those of all its frames do.
        """
        pieces: list[np.ndarray] = []
        sizes: list[int] = []
        shifts: list[int] = []
        for first, last in self._edges.entries:
            counts = self._edges.counts[first : last + 1]
            starts = [2 * start for start in self._edges.starts[first : last + 1]]
            first_atoms = list(accumulate(self._atoms.counts[first:last], initial=0))
            centres = [array[start : start + count] for start, count in zip(starts, counts, strict=True)]
            neighbours = [array[start + count : start + 2 * count] for start, count in zip(starts, counts, strict=True)]
            pieces += [*centres[:-1], *neighbours, centres[-1]]  # the padding behind both
            sizes += [*counts[:-1], *counts, counts[-1]]
            shifts += [*first_atoms[:-1], *first_atoms, 0]
        joined = _make_array((2 * self._edges.length,), torch.int64)
        np.concatenate(pieces, out=joined)
        joined += np.repeat(shifts, sizes)
        pairs = [joined[2 * part.start : 2 * part.stop] for part in self._edges.parts]
        return [torch.from_numpy(pair.reshape(2, len(pair) // 2)) for pair in pairs]


def _make_array(shape: tuple[int, ...], dtype: torch.dtype) -> np.ndarray:
    # Memory of torch's begins at a line of the cache.
    return torch.empty(shape, dtype=dtype).numpy()


def _have_kind(frames: Sequence[Graph], name: str) -> bool:
    """Whether a field is a plain tensor in each frame, of the type and with the dimensions of the table of fields."""
    row, tensors = fields.field(name), [frame[name] for frame in frames]
    return (
        set(map(type, tensors)) == {Tensor}
        and set(map(_get_kind, tensors)) == {(row.dtype, torch.strided, True, False)}
        and set(map(Tensor.dim, tensors)) == {1 + len(row.shape)}
    )


def _count_rows(frames: Sequence[Graph]) -> dict[Owner, list[int]]:
    """``{owner: rows of each frame}``."""
    return {
        "graph": [1] * len(frames),
        "node": [frame[fields.POSITIONS].shape[0] for frame in frames],
        "edge": [frame[fields.EDGE_INDEX].shape[1] for frame in frames],
    }


def _have_shapes(frames: Sequence[Graph], rows: dict[Owner, list[int]]) -> bool:
    for name in frames[0]:
        row = fields.field(name)
        counts = rows[row.owner]
        shapes = [(2, count) for count in counts] if name == fields.EDGE_INDEX else [(n, *row.shape) for n in counts]
        if [tuple(frame[name].shape) for frame in frames] != shapes:
            return False
    return torch.cat([frame[fields.NUM_ATOMS] for frame in frames]).tolist() == rows["node"]


def _measure_bytes(names: Iterable[str], rows: dict[Owner, list[int]]) -> list[int]:
    """Bytes of each frame."""
    per_row = dict.fromkeys(rows, 0)
    for row in map(fields.field, names):
        per_row[row.owner] += math.prod(row.shape) * row.dtype.itemsize
    return [sum(map(mul, per_row.values(), counts)) for counts in zip(*rows.values(), strict=True)]

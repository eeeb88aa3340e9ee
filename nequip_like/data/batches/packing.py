"""Cuts frames of different sizes into batches that cost the same.

Training: the shuffled order of an epoch is cut into windows of about 64 batches. Within a window the frames are placed
one after another, each into the batch that costs least so far: first the large ones, in classes of sizes that differ by
less than a fourth, in the shuffled order within a class. So batches fill up alike, each gets large and small frames,
and which frames meet in a batch is drawn anew in each epoch. Batches that cost about the same make a step of several
processes. At last the steps are shuffled.

An epoch always has the same number of steps, for schedules count on it: the least for which this works, found once. An
epoch whose frames happen not to fit into their windows is cut into larger ones, and into one at last, whose frames are
placed strictly by size; that always fits, for it depends on the sizes alone.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

_WINDOW = 64  # batches: enough of them that each window can fill its own
_CLASS = math.log(1.25)  # logarithm of the ratio of sizes whose order is drawn
_GROWTH = 0.01  # by which the number of steps grows in the search
_MORE_STEPS = 5  # times this growth, for the sake of windows


def cut_in_order(order: Sequence[int] | np.ndarray, costs: np.ndarray, limit: int) -> list[list[int]]:
    """Cut frames into batches without changing their order, each as large as the limit allows.

    Args:
        order: Frames.
        costs: Cost of each frame, by its number.
        limit: The most that a batch costs; a frame that costs more is a batch of its own.

    Example:
        >>> cut_in_order([0, 1, 2, 3], np.array([3, 2, 9, 1]), 5)
        [[0, 1], [2], [3]]
    """
    batches: list[list[int]] = []
    room = 0
    for frame in np.asarray(order, dtype=np.int64).tolist():
        cost = int(costs[frame])
        if cost > room:
            batches.append([])
            room = limit
        batches[-1].append(frame)
        room -= cost
    return batches


class Packing:
    """Cuts the order of an epoch into steps, each of which has one batch for every process.

    Args:
        costs: Cost of each frame, by its number, 1 or more.
        limit: The most that a batch costs; a frame that costs more is a batch of its own.
        processes: Number of processes.
    """

    def __init__(self, costs: np.ndarray, limit: int, processes: int = 1) -> None:
        # What is larger than a batch fills one, and nothing fits beside it.
        self.costs = np.minimum(np.asarray(costs, dtype=np.int64), limit)
        self.limit = limit
        self.processes = processes
        self._classes = np.floor(np.log(self.costs) / _CLASS)

    def count_steps(self, order: np.ndarray, shuffled: bool) -> int:
        """Count the steps of an epoch.

        Args:
            order: Frames of an epoch.
            shuffled: Whether the order was drawn; else it is to stay.
        """
        most = len(order) // self.processes  # each batch has a frame
        if not shuffled:
            return min(most, -(-len(cut_in_order(order, self.costs, self.limit)) // self.processes))
        steps = max(1, -(-int(self.costs[order].sum()) // (self.limit * self.processes)))
        while steps < most and self._place_strictly(order, steps) is None:
            steps += max(1, int(_GROWTH * steps))
        for increment in range(_MORE_STEPS + 1):
            candidate = steps + math.ceil(increment * _GROWTH * steps)
            if candidate <= most and self._place_in_windows(order, candidate, self._count_windows(candidate)):
                return candidate
        return min(steps, most)

    def cut(self, order: np.ndarray, steps: int, generator: torch.Generator) -> Iterator[list[list[int]]]:
        """Cut a shuffled order into steps; where frames do not fit, those at its end sit out.

        Args:
            order: Frames of an epoch.
            steps: Number of steps.
            generator: Draws the order of the steps, and which process gets which batch.

        Yields:
            The batches of the processes.
        """
        packed, windows = None, self._count_windows(steps)
        while packed is None and windows > 1:
            packed = self._place_in_windows(order, steps, windows)
            windows //= 2
        packed = packed or self._place_in_windows(order, steps, 1)
        while packed is None:
            # As many frames as batches always fit.
            order = order[: max(steps * self.processes, len(order) - max(1, len(order) // 200))]
            packed = self._place_strictly(order, steps)
        for step in torch.randperm(steps, generator=generator).tolist():
            batches = packed[step * self.processes : (step + 1) * self.processes]
            yield [batches[process] for process in torch.randperm(self.processes, generator=generator).tolist()]

    def cut_in_order(self, order: np.ndarray, steps: int) -> Iterator[list[list[int]]]:
        """Cut an order into steps and keep it: batches are filled one after the other.

        The largest are divided where there have to be more of them; where there are too many, the last sit out.
        """
        batches = cut_in_order(order, self.costs, self.limit)
        while len(batches) < steps * self.processes:
            largest = max(range(len(batches)), key=lambda i: len(batches[i]))
            frames = batches[largest]
            batches[largest : largest + 1] = [frames[: len(frames) // 2], frames[len(frames) // 2 :]]
        for step in range(steps):
            yield batches[step * self.processes : (step + 1) * self.processes]

    def _count_windows(self, steps: int) -> int:
        return max(1, steps * self.processes // max(_WINDOW, 8 * self.processes))

    def _place_in_windows(self, order: np.ndarray, steps: int, windows: int) -> list[list[int]] | None:
        """Batches of each window after the other; None if the frames of one do not fit."""
        ends = np.cumsum(self.costs[order])
        result: list[list[int]] = []
        start, first = 0, 0
        for window in range(1, windows + 1):
            stop = steps * window // windows
            # Each window has a share of the cost as large as that of the steps.
            last = len(order) if window == windows else int(np.searchsorted(ends, ends[-1] * (stop / steps)))
            frames = order[first:last]
            by_class = frames[np.argsort(-self._classes[frames], kind="stable")]
            batches = self._place(by_class, stop - start) or self._place_strictly(frames, stop - start)
            if batches is None:
                return None
            result += batches
            start, first = stop, last
        return result

    def _place_strictly(self, frames: np.ndarray, steps: int) -> list[list[int]] | None:
        """Place strictly by size: whether that fits depends on the sizes alone."""
        return self._place(frames[np.argsort(-self.costs[frames], kind="stable")], steps)

    def _place(self, frames: np.ndarray, steps: int) -> list[list[int]] | None:
        """Place each frame into the batch that costs least; batches by their cost. None if one does not fit."""
        count = steps * self.processes
        if len(frames) < count:
            return None  # a batch would be empty
        batches: list[list[int]] = [[] for _ in range(count)]
        least = [(0, index) for index in range(count)]  # a heap
        for frame, cost in zip(frames.tolist(), self.costs[frames].tolist(), strict=True):
            load, index = least[0]
            if load + cost > self.limit:
                return None
            heapq.heapreplace(least, (load + cost, index))
            batches[index].append(frame)
        return [batches[index] for _, index in sorted(least)]

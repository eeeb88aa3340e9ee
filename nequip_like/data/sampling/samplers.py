"""Orders of frames that are drawn by weights, or of which an epoch takes another number than there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from nequip_like.data.samplers import FrameBatchSampler, make_epoch_generator
from nequip_like.data.sampling.policies import compute_error_weights

Balance = Callable[[np.ndarray], np.ndarray]

_APART = 0x3C6EF372  # between the seeds of the parts of a mixture


class RoundsSampler(FrameBatchSampler):
    """Frames in one permutation after the other, of which each epoch takes the next ones.

    So all frames are seen equally often over the epochs, however many an epoch has.

    Args:
        num_frames: Number of training frames.
        samples: Frames of an epoch.
        batch_size: Frames per batch and process.
        **arguments: As for :class:`~nequip_like.data.samplers.FrameBatchSampler`.

    Example:
        >>> sampler = RoundsSampler(6, 4, batch_size=2, shuffle=True, seed=0)
        >>> seen = []
        >>> for epoch in range(3):
        ...     sampler.set_epoch(epoch)
        ...     seen += sampler.order()
        >>> sorted(seen[:6]), sorted(seen[6:])
        ([0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5])
    """

    def __init__(self, num_frames: int, samples: int, batch_size: int, **arguments: Any) -> None:
        self.num_available = num_frames
        super().__init__(samples, batch_size, **arguments)

    def order(self) -> list[int]:
        """Frames of the current epoch, in their order."""
        first = self.epoch * self.num_frames
        number, start = divmod(first, self.num_available)
        frames: list[int] = []
        while len(frames) < self.num_frames:
            frames += self._list_round(number)[start:]
            number, start = number + 1, 0
        return frames[: self.num_frames]

    def _list_round(self, number: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.num_available))
        return torch.randperm(self.num_available, generator=make_epoch_generator(self.seed, number)).tolist()


class MixtureSampler(FrameBatchSampler):
    """Batches of frames of several parts, mixed, of each of which an epoch has a given number.

    Frames of a part come in one permutation after the other, and each epoch takes the next ones: over the epochs all
    frames of a part are seen equally often. Which these are depends on (seed, epoch) alone.

    Args:
        parts: Indices of the frames of each part.
        drawn: How many frames of each part an epoch has.
        batch_size: Frames per batch and process.
        **arguments: As for :class:`~nequip_like.data.samplers.FrameBatchSampler`.

    Example:
        All of the frames 0 to 3 and two of the others in each epoch; after three epochs all of these were seen once:

        >>> sampler = MixtureSampler([range(4), range(4, 10)], [4, 2], batch_size=3, shuffle=True, seed=0)
        >>> drawn = []
        >>> for epoch in range(3):
        ...     sampler.set_epoch(epoch)
        ...     drawn += [frame for frame in sampler.order() if frame >= 4]
        >>> sorted(drawn)
        [4, 5, 6, 7, 8, 9]
    """

    def __init__(self, parts: Sequence[Sequence[int]], drawn: Sequence[int], batch_size: int, **arguments: Any) -> None:
        self.parts = [[int(frame) for frame in part] for part in parts]
        self.drawn = list(drawn)
        super().__init__(sum(drawn), batch_size, **arguments)

    def order(self) -> list[int]:
        """Order of the frames in the current epoch; without ``shuffle`` those of each part are spread evenly."""
        frames = [frame for position in range(len(self.parts)) for frame in self._draw_frames(position)]
        slots = super().order() if self.shuffle else self._place_evenly()
        return [frames[slot] for slot in slots]

    def _draw_frames(self, position: int) -> list[int]:
        part, drawn = self.parts[position], self.drawn[position]
        if drawn == len(part):
            return part
        rounds: dict[int, list[int]] = {}
        frames = []
        for place in range(self.epoch * drawn, (self.epoch + 1) * drawn):
            number, within = divmod(place, len(part))
            if number not in rounds:
                rounds[number] = self._list_round(position, number)
            frames.append(part[rounds[number][within]])
        return frames

    def _list_round(self, position: int, number: int) -> list[int]:
        size = len(self.parts[position])
        if not self.shuffle:
            return list(range(size))
        # Not the streams that the order of frames is drawn from, and one for each part.
        generator = make_epoch_generator(~(self.seed + _APART * (position - 1)), number)
        return torch.randperm(size, generator=generator).tolist()

    def _place_evenly(self) -> list[int]:
        starts = np.cumsum(self.drawn) - self.drawn
        places = [((i + 1) / drawn, k) for k, drawn in enumerate(self.drawn) for i in range(drawn)]
        slots = [int(start) + i for start, drawn in zip(starts, self.drawn, strict=True) for i in range(drawn)]
        return [slot for _, slot in sorted(zip(places, slots, strict=True))]


class WeightedSampler(FrameBatchSampler):
    """Frames that are drawn independently of each other, in proportion to weights.

    Args:
        weights: Weight of each frame (frames,).
        samples: Frames of an epoch.
        batch_size: Frames per batch and process.
        **arguments: As for :class:`~nequip_like.data.samplers.FrameBatchSampler`.
    """

    def __init__(self, weights: np.ndarray, samples: int, batch_size: int, **arguments: Any) -> None:
        self.weights = weights
        super().__init__(samples, batch_size, **arguments)

    def order(self) -> list[int]:
        """Frames of the current epoch, in their order."""
        ends = np.cumsum(self.weights)
        uniform = torch.rand(
            self.num_frames, dtype=torch.float64, generator=make_epoch_generator(self.seed, self.epoch)
        ).numpy()
        # A number of [0, 1) times a sum may be rounded up to the sum itself.
        drawn = np.searchsorted(ends, uniform * ends[-1], side="right")
        frames: list[int] = np.minimum(drawn, len(ends) - 1).tolist()
        return frames


class ErrorWeightedSampler(WeightedSampler):
    """Frames that are drawn in proportion to the errors that they had when they were drawn last.

    Args:
        num_frames: Number of training frames.
        samples: Frames of an epoch.
        batch_size: Frames per batch and process.
        balance: Changes the weights, such as those of several sets that have shares of their own.
        **arguments: As for :class:`~nequip_like.data.samplers.FrameBatchSampler`.

    Attributes:
        scores: Error of the energy of each frame, eV/atom (frames,); 1 before it was drawn for the first time.
    """

    def __init__(
        self, num_frames: int, samples: int, batch_size: int, *, balance: Balance | None = None, **arguments: Any
    ) -> None:
        self.scores = np.ones(num_frames)
        self._balance = balance
        super().__init__(self._compute_weights(), samples, batch_size, **arguments)

    def update(self, sums: np.ndarray, draws: np.ndarray) -> None:
        """Take the errors of an epoch.

        Args:
            sums: Sum of the absolute errors over the draws of each frame, eV/atom (frames,).
            draws: How often each frame was drawn (frames,).
        """
        drawn = draws > 0
        self.scores[drawn] = sums[drawn] / draws[drawn]
        self.weights = self._compute_weights()

    def go_on(self, scores: np.ndarray) -> None:
        """Go on with the scores of a checkpoint."""
        self.scores = scores.copy()
        self.weights = self._compute_weights()

    def _compute_weights(self) -> np.ndarray:
        weights = compute_error_weights(self.scores)
        return weights if self._balance is None else self._balance(weights)

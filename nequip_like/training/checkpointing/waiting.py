"""Checkpoints that wait in memory, because a newer one is likely to take their place before long.

A run on small molecules does an epoch in less than a second. To write its two checkpoints each time would take a tenth
of the run, and of all these files only the last ones are ever read.
"""

from __future__ import annotations

import copy
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nequip_like.model.checkpoint_format import write_checkpoint

AT_MOST_EVERY = 10.0  # seconds


@dataclass
class _Waiting:
    content: dict[str, Any]
    made_at: float  # time of the clock
    is_listed: bool


class WaitingCheckpoints:
    """Writes checkpoints, each file at most every ten seconds: of those that follow sooner, the newest waits.

    What is lost with a process that is killed is at most this time of training, because a checkpoint waits only while
    the one in its file was made less than this time before. Where one is written, all are: other files may not be newer
    or older by more than they are without waiting.

    Args:
        at_most_every: Seconds between two states of one file; 0 to write all at once.

    Example:
        The second one waits, and is a copy:

        >>> weights = torch.zeros(1)
        >>> waiting = WaitingCheckpoints()
        >>> with waiting.allowed():
        ...     waiting.save({"state_dict": {"w": weights}}, "last.ckpt")
        ...     waiting.save({"state_dict": {"w": weights.add_(1)}}, "last.ckpt")
        >>> _ = weights.add_(1)
        >>> torch.load("last.ckpt")["state_dict"]["w"].item()
        0.0
        >>> waiting.write()
        >>> torch.load("last.ckpt")["state_dict"]["w"].item()
        1.0
    """

    def __init__(self, at_most_every: float = AT_MOST_EVERY) -> None:
        self.at_most_every = at_most_every
        self._allowed: bool | None = None  # as what: one that others list, or another
        self._made_at: dict[Path, float] = {}  # when the states in the files were made
        self._waiting: dict[Path, _Waiting] = {}  # the newest last

    @contextmanager
    def allowed(self, is_listed: bool = False) -> Iterator[None]:
        """Let the checkpoints that are saved meanwhile wait; all others are written at once.

        Args:
            is_listed: Whether other checkpoints list these as the best ones. They are written first: a file that lists
                one which is not there yet, or is still the one before, would lose it for the run that goes on.
        """
        self._allowed = is_listed
        try:
            yield
        finally:
            self._allowed = None

    def save(self, content: dict[str, Any], path: str | Path) -> None:
        """Write a checkpoint, or keep a copy of it for later.

        The first one of a file is written at once.

        Args:
            content: Tensors and plain values; they may change afterwards.
            path: Where the file shall be.

        Raises:
            OutputError: If it, or one that waits, cannot be written.
        """
        path, moment = Path(path), time.monotonic()
        if self._allowed is None:
            self._waiting.pop(path, None)
            self.write()
            write_checkpoint(content, path)
            self._made_at[path] = moment
            return
        waits = path in self._made_at and moment - self._made_at[path] < self.at_most_every
        entry = _Waiting(copy_state(content) if waits else content, moment, self._allowed)
        self._waiting.pop(path, None)  # the new one is the last in order
        self._waiting[path] = entry
        if waits:
            return
        try:
            self.write()
        except BaseException:
            if path in self._waiting:  # after an interrupt: until the end of the run writes it, its content may change
                entry.content = copy_state(content)
            raise

    def write(self) -> None:
        """Write all that wait.

        Raises:
            OutputError: If one cannot be written. Those that follow it are given up, too: they are of later states, and
                may list it. The files before stay.
        """
        # The order of sorted() among equal ones stays that in which they came.
        for path in sorted(self._waiting, key=lambda path: not self._waiting[path].is_listed):
            try:
                write_checkpoint(self._waiting[path].content, path)
            except Exception:
                self._waiting.clear()
                raise
            self._made_at[path] = self._waiting.pop(path).made_at

    def write_in_time(self) -> None:
        """Write all that wait, if the time is over for one of them."""
        if self._waiting:
            oldest = min(self._made_at.get(path, 0.0) for path in self._waiting)
            if time.monotonic() - oldest >= self.at_most_every:
                self.write()

    def give_up(self, path: str | Path | None = None) -> None:
        """Write none that wait, or not the one of a file.

        Args:
            path: The file, which is written at once the next time; None for all.
        """
        for each_path in [*self._waiting, *self._made_at] if path is None else [Path(path)]:
            self._waiting.pop(each_path, None)
            self._made_at.pop(each_path, None)


def copy_state(state: Any) -> Any:
    """Copy the content of a checkpoint: all that a run may change later, tensors to the CPU.

    Several times as fast as ``copy.deepcopy``, for a checkpoint is hundreds of tensors in nested dictionaries.

    Args:
        state: Tensors and plain values in dictionaries, lists and tuples.
    """
    with torch.no_grad():
        return _copy_value(state)


_CONSTANT = frozenset({str, int, float, bool, type(None)})


def _copy_value(value: Any) -> Any:
    kind = type(value)
    if kind in _CONSTANT:
        return value
    if kind is Tensor:
        return value.clone() if value.is_cpu else value.cpu()
    if kind is dict:
        return {key: _copy_value(entry) for key, entry in value.items()}
    if kind is list or kind is tuple:
        return kind([_copy_value(entry) for entry in value])
    if kind is OrderedDict:
        copied = OrderedDict((key, _copy_value(entry)) for key, entry in value.items())
        copied.__dict__.update(_copy_value(vars(value)))  # torch keeps versions of modules there
        return copied
    return copy.deepcopy(value)

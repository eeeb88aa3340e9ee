"""The best k checkpoints: which is which, told beside the files, because names with a rank in them would soon be wrong.

A file is named after its epoch and step for good. ``best.ckpt`` is always the best of them (another name of the same
file), and ``best.json`` lists all of them in order.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nequip_like.whole_files import written_whole


@dataclass(frozen=True)
class RankedCheckpoint:
    """One of the best checkpoints.

    Attributes:
        rank: 1 is the best.
        file: Name of the file.
        value: What was monitored.
        epoch: Epoch that it was written in, from 0; -1 if it is not known.
        step: Number of optimizer steps done; -1 if it is not known.
    """

    rank: int
    file: str
    value: float
    epoch: int
    step: int

    def describe(self) -> str:
        """One line for the end of a run."""
        return f"{self.rank}. {self.file}: {self.value:.6g} (epoch {self.epoch}, step {self.step})"


def rank_checkpoints(
    values: Mapping[str, float], saved_at: Mapping[str, Sequence[int]], smallest_first: bool
) -> list[RankedCheckpoint]:
    """Checkpoints from the best to the worst; of equal ones the earlier is the better.

    Args:
        values: What was monitored, by path.
        saved_at: Epoch and step, by file name.
        smallest_first: Whether small values are good.

    Example:
        Of equal values the one that came first is the better:

        >>> values = {"run/late.ckpt": 0.1, "run/early.ckpt": 0.1, "run/worse.ckpt": 0.3}
        >>> saved_at = {"late.ckpt": [2, 300], "early.ckpt": [1, 200], "worse.ckpt": [0, 100]}
        >>> for checkpoint in rank_checkpoints(values, saved_at, smallest_first=True):
        ...     print(checkpoint.describe())
        1. early.ckpt: 0.1 (epoch 1, step 200)
        2. late.ckpt: 0.1 (epoch 2, step 300)
        3. worse.ckpt: 0.3 (epoch 0, step 100)
    """
    sign = 1 if smallest_first else -1
    positions = {path: tuple(saved_at.get(Path(path).name, (-1, -1))) for path in values}
    order = sorted(values, key=lambda path: (sign * values[path], positions[path][1]))
    return [RankedCheckpoint(i, Path(path).name, values[path], *positions[path]) for i, path in enumerate(order, 1)]


def write_ranking(path: Path, monitor: str, checkpoints: Sequence[RankedCheckpoint]) -> None:
    """Write the order of the best checkpoints to a JSON file.

    Raises:
        OutputError: If it cannot be written.
    """
    content = {"monitor": monitor, "checkpoints": [asdict(checkpoint) for checkpoint in checkpoints]}
    with written_whole(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n")


def give_name(path: Path, name: Path) -> None:
    """Give a file another name, in place of whatever had it; a copy where the file system has one name for each file.

    Raises:
        OutputError: If it cannot be written.
    """
    with written_whole(name) as partial:
        # A second name costs no space and stays when the first is removed, where a symbolic link would point nowhere.
        # The link gets a passing name first: os.link takes none that exists, and removing it before would leave a gap.
        try:
            os.link(path, partial)
        except OSError:
            shutil.copyfile(path, partial)

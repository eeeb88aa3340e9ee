"""What happens to one process of a run in the middle of a step."""

from __future__ import annotations

import os
from typing import Any

import lightning

from nequip_like.errors import TrainingError


class Fault(lightning.Callback):
    """Lets some processes fail, or sends them a signal, when their n-th batch begins.

    Args:
        ranks: Which processes.
        batch: At which batch, from 1.
        kind: ``user``, an error of the user's; ``bug``, any other; or the number of a signal.
    """

    def __init__(self, ranks: list[int], batch: int, kind: str | int) -> None:
        self.ranks, self.batch, self.kind, self.seen = ranks, batch, kind, 0

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        self.seen += 1
        restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
        if self.seen != self.batch or trainer.global_rank not in self.ranks or restarted:
            return
        if self.kind == "user":
            raise TrainingError(f"batch {self.batch} is bad", "mend it")
        if self.kind == "bug":
            raise ValueError(f"process {trainer.global_rank} has a bug")
        os.kill(os.getpid(), int(self.kind))

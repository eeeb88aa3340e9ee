"""Training ends if another run has taken its folder over: two runs never write into one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning

from nequip_like.errors import OutputError
from nequip_like.training.checkpointing.io import find_waiting
from nequip_like.workflow.run_folder.claims import BEAT, check_still_held


class HeldFolder(lightning.Callback):
    """Looks now and then whether the output folder still belongs to this run.

    A process that was suspended for long is taken for dead by those on other machines; when it wakes, nothing may be
    written any more. So it comes before all callbacks that write.

    Args:
        folder: The output folder.
        every: Seconds between looks.
    """

    def __init__(self, folder: Path, every: float = BEAT) -> None:
        self._folder, self._every, self._looked = folder, every, time.monotonic()

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any, **kwargs: Any) -> None:
        """Look, if it is time; one process of several does."""
        if trainer.is_global_zero and time.monotonic() - self._looked >= self._every:
            self._looked = time.monotonic()
            try:
                check_still_held(self._folder)
            except OutputError:
                # The checkpoints that wait would be written over those of the other run.
                if (waiting := find_waiting(trainer)) is not None:
                    waiting.give_up()
                raise

"""A callback for runs that are to last until something happens to them."""

from __future__ import annotations

import time
from typing import Any

import lightning


class Slow(lightning.Callback):
    """Waits at each batch.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        time.sleep(self.seconds)

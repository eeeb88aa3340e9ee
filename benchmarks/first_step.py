"""The callback that tells when a run's first training step has ended; the same file for ours and for peers."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import lightning


class FirstStep(lightning.Callback):
    """After the first batch writes wall time and CPU seconds of this process, and ends it at once."""

    def on_train_batch_end(self, *arguments: object) -> None:
        """Called by Lightning."""
        Path("first_step.json").write_text(json.dumps({"wall": time.time(), "cpu": time.process_time()}))
        os._exit(0)

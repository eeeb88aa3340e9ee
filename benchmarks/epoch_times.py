"""The callback that tells when each epoch of a run begins; the same file for ours and for peers.

In a run of ours with the environment variable TIME_COMPILED it also adds up the time inside compiled code, by putting a
stopwatch around each function of the model's library.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import lightning


class _Stopwatch:
    """A library whose calls are timed."""

    def __init__(self, library) -> None:
        self.library, self.seconds = library, 0.0

    def __getattr__(self, name: str):
        function = getattr(self.library, name)

        def timed(*arguments):
            start = time.perf_counter()
            result = function(*arguments)
            self.seconds += time.perf_counter() - start
            return result

        self.__dict__[name] = timed
        return timed


class EpochTimes(lightning.Callback):
    """Writes epoch_times.json when the run ends: when epochs began, seconds in compiled code until then, sizes."""

    def __init__(self) -> None:
        self.begins: list[float] = []
        self.compiled: list[float] = []
        self.watch: _Stopwatch | None = None

    def on_train_start(self, trainer, pl_module) -> None:
        """Put the stopwatch where the library is."""
        if os.environ.get("TIME_COMPILED"):
            program = pl_module.model.energy_model.native.network.program
            self.watch = program.library = _Stopwatch(program.library)

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        """Called by Lightning."""
        self.begins.append(time.perf_counter())
        self.compiled.append(self.watch.seconds if self.watch else 0.0)

    def on_train_end(self, trainer, pl_module) -> None:
        """Called by Lightning."""
        self.on_train_epoch_start(trainer, pl_module)
        model = getattr(pl_module, "model", pl_module)
        told = {
            "begins": self.begins,
            "compiled": self.compiled,
            "steps": trainer.num_training_batches,
            "parameters": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        }
        Path(os.environ["EPOCH_TIMES"]).write_text(json.dumps(told))

"""Callbacks that Lightning does not have."""

from __future__ import annotations

import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only

from nequip_like.train.module import NequIPLightningModule

# Energies and forces are read in milli-units: the errors that matter are a few hundredths of a unit.
_COLUMNS = (
    ("per_atom_energy_rmse", "E rmse", "meV/atom", 1e3),
    ("forces_rmse", "F rmse", "meV/A", 1e3),
    ("stress_rmse", "S rmse", "meV/A^3", 1e3),
    ("weighted_sum", "weighted sum", "", 1.0),
)


class ResumableEarlyStopping(EarlyStopping):
    """Lightning's EarlyStopping, of which a resumed run may have another patience: Lightning takes the old one."""

    @property
    def state_key(self) -> str:
        """The same as Lightning's, so that checkpoints of one can be gone on with by the other."""
        return super().state_key.replace(type(self).__qualname__, EarlyStopping.__qualname__)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what an earlier run found."""
        super().load_state_dict({**state_dict, "patience": self.patience})


class EpochPrinter(lightning.Callback):
    """Prints one line for each validation: epoch, learning rate, loss, validation errors, time.

    It works where a progress bar does not: in log files, in batch jobs, over ssh.

    Args:
        every_n: Print only every n-th validation (and the first).
    """

    def __init__(self, every_n: int = 1) -> None:
        self.every_n = every_n
        self._count = 0
        self._start = time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._start = time.monotonic()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Print the line."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        self._count += 1
        if (self._count - 1) % self.every_n == 0:
            self._print(self.line(trainer))

    def line(self, trainer: lightning.Trainer) -> str:
        """The line for the trainer's present state."""
        metrics = trainer.callback_metrics
        rate = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else float("nan")
        parts = [f"epoch {trainer.current_epoch:4d}", f"step {trainer.global_step:6d}", f"lr {rate:.2e}"]
        if (loss := metrics.get("train_loss_step/weighted_sum")) is not None:
            parts.append(f"loss {float(loss):.3e}")
        for i in range(_num_validation_sets(trainer.lightning_module)):
            shown = [
                f"{label} {float(metrics[key]) * factor:.4g}{' ' + unit if unit else ''}"
                for name, label, unit, factor in _COLUMNS
                if (key := f"val{i}_epoch/{name}") in metrics
            ]
            parts.append(f"val{i}: " + ", ".join(shown))
        parts.append(f"{time.monotonic() - self._start:.0f} s")
        return " | ".join(parts)

    @staticmethod
    @rank_zero_only
    def _print(line: str) -> None:
        print(line, flush=True)


def _num_validation_sets(module: lightning.LightningModule) -> int:
    return len(module.val_metrics) if isinstance(module, NequIPLightningModule) else 0

"""What a run puts into its checkpoints and takes out again, and how Lightning writes and reads the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from nequip_like.distributed import gather_states, get_random_state, select_own_state, set_random_state, shapes
from nequip_like.errors import ModelFileError
from nequip_like.model.checkpoint_format import (
    CHECKPOINT_KEY,
    CHECKPOINT_VERSION,
    averaging_of,
    evaluated_of,
    read_checkpoint,
    upgrade,
)
from nequip_like.optim.schedule_free import ScheduleFreeWeights
from nequip_like.optim.schedulers import PlateauSchedule
from nequip_like.training.checkpointing.waiting import AT_MOST_EVERY, WaitingCheckpoints
from nequip_like.training.lightning_internals import accumulating
from nequip_like.training.recovery.recovering_module import RecoveringModule

# Parts of the state that hold no weights and do not act on training.
_OBSERVED = ("train_metrics.", "val_metrics.", "test_metrics.", "raw_val_metrics.", "raw_test_metrics.")

_MODULES = {None: "NequIPLightningModule", "ema": "EMALightningModule", "swa": "SWALightningModule"}


class ResumableModule(RecoveringModule):
    """Base class: its checkpoints hold what a run needs to go on bit for bit, and where they come from.

    Args:
        info: Plain values that are kept in each checkpoint: the resolved config, versions, overrides.
        **arguments: Arguments of :class:`~nequip_like.training.recovery.recovering_module.RecoveringModule`.
    """

    averaging: str | None = None  # kind of average of the weights that is kept beside them: ema, swa

    def __init__(self, info: Mapping[str, Any] | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.info = dict(info or {})
        self._schedule_free = ScheduleFreeWeights()
        self._plateau: PlateauSchedule | None = None
        self._validated = False
        self._logged_before: dict[str, float] = {}
        self._resumed_from: Mapping[str, Any] | None = None

    @property
    def evaluated(self) -> str:
        """Which weights are validated, tested and exported: ``raw`` or ``averaged``."""
        return "raw"

    def _follow_weights(self, evaluated: str) -> None:
        """Go on with the weights that were evaluated; there may be only one kind."""

    # --- writing

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is needed to build the potential again, and where the file comes from.

        Raises:
            TrainingError: If the weights are not finite: no file is written then, and older ones stay.
        """
        if self._trainer is not None:
            self._check_weights()
        logged = self._collect_logged()
        checkpoint[CHECKPOINT_KEY] = {
            "format_version": CHECKPOINT_VERSION,
            "potential": self.model.config,
            "uses_ema": self.averaging is not None,
            "averaging": self.averaging,
            "evaluated": self.evaluated,
            "metrics": {name: value for name, value in logged.items() if name.startswith("val")},
            "logged": logged,
            "validated": self._validated,
            "plateau": 0 if self._plateau is None else self._plateau.done,
            "plateau_waiting": self._plateau is not None and self._plateau.waiting,
            "skipped_steps": self.guard.skipped_steps,
            "divergence": self._collect_recovery_state(),
            "processes": gather_states(self._collect_process_state()),
            "trained_weights": self._schedule_free.put_average(checkpoint["state_dict"]),
            **self.info,
        }

    def _collect_logged(self) -> dict[str, float]:
        """The last value of everything that was logged, before a resume or after it."""
        if self._trainer is None:
            return {}
        return {**self._logged_before, **{name: float(x) for name, x in self.trainer.callback_metrics.items()}}

    def _collect_process_state(self) -> dict[str, Any]:
        """What this process needs to go on from here, beside what all share."""
        sums = {name: manager.running_state() for name, manager in self._collect_training_managers().items()}
        ours = {"epoch_sums": sums, "gradients": self._collect_waiting_gradients()}
        copied: dict[str, Any] = apply_to_collection(ours, Tensor, lambda tensor: tensor.detach().cpu().clone())
        # Those of the generators are copies already, of a thousand numbers, each of which would be looked at.
        return {**copied, "random": get_random_state()}

    def _collect_waiting_gradients(self) -> dict[str, Tensor]:
        """Gradients of an accumulation that waits for more batches."""
        if self._trainer is None or not accumulating(self.trainer):
            return {}
        return {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}

    # --- reading

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse another set of weights; keep what it takes to go on within the epoch."""
        upgrade(checkpoint)
        saved = checkpoint[CHECKPOINT_KEY]
        if (averaging := averaging_of(saved)) != self.averaging:
            kind = _MODULES.get(averaging, f"module that keeps an average '{averaging}'")
            raise ModelFileError(f"the checkpoint was written by a {kind}", f"resume it with the _target_ of {kind}")
        # Metrics of validation and test are the config's: sets may be added and left out.
        module_state = self.state_dict()
        state = {name: value for name, value in checkpoint["state_dict"].items() if not name.startswith(_OBSERVED)}
        state |= {name: value for name, value in module_state.items() if name.startswith(_OBSERVED)}
        for name in sorted(module_state.keys() | state.keys()):
            shape, saved_shape = (getattr(tensors.get(name), "shape", None) for tensors in (module_state, state))
            if name not in module_state or name not in state or shape != saved_shape:
                raise ModelFileError(
                    f"the checkpoint is of another model: '{name}' differs",
                    "resume it with the config that it came from",
                )
        checkpoint["state_dict"] = state
        self._resumed_from = saved
        self._follow_weights(evaluated_of(saved))

    def _go_on(self) -> None:
        """When training starts: be where the checkpoint was written, if there is one."""
        saved, self._resumed_from = self._resumed_from, None
        self._schedule_free.begin((saved or {}).get("trained_weights"))
        self._begin_recovery((saved or {}).get("divergence"))  # older files have none
        if saved is None:
            return
        self._logged_before = dict(saved["logged"])
        self._validated = bool(saved["validated"])
        if self._plateau is not None:
            self._plateau.done = int(saved["plateau"])
            # Older checkpoints do not tell: by steps, the next one looked at whatever had been logged.
            waited = self._plateau.monitor in saved["logged"] if self._plateau.by_steps else saved["validated"]
            self._plateau.waiting = bool(saved.get("plateau_waiting", waited))
        self.guard.skipped_steps = int(saved["skipped_steps"])
        process_state = select_own_state(saved["processes"])
        if process_state is None:
            self._take_over(saved["processes"])
            return
        for name, manager in self._collect_training_managers().items():
            sums = process_state["epoch_sums"].get(name, {})
            if shapes(sums) == shapes(manager.running_state()):  # other metrics than before begin anew
                manager.set_running_state(sums)
        for name, parameter in self.model.named_parameters():
            if name in process_state["gradients"]:
                parameter.grad = process_state["gradients"][name].to(parameter)
        set_random_state(process_state["random"])

    def _take_over(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Go on with what another number of processes had: sums are of all of them, whoever keeps them.

        The first process takes everything. Random numbers begin anew.
        """
        if self._trainer is None or not self.trainer.is_global_zero:
            return
        for name, manager in self._collect_training_managers().items():
            empty = shapes(manager.running_state())
            for sums in (state["epoch_sums"].get(name, {}) for state in states):
                if shapes(sums) == empty:
                    manager.add_running_state(sums)
        for name, parameter in self.model.named_parameters():
            if waiting := [state["gradients"][name] for state in states if name in state["gradients"]]:
                parameter.grad = torch.stack(waiting).sum(0).to(parameter)


class WholeFileCheckpointIO(CheckpointIO):
    """Lets Lightning write each checkpoint whole or not at all, and read tensors and plain values only.

    Lightning's own returns without a word where a folder is read-only.

    Args:
        at_most_every: Seconds between two states of one file, where the one who saves lets them wait.

    Attributes:
        waiting: Checkpoints that are not written yet.
    """

    def __init__(self, at_most_every: float = AT_MOST_EVERY) -> None:
        self.waiting = WaitingCheckpoints(at_most_every)

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint, or let it wait.

        Raises:
            OutputError: If it cannot be written, see :func:`~nequip_like.model.checkpoint_format.write_checkpoint`.
        """
        self.waiting.save(checkpoint, path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU.

        Raises:
            ModelFileError: If it cannot be read, see :func:`~nequip_like.model.checkpoint_format.read_checkpoint`.
        """
        self.waiting.write()
        # Lightning says where to and whether code may run, and neither is up to it. Tensors go to the CPU: a run on a
        # GPU can go on where there is none, and the GPU does not hold the weights twice. Code never runs.
        return read_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint, if it is there."""
        self.waiting.give_up(path)
        Path(path).unlink(missing_ok=True)

    def teardown(self) -> None:
        """Write what waits; the first checkpoint of the next run is written at once."""
        self.waiting.write()
        self.waiting.give_up()


def find_waiting(trainer: lightning.Trainer) -> WaitingCheckpoints | None:
    """Find the checkpoints of a run that are not written yet; None where something else than this package writes them.

    Args:
        trainer: The trainer.
    """
    files = trainer.strategy.checkpoint_io
    return files.waiting if isinstance(files, WholeFileCheckpointIO) else None


def write_waiting_checkpoints(trainer: lightning.Trainer) -> None:
    """Write the checkpoints of a run that wait, for somebody who reads the files now.

    Args:
        trainer: The trainer.

    Raises:
        OutputError: If one cannot be written.
    """
    if (waiting := find_waiting(trainer)) is not None:
        waiting.write()

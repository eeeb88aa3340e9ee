"""Values that are logged at each step, at less cost than by ``LightningModule.log``."""

from __future__ import annotations

from collections.abc import Mapping

import lightning
import torch
from torch import Tensor

_KEPT = (torch.float32, torch.float64)  # Lightning turns others into float32


def log_again(trainer: lightning.Trainer, values: Mapping[str, Tensor]) -> bool:
    """Log values that this hook has logged before under the same names, where those stand.

    ``LightningModule.log`` looks through all attributes of each logged value for tensors to move to its device: a tenth
    of a step of a small model for the values of a step, and as much as its validation for those of a validation.

    Args:
        trainer: The trainer, in a hook of its module or of a callback.
        values: The values by name, without a graph: of a step within an epoch, and of the epoch after its last batch.

    Returns:
        Whether it is done. If not, ``log`` has to do it: the first time; if a value has come to another device; if a
        value of a step counts for the epoch, too.
    """
    results, connector = trainer._results, trainer._logger_connector
    hook = trainer.lightning_module._current_fx_name
    if results is None or hook is None or results.dataloader_idx is not None:
        return False
    of_epoch = connector._first_loop_iter is None
    pairs = [(results.get(f"{hook}.{name}"), value) for name, value in values.items()]
    entries = [
        (entry, value)
        for entry, value in pairs
        if entry is not None
        and entry.meta.on_epoch is of_epoch
        and entry.meta.on_step is not of_epoch
        and entry.value.device == value.device
    ]
    if len(entries) < len(pairs):
        return False
    if connector.should_reset_tensors(hook):
        results.reset(metrics=False, fx=hook)
    connector._current_fx = hook
    for entry, value in entries:
        if entry.meta.on_epoch or entry.meta.sync.should or value.dtype not in _KEPT:
            # A mean over an epoch weighs by numbers of frames what several batches logged. Here is one value for all.
            entry.forward(value, 1)
        else:
            # What forward comes to for a value of a step, without its contexts: the newest value, and no sum.
            entry._forward_cache = entry.value = value.clone()
            entry._computed = None
            entry._update_count += 1
        entry.has_reset = False
    return True

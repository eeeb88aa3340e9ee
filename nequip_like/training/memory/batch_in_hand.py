"""Which batch a trainer is at, so that an error of memory can name it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning

from nequip_like.data.batches.out_of_memory import explain_out_of_memory, is_out_of_memory
from nequip_like.data.datamodule import DataModule
from nequip_like.data.fields import Graph
from nequip_like.training.lightning_internals import find_callback

_ADVICE = "a smaller model (model.num_features, model.l_max, model.num_layers) or cutoff_radius"
_STAGES = {"train": "a training step", "val": "a validation", "test": "a test"}


class BatchInHand(lightning.Callback):
    """Knows the batch that a step is made of, until the step is over."""

    def __init__(self) -> None:
        self.stage = "train"
        self.position = 0  # of the data set in its stage
        self.batch: Graph | None = None

    def _take(self, stage: str, batch: Graph | None, position: int = 0) -> None:
        self.stage, self.batch, self.position = stage, batch, position

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Graph, batch_idx: int) -> None:
        """Take it."""
        self._take("train", batch)

    def on_train_batch_end(self, *args: Any) -> None:
        """Let it go."""
        self._take("train", None)

    def on_validation_epoch_start(self, *args: Any) -> None:
        """What comes is a validation."""
        self._take("val", None)

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Graph, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Take it."""
        self._take("val", batch, dataloader_idx)

    def on_validation_batch_end(self, *args: Any) -> None:
        """Let it go."""
        self._take("val", None)

    def on_validation_epoch_end(self, *args: Any) -> None:
        """What comes is training again."""
        self._take("train", None)

    def on_test_epoch_start(self, *args: Any) -> None:
        """What comes is a test."""
        self._take("test", None)

    def on_test_batch_start(
        self, trainer: Any, pl_module: Any, batch: Graph, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Take it."""
        self._take("test", batch, dataloader_idx)

    def on_test_batch_end(self, *args: Any) -> None:
        """Let it go."""
        self._take("test", None)

    def name_frame(self, data: DataModule, index: int) -> str:
        """File and frame of a ``frame_index`` of the data set that the batch is of."""
        if self.stage == "train":
            return data.trained_on.origin(index)
        sets = data.val_sets if self.stage == "val" else data.test_sets
        return list(sets.values())[self.position].origin(index)


@contextmanager
def explaining_memory(trainer: lightning.Trainer, data: DataModule) -> Iterator[None]:
    """Say what to change where a trainer runs out of memory.

    Args:
        trainer: The trainer, with a :class:`BatchInHand`.
        data: The data.

    Raises:
        OutOfMemoryError: In place of an error of an allocator, with the batch and the settings.
    """
    hand = find_callback(trainer, BatchInHand)
    assert hand is not None  # each trainer of a run has one
    hand._take(hand.stage, None)
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        train = hand.stage == "train"
        size = (
            data.batch_size.describe_setting(data.global_batch_size)
            if train
            else f"data.val_batch_size ({data.val_batch_size})"
        )
        if train and data.batch_size.limit > 1:
            size += " with a larger trainer.accumulate_grad_batches, which has the same gradients"
        doing = _STAGES[hand.stage]
        raise explain_out_of_memory(
            error, doing, hand.batch, lambda index: hand.name_frame(data, index), size, _ADVICE
        ) from error

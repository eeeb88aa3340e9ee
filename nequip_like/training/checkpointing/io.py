"""How checkpoints get to the disk and back."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from nequip_like.model.checkpoint_format import read_checkpoint
from nequip_like.whole_files import written_whole


class WholeFileCheckpointIO(CheckpointIO):
    """Writes each checkpoint whole or not at all, and reads tensors and plain values only.

    Lightning's own returns without a word where a folder is read-only.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; until it is whole and on the disk, an older one of this name stays.

        Raises:
            OutputError: If it cannot be written.
        """
        # By way of memory: torch's own writer turns a full disk into an error that does not tell.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with written_whole(path) as partial:
            partial.write_bytes(buffer.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU.

        Raises:
            ModelFileError: If it cannot be read, see :func:`~nequip_like.model.checkpoint_format.read_checkpoint`.
        """
        # Lightning says where to and whether code may run, and neither is up to it. Tensors go to the CPU: a run on a
        # GPU can go on where there is none, and the GPU does not hold the weights twice. Code never runs.
        return read_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint, if it is there."""
        Path(path).unlink(missing_ok=True)

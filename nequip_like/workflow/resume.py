"""Resume a run: find its checkpoint, and tell where it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from nequip_like.errors import ConfigError, ModelFileError
from nequip_like.model.checkpoint_format import CHECKPOINT_KEY, read_checkpoint
from nequip_like.summaries import Summarized
from nequip_like.training.checkpointing.callback import EXCEPTION
from nequip_like.whole_files import path_of

CHECKPOINT_FOLDER = "checkpoints"  # in the output folder, see conf/callbacks/default.yaml
MODEL_FILE = "model.safetensors"  # the exported model, also there


@dataclass(frozen=True, repr=False)
class Resumption(Summarized):
    """A checkpoint that a run goes on from.

    Attributes:
        path: The file.
        content: What is in it.
    """

    path: Path
    content: Mapping[str, Any]

    @property
    def checkpoint_entry(self) -> Mapping[str, Any]:
        """The entry of this package in the checkpoint."""
        entry: Mapping[str, Any] = self.content[CHECKPOINT_KEY]
        return entry

    @property
    def folder(self) -> Path:
        """The folder of the run that it is of."""
        return self.path.absolute().parent.parent

    @property
    def epochs(self) -> int:
        """Number of epochs that were done."""
        # Not "completed": Lightning raises that after the hook that writes the checkpoint at the end of an epoch, whose
        # last epoch would be missing.
        return int(self.content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])

    @property
    def step(self) -> int:
        """Number of optimizer steps that were done."""
        return int(self.content["global_step"])

    def describe(self, tasks: Sequence[str], max_epochs: int | None) -> str:
        """Describe where the run goes on, file, epochs and steps, and whether there is anything left to train.

        Args:
            tasks: What is to be done.
            max_epochs: Of the run that goes on.
        """
        inexact = "; it was written within a batch that failed, so this is not exactly the run without the failure"
        failed = inexact if _is_of_failure(self.path) else ""
        text = f"going on from {self.path}: {self.epochs} epochs, {self.step} steps done{failed}"
        if "train" in tasks and self.epochs == max_epochs:
            text += f"\nnote: all {max_epochs} epochs are done; to train further, raise trainer.max_epochs"
        return text


def check_choice(config: Mapping[Any, Any]) -> None:
    """Refuse a config that does not say clearly whether, and from where, a run goes on.

    Args:
        config: The config, or its values.

    Raises:
        ConfigError: If ``resume`` is no word for it, or ``ckpt_path`` is given, too.
    """
    path, resume = config.get("ckpt_path"), config.get("resume")
    if resume not in (None, "auto"):
        raise ConfigError(f"resume is {resume!r}", "write resume=auto, or give ckpt_path: the path of a checkpoint")
    if path is not None and resume is not None:
        raise ConfigError("ckpt_path and resume are both given", "leave one of them out")


def find_resumption(config: DictConfig, folder: Path) -> Resumption | None:
    """Find the checkpoint of the config: ``ckpt_path``, or with ``resume: auto`` the newest in the output folder.

    Args:
        config: The composed config.
        folder: The output folder.

    Returns:
        None if the run begins anew.

    Raises:
        ConfigError: As :func:`check_choice`.
        ModelFileError: If the checkpoint cannot be read.
    """
    check_choice(config)
    path, resume = config.get("ckpt_path"), config.get("resume")
    if path is not None:
        return Resumption(path_of(path), read_checkpoint(path))
    return _find_newest(folder / CHECKPOINT_FOLDER) if resume == "auto" else None


def _find_newest(folder: Path) -> Resumption | None:
    """Find the undamaged checkpoint with the most steps, and of several with as many the last that was written."""
    candidates: list[tuple[int, int, Resumption]] = []
    broken: list[ModelFileError] = []
    # A name that begins with a dot is passing: a process that was killed while it wrote left the file.
    for path in sorted(folder.glob("[!.]*.ckpt")):
        if _is_of_failure(path):
            continue
        try:
            resumption = Resumption(path, read_checkpoint(path))
        except ModelFileError as error:
            broken.append(error)
            continue
        candidates.append((resumption.step, path.stat().st_mtime_ns, resumption))
    # One broken file among whole ones is passed over; nothing but broken ones is no reason to begin anew in silence.
    if broken and not candidates:
        raise broken[0]
    return max(candidates, key=lambda entry: entry[:2])[2] if candidates else None


def _is_of_failure(path: Path) -> bool:
    """Whether a checkpoint was written when a run failed."""
    return path.stem == EXCEPTION or path.stem.endswith(f"_{EXCEPTION}")


def tell_how(console: Console, folder: Path, why: str, change: str = "") -> None:
    """Say why training ended before its time, and how to go on.

    Args:
        console: Where to print.
        folder: The output folder.
        why: Why it ended.
        change: What has to be changed to go on, ``raise trainer.max_steps``.
    """
    # A run with a run_name has NAME_last.ckpt; of several in one folder the last that was written is this run's.
    files = sorted((folder / CHECKPOINT_FOLDER).glob("*last.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    begin = f"to go on {change}, with" if change else "go on with"
    how = f"{begin} ckpt_path={files[-1]}, or resume=auto in the same output folder" if files else "begin anew"
    console.print(f"{why}; {how}", markup=False, highlight=False, soft_wrap=True)

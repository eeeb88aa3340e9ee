"""Resume a run: find its checkpoint, check that it is the same run where it has to be, and tell where it goes on."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from nequip_like.data.fields import Graph
from nequip_like.data.prepared.frames import PreparedFrames
from nequip_like.data.replay import JoinedFrames
from nequip_like.errors import ConfigError, ModelFileError
from nequip_like.model.checkpoint_format import CHECKPOINT_KEY, read_checkpoint
from nequip_like.moved import replace_names
from nequip_like.summaries import Summarized, print_line
from nequip_like.training.checkpointing.callback import EXCEPTION
from nequip_like.whole_files import path_of
from nequip_like.workflow.commands import new_run_command
from nequip_like.workflow.config.values import is_known
from nequip_like.workflow.run_folder import claims

CHECKPOINT_FOLDER = "checkpoints"  # in the output folder, see conf/callbacks/default.yaml
MODEL_FILE = "model.safetensors"  # the exported model, also there
# Parts of training_module that take effect in a resumed run; everything else there is what the checkpoint says.
_HONOURED = (
    "train_metrics",
    "val_metrics",
    "test_metrics",
    "ema_decay",
    "ema_warmup",
    "ema_start_step",
    "ema_bias_correction",
    "swa_start",
    "swa_every",
    "swa_interval",
    "evaluate",
    "model.kernel",
    "model.type_embedding_start",
    "on_non_finite",
    "max_skipped_steps",
    "on_divergence",
    "gradient_clip",
)
# Keys elsewhere that decide which frames an epoch has and which batches make a step: else the rest of an epoch that was
# stopped would not fit to its beginning.
_FIXED = (
    "data.seed",
    "data.replay.fraction",
    "data.sampling.bootstrap",
    "data.sampling.policy",
    "data.sampling.samples_per_epoch",
    "data.sampling.temperature",
    "trainer.accumulate_grad_batches",
)
_FIXED_WEIGHTS = re.compile(r"data\.train\..*\.weight")
# Keys that came later, and what runs from before had: the same as where the key is not given.
_LATER = {
    "finetune.new_species": "error",
    "finetune.shifts": "keep",
    "training_module.loss.function": "mse",
}
_SAME = 1e-9  # relative; statistics of the same data differ that much between machines


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

    @property
    def processes(self) -> int | None:
        """Number of processes that trained; None if the checkpoint does not tell."""
        return len(self.checkpoint_entry.get("processes") or ()) or None

    @property
    def frames_per_step(self) -> int | None:
        """Training frames of a batch of all processes together; None if the checkpoint does not tell."""
        state = self.content["loops"]["fit_loop"].get("state_dict", {}).get("combined_loader") or [{}]
        frames = state[0].get("frames") if isinstance(state[0], Mapping) else None
        return None if frames is None else int(frames)

    def describe_processes(self, processes: int, frames: int | None) -> str | None:
        """Say what becomes of the order of the data if another number of processes goes on; None if it is the same.

        Args:
            processes: Their number.
            frames: Training frames of a batch of them all; None if that is no fixed number.
        """
        if self.processes in (None, processes):
            return None
        text = f"note: {processes} processes go on in place of {self.processes}: "
        if None in (frames, self.frames_per_step) or frames == self.frames_per_step:
            steps = "steps are" if frames is None else f"steps are of {frames} frames, as before, and"
            return f"{text}{steps} in the same order; random numbers of callbacks begin anew"
        return (
            f"{text}the order of the frames is the same, but a step has {frames} of them in place of "
            f"{self.frames_per_step}; data.global_batch_size={self.frames_per_step} keeps it"
        )

    def describe(
        self, tasks: Sequence[str], max_epochs: int | None, processes: int = 1, frames: int | None = None
    ) -> str:
        """Describe where the run goes on, file, epochs and steps, and whether there is anything left to train.

        Args:
            tasks: What is to be done.
            max_epochs: Of the run that goes on.
            processes: As for :meth:`describe_processes`.
            frames: As for :meth:`describe_processes`.
        """
        inexact = "; it was written within a batch that failed, so this is not exactly the run without the failure"
        failed = inexact if _is_of_failure(self.path) else ""
        text = f"going on from {self.path}: {self.epochs} epochs, {self.step} steps done{failed}"
        if "train" in tasks and self.epochs == max_epochs:
            text += f"\nnote: all {max_epochs} epochs are done; to train further, raise trainer.max_epochs"
        if "train" in tasks and (note := self.describe_processes(processes, frames)):
            text += f"\n{note}"
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
    return find_newest(folder / CHECKPOINT_FOLDER) if resume == "auto" else None


def find_newest(folder: Path) -> Resumption | None:
    """Find the undamaged checkpoint of a folder with the most steps, and of several with as many the newest."""
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


def check_early(
    resumption: Resumption | None, folder: Path, values: Mapping[str, Any], overrides: Sequence[str]
) -> None:
    """Refuse what can be refused before the data are read: a run that still goes on, and a config that differs.

    Args:
        resumption: The checkpoint, if there is one.
        folder: The output folder, which is ours.
        values: The values of the config; what the data will tell is NOT_KNOWN_YET.
        overrides: What was changed on the command line.

    Raises:
        OutputError: If the run that it is of goes on elsewhere.
        ConfigError: If the config differs where the checkpoint decides.
    """
    if resumption is None:
        return
    # Of our own folder the claim is ours already. In another one a run may still be writing what we go on from.
    if resumption.folder != folder:
        claims.check_free(resumption.folder, f"begin with its weights: finetune.source={resumption.path}")
    check_same_config(resumption, values, overrides)


def check_same_config(resumption: Resumption, values: Mapping[str, Any], overrides: Sequence[str] = ()) -> None:
    """Refuse what differs from the resumed run and would be ignored, as far as it is known before the data are read.

    Limits of training, callbacks, loggers, validation and test data, metrics and devices may change; they take effect.

    Args:
        resumption: The checkpoint.
        values: The values of the config; what the data will tell is NOT_KNOWN_YET.
        overrides: What was changed on the command line.

    Raises:
        ConfigError: For such a difference, naming the key.
    """
    # A run from Python without a config wrote none: there is nothing to compare then.
    earlier = resumption.checkpoint_entry.get("config")
    if not isinstance(earlier, Mapping):
        return
    earlier_budget, current_budget = earlier.get("budget"), values.get("budget")
    if (earlier_budget is None) != (current_budget is None):
        had, advice = (
            ("no budget", "leave the budget out")
            if earlier_budget is None
            else (f"budget={earlier_budget}", "give it again, budget=TIME, or another time: what was used counts")
        )
        raise ConfigError(f"the run that {resumption.path} is of had {had}, by which its schedules go", advice)
    earlier_values, current_values = _LATER | _flatten(replace_names(earlier)), _LATER | _flatten(replace_names(values))
    # The model of a fine-tuning is that of its source, whatever the config says; it is compared when it is there.
    later = ("model.", "training_module.model.") if current_values.get("finetune.source") is not None else ()
    for key in sorted(earlier_values.keys() | current_values.keys()):
        if key.startswith(later) or not is_known(current_values.get(key)) or _is_above(key, current_values):
            continue
        if _is_fixed(key) and not _is_same(earlier_values.get(key), current_values.get(key)):
            earlier_value, current_value = (_format_value(x.get(key)) for x in (earlier_values, current_values))
            raise ConfigError(
                f"{key} was {earlier_value} in the run that {resumption.path} is of, and is {current_value} now; "
                "a resumed run goes on with what the checkpoint holds",
                f"set it back, {key}={earlier_value}, or {_describe_new_run(key, resumption, overrides)}",
            )
    # Lightning refuses this, too, but only when the data are read and the model is built, and without the key.
    max_epochs = current_values.get("trainer.max_epochs")
    if isinstance(max_epochs, int) and -1 < max_epochs < resumption.epochs:
        raise ConfigError(
            f"trainer.max_epochs is {max_epochs}, but {resumption.path} has done {resumption.epochs} epochs",
            "give a larger number",
        )


def check_same_run(
    resumption: Resumption,
    config: Mapping[str, Any],
    train_frames: Sequence[Graph],
    overrides: Sequence[str] = (),
) -> None:
    """Refuse what differs from the resumed run and would be ignored, because the checkpoint decides it.

    Args:
        resumption: The checkpoint.
        config: The resolved config of this run.
        train_frames: The training data of this run, with what is replayed.
        overrides: What was changed on the command line.

    Raises:
        ConfigError: For such a difference, naming the key.
    """
    # First the data: others change the statistics, and so energy shifts and scales of the model. Compared after them,
    # the user would read of shifts that nobody wrote, and not of the file that was changed.
    earlier_fingerprint = resumption.checkpoint_entry.get("train_set")
    if (
        isinstance(resumption.checkpoint_entry.get("config"), Mapping)
        and earlier_fingerprint is not None
        and earlier_fingerprint != fingerprint(train_frames)
    ):
        raise ConfigError(
            f"the training data is not that of the run that {resumption.path} is of ({len(train_frames)} frames now)",
            "give the same data (a prepared set and the files of which it is made are not) with the same data.val, "
            "data.test and data.split_seed, or "
            f"{_describe_new_run('data', resumption, overrides)}",
        )
    check_same_config(resumption, config, overrides)


def _describe_new_run(key: str, resumption: Resumption, overrides: Sequence[str]) -> str:
    """Describe how to begin a new run, with the weights of the old one where they can be used with the change."""
    if key.startswith(("training_module.model.", "finetune.")):
        return "start a new run"
    source = resumption.folder if (resumption.folder / MODEL_FILE).is_file() else resumption.path
    return f"begin a new run with its weights: {new_run_command(source, overrides)}"


def fingerprint(frames: Iterable[Graph]) -> str:
    """A number that tells data sets apart: of species, positions, cells and labels of all frames, in their order.

    That of prepared frames is of the sums in their files, and no other's: they are not read for it.
    """
    if isinstance(frames, PreparedFrames):
        return frames.fingerprint()
    if isinstance(frames, JoinedFrames):  # one of both is prepared
        told = f"{frames.weight} {' '.join(map(fingerprint, frames.parts))}"
        return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
    digest = hashlib.blake2b(digest_size=16)
    for frame in frames:
        for name in sorted(frame):
            # Neighbour lists follow from positions and cutoff, which are compared, and are most of the memory.
            if not name.startswith("edge"):
                digest.update(name.encode())
                digest.update(frame[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _is_fixed(key: str) -> bool:
    if not key.startswith("training_module."):
        return key in _FIXED or key.startswith("finetune.") or _FIXED_WEIGHTS.fullmatch(key) is not None
    part = key.removeprefix("training_module.")
    return not any(part == honoured or part.startswith(f"{honoured}.") for honoured in _HONOURED)


def _is_above(key: str, values: Mapping[str, Any]) -> bool:
    """Whether a key lies below one whose value is not known yet."""
    parts = key.split(".")
    return any(not is_known(values.get(".".join(parts[:i]))) for i in range(1, len(parts)))


def _flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten ``{"a": {"b": 1}}`` to ``{"a.b": 1}``; a null is left out, like a key that is not there."""
    if not isinstance(config, Mapping):
        return {} if config is None else {prefix: config}
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _is_same(a: Any, b: Any) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_is_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, int | float) and isinstance(b, int | float) and not isinstance(a, bool):
        return math.isclose(a, b, rel_tol=_SAME)
    return bool(a == b)


def _format_value(value: Any) -> str:
    return "null" if value is None else str(value)


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
    print_line(console, f"{why}; {how}")

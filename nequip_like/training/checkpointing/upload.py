"""Checkpoints are handed to a function of the user's, which brings them to another place; loggers may take some."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn

from nequip_like.errors import ConfigError
from nequip_like.instantiate import instantiate

Sync = Callable[[Path], Future[Any] | None]


class RemoteStorageSync(lightning.Callback):
    """Calls a function with the path of each checkpoint that was written, once the file is whole.

    Only the first process calls it. It may do its work at once, or return a :class:`concurrent.futures.Future`; futures
    are waited for at the end of training. If it fails, one line says so, and training goes on.

    Args:
        sync: The function, called as ``sync(path)``; or its config, ``{_target_: my_package.upload, bucket: x}``, whose
            further keys are arguments of each call.

    Raises:
        ConfigError: If it is no function.
    """

    def __init__(self, sync: Sync | Mapping[str, Any]) -> None:
        if isinstance(sync, Mapping):
            sync = instantiate("sync of RemoteStorageSync", {**sync, "_partial_": True})
        if not callable(sync):
            raise ConfigError(f"sync of RemoteStorageSync is {sync!r}", "give a function, such as _target_: my.upload")
        self._sync: Sync = sync
        self._pending: list[tuple[Path, Future[Any]]] = []
        self._failures = 0

    def saved(self, path: str | Path) -> None:
        """Hand over a file; look after those that were handed over before."""
        path = Path(path)
        # An upload that failed is told of by the next checkpoint, and not only when the run is over.
        self._look_after(wait=False)
        try:
            result = self._sync(path)
        except Exception as error:  # whatever it is: an upload that fails shall not end the training
            self._report(path, error)
            return
        if isinstance(result, Future):
            self._pending.append((path, result))

    def finish(self) -> None:
        """Wait for all that is under way."""
        self._look_after(wait=True)

    def _look_after(self, wait: bool) -> None:
        waiting = []
        for path, future in self._pending:
            if not wait and not future.done():
                waiting.append((path, future))
                continue
            try:
                future.result()
            except (Exception, CancelledError) as error:  # as above
                self._report(path, error)
        self._pending = waiting

    def _report(self, path: Path, error: BaseException) -> None:
        self._failures += 1  # the number makes each line another one, so that none is taken for a repetition
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        rank_zero_warn(f"sync of {path} failed ({self._failures} so far): {reason}; training goes on")

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Wait for all that is under way."""
        self.finish()

    # After an exception Lightning calls teardown of no callback: uploads would be cut off with the process.
    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Wait for all that is under way."""
        self.finish()


def hand_over(trainer: lightning.Trainer, *paths: str | Path) -> None:
    """Tell all ``RemoteStorageSync`` of a run that files were written; on the first process only."""
    if trainer.is_global_zero:
        for callback in trainer.callbacks:  # type: ignore[attr-defined] # set by Lightning's callback connector
            if isinstance(callback, RemoteStorageSync):
                for path in paths:
                    callback.saved(path)


def takes_files(logger: Logger) -> bool:
    """Whether a logger takes the file of each checkpoint, as those of wandb and MLflow do with ``log_model``.

    Args:
        logger: The logger.
    """
    idle = (Logger.after_save_checkpoint, TensorBoardLogger.after_save_checkpoint)
    return type(logger).after_save_checkpoint not in idle and getattr(logger, "_log_model", True) is not False

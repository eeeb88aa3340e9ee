"""The folder that a command writes into: it gets a name of its own, and belongs to the command until its end."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from omegaconf import DictConfig, open_dict, read_write

from nequip_like.cli.errors import SIGNALLED
from nequip_like.process_settings import rank
from nequip_like.workflow.run_folder.claims import claimed
from nequip_like.workflow.run_folder.new_folders import NAMED_BY_TIME, name_folder, read_pattern

_ENDINGS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def hold_output_folder(config: DictConfig, section: str) -> Iterator[Path]:
    """Name the output folder, and hold it.

    A name with the time in it, such as Hydra's ``outputs/DATE/TIME``, stands for a new folder. Any other is the folder
    itself, which may be that of an earlier run.

    Args:
        config: The composed config with Hydra's section, which is changed.
        section: ``run``, or ``sweep`` for several runs.

    Raises:
        OutputError: If another run that goes on holds the folder, or it cannot be made or written.
    """
    pattern = read_pattern(config.hydra[section], "dir")
    folder = name_folder(pattern, Path(str(config.hydra[section].dir)))
    follows = NAMED_BY_TIME in pattern and bool(rank())
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra[section].dir = str(folder)
        if follows:
            config.hydra.output_subdir = None
            config.hydra.job_logging.root = None
    with _release_on_signals(), claimed(folder.absolute(), f"hydra.{section}.dir=FOLDER"):
        yield folder
    if follows:
        with suppress(OSError):  # something was written there
            folder.rmdir()


@contextmanager
def _release_on_signals() -> Iterator[None]:
    """Let signals that end a process at once end it as an exit does, so that what it holds is released."""
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [number for number in _ENDINGS if signal.getsignal(number) == signal.SIG_DFL]
        handlers = {number: signal.signal(number, _end_process) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _end_process(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
    sys.exit(SIGNALLED + number)

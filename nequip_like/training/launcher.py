"""Starts the other processes of a run on this machine, as Lightning does, with time for the first one to say why.

Lightning looks every five seconds whether a process has failed, and then kills all others at once, the first among
them: often before that has said why, or while it writes what it knows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import lightning
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

PATIENCE = 20.0  # seconds for the first process to end by itself, after another one has failed


class PatientLauncher(_SubprocessScriptLauncher):
    """Lightning's launcher, whose observer is patient.

    Its arguments are those of Lightning's.
    """

    def launch(
        self, function: Callable[..., Any], *args: Any, trainer: lightning.Trainer | None = None, **kwargs: Any
    ) -> Any:
        """Start the other processes, unless a launcher has, and be the first."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._call_children_scripts()
            _PatientObserver(main_pid=os.getpid(), child_processes=self.procs, sleep_period=1).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)


class _PatientObserver(_ChildProcessObserver):
    """Ends all processes if one has failed and the first does not end by itself, for it may wait for the lost one."""

    def _terminate_all(self) -> None:
        time.sleep(PATIENCE)  # the thread is gone as soon as the process is
        super()._terminate_all()

"""What does a run: our own library, in this process, or a program of others. All are asked in the same way."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nequip_like.workflow.runner.requests import RunRequest

#: Tells the user something of a run that goes on: a line, which is printed and kept in the run's log.
Report = Callable[[str], None]


@dataclass(frozen=True)
class PlannedRun:
    """A run that was understood and checked, and that has not begun.

    Attributes:
        request: What the file says.
        describes: What will be done, a line each, as ``--dry-run`` prints it; the first says all in a few words.
        notes: What the user should know: keys without effect here.
        waits: Whether it reads what runs before it have yet to leave; it is planned again when its turn has come.
        content: What the backend needs to run it, known to the backend alone.
    """

    request: RunRequest
    describes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    waits: bool = False
    content: Any = None


@dataclass(frozen=True)
class RunOutcome:
    """What came of a run that did not fail.

    Attributes:
        files: What it left, by what it is: ``model``, ``manifest``, ``checkpoint``, ``metrics``, ``predictions``.
        metrics: Its last errors, by their names: ``val0_epoch/forces_rmse``.
        stopped_by: The signal that ended it before its time; such a run is not done, and the queue ends there.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    stopped_by: signal.Signals | None = None


class Backend(Protocol):
    """Plans and does the runs of one kind."""

    def plan(self, request: RunRequest, awaited: Collection[Path] = ()) -> PlannedRun:
        """Check a run as far as it can be without beginning it; nothing is written, no program is started.

        Args:
            request: What the file says.
            awaited: Folders that runs before it will have filled by then: what lies there need not be there yet.

        Raises:
            NequipLikeError: For what cannot be done, naming the key and what to write instead.
        """
        ...

    def run(self, plan: PlannedRun, report: Report, goes_on: bool = False) -> RunOutcome:
        """Do it.

        Args:
            plan: What :meth:`plan` gave.
            report: Tells the user how it goes.
            goes_on: The run was begun before and was stopped: go on where it is, as far as that can be. Otherwise
                begin anew; what an earlier run left in the folder is moved away already.

        Raises:
            NequipLikeError: If it fails, with the remedy.
        """
        ...

"""What is left to do of the runs of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from glob import glob
from pathlib import Path

from nequip_like.workflow.runner.files import find_problem, is_below, list_folders, list_inputs
from nequip_like.workflow.runner.journal import BEGUN, DONE, Event, RunJournal, compute_fingerprint
from nequip_like.workflow.runner.requests import RunRequest


@dataclass(frozen=True)
class RunState:
    """What is left to do of a run.

    Attributes:
        is_done: Whether nothing is.
        goes_on: Whether it was begun before and did not end.
        says: What the user should know of it; empty of a run that is new.
    """

    is_done: bool = False
    goes_on: bool = False
    says: str = ""


def find_states(
    requests: Sequence[RunRequest], journal: RunJournal, again: bool = False, all_requests: Sequence[RunRequest] = ()
) -> dict[str, RunState]:
    """What is left to do of runs.

    Args:
        requests: The runs, in their order.
        journal: What became of them.
        again: All are done again.
        all_requests: All runs of the file, where only some are wanted: these may read from the others.

    Returns:
        By name.
    """
    states: dict[str, RunState] = {}
    redone: list[RunRequest] = []
    for request in requests:
        state = _judge(request, journal)
        if state.is_done or state.goes_on:
            changed = _find_changed_source(request, state, all_requests or requests, redone, journal)
            verb = "done again" if state.is_done else "begun anew"
            state = RunState(says=f"{verb}: '{changed}', which it reads from, is newer") if changed else state
        if again:
            state = RunState(says="done again, as --again says") if journal.find_last(request.name) else RunState()
        if not state.is_done:
            redone.append(request)
        states[request.name] = state
    return states


def list_sources(request: RunRequest, others: Sequence[RunRequest]) -> list[RunRequest]:
    """Those of some runs in whose folders a run reads."""
    paths = [path for _, path in list_inputs(request)]
    return [
        other
        for other in others
        if other.name != request.name and any(is_below(path, list_folders(other)) for path in paths)
    ]


def _judge(request: RunRequest, journal: RunJournal) -> RunState:
    last = journal.find_last(request.name)
    if last is None:
        return RunState()
    is_same = last.section == compute_fingerprint(request)
    if last.state != DONE:
        says = f"goes on: it was {last.state} on {last.time}"
        return RunState(goes_on=True, says=says if is_same else f"{says}, and its section of the file has changed")
    if not is_same:
        return RunState(says=f"done again: its section of the file has changed since it was done on {last.time}")
    if missing := _find_missing(last):
        return RunState(says=f"done again: {missing} is not there any more")
    newer = _find_newer_file(request, journal)
    note = f"; but {newer} was changed after that run had begun: --again does it again" if newer else ""
    return RunState(is_done=True, says=f"done before, on {last.time}{note}")


def _find_missing(event: Event) -> str | None:
    return next((file for file in event.files.values() if find_problem(Path(file)) is not None), None)


def _find_newer_file(request: RunRequest, journal: RunJournal) -> str | None:
    """Name a file that a run read, and that was changed since it began; its own files do not count."""
    begun = journal.find_last(request.name, BEGUN)
    if begun is None:
        return None
    limit = datetime.fromisoformat(begun.time).timestamp() + 1  # it is written down in whole seconds
    for key, path in list_inputs(request):
        if is_below(path, [request.run_dir]):
            continue
        for file in glob(str(path)) or [str(path)]:
            if find_problem(Path(file)) is None and Path(file).is_file() and Path(file).stat().st_mtime > limit:
                return f"{key}: {file}"
    return None


def _find_changed_source(
    request: RunRequest,
    state: RunState,
    requests: Sequence[RunRequest],
    redone: Sequence[RunRequest],
    journal: RunJournal,
) -> str | None:
    """Name a run before this one, which it reads from, that is done again or was done after it, or after it began."""
    before = requests[: requests.index(request)]
    own = journal.find_last(request.name, DONE if state.is_done else BEGUN)
    for source in list_sources(request, before):
        done = journal.find_last(source.name, DONE)
        if source in redone or (own is not None and done is not None and done.number > own.number):
            return source.name
    return None

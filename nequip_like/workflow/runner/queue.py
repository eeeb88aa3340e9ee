"""Does the runs of a file, one after the other; what was done before is left out, what was stopped goes on."""

from __future__ import annotations

import contextlib
import gc
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from nequip_like.errors import ConfigError, NequipLikeError, OutputError, first_line
from nequip_like.summaries import Summarized, print_line
from nequip_like.whole_files import output_errors
from nequip_like.workflow.run_folder.claims import claimed
from nequip_like.workflow.run_folder.earlier_run import move_earlier, tell_moved
from nequip_like.workflow.runner.backend import Backend, PlannedRun, RunOutcome
from nequip_like.workflow.runner.external.process import LOGS, check_none_left
from nequip_like.workflow.runner.files import begins_anew, check_checkpoint, find_problem, list_folders, list_outputs
from nequip_like.workflow.runner.journal import BEGUN, DONE, FAILED, STOPPED, RunJournal, compute_fingerprint
from nequip_like.workflow.runner.printed_log import kept_in
from nequip_like.workflow.runner.requests import RunRequest, choose_requests, locate_run_file, read_requests
from nequip_like.workflow.runner.states import RunState, find_states, list_sources
from nequip_like.workflow.slurm.tasks import check_processes

_OF_A_TRAINING = ("artifacts",)  # what only a run has left, beside what any training leaves

ChooseBackend = Callable[[RunRequest], Backend]
TellFailure = Callable[[NequipLikeError], None]


@dataclass(repr=False)
class QueueResult(Summarized):
    """What became of the runs of a file.

    Attributes:
        done: Names of runs that were done now, with what came of them.
        done_before: Names of runs that were left out, for they were done before.
        failed: Why runs failed, by name.
        waiting: Names of runs that were not begun, by the failed one that they need.
        stopped_by: The signal that ended a run; those after it were not begun.
    """

    done: dict[str, RunOutcome] = field(default_factory=dict)
    done_before: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    stopped_by: signal.Signals | None = None

    def summary(self) -> dict[str, Any]:
        """How many runs there are of each kind."""
        lists = {"done": self.done, "done_before": self.done_before, "failed": self.failed, "waiting": self.waiting}
        return {name: ", ".join(names) for name, names in lists.items() if names}

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.failed or self.waiting or self.stopped_by)


def run_queue(
    file: str | Path,
    names: Sequence[str] = (),
    *,
    choose_backend: ChooseBackend,
    again: bool = False,
    dry_run: bool = False,
    console: Console | None = None,
    tell_failure: TellFailure | None = None,
) -> QueueResult:
    """Do the runs of a file.

    All are planned before the first begins: a mistake in the last one is said at once. Each is written down beside the
    file, in ``run.journal.jsonl``, when it begins and when it ends; one that fails does not keep others from being
    done.

    Args:
        file: The run file.
        names: Those that are wanted; all without.
        choose_backend: Gives what does a run.
        again: Do them from their start, also if they were done or begun before.
        dry_run: Say what would be done, and do nothing.
        console: Where to print; the terminal by default.
        tell_failure: Called with the error of a run that failed, when it failed; by default it is printed.

    Returns:
        What became of them.

    Raises:
        ConfigError: For a mistake in the file or in one of its runs; none was begun then.
        DataError: If a file of data is not there.
        OutputError: If a file that no run of this file wrote is in the way.
    """
    console = console or Console()
    path = locate_run_file(file)
    check_processes({"devices": 1})  # of a launcher: each would do all the runs
    requests = read_requests(path)
    chosen = choose_requests(requests, names, path)
    journal = RunJournal(path)
    states = find_states(chosen, journal, again, requests)
    queue = _Queue(path, chosen, states, journal, choose_backend, console, tell_failure)
    plans = queue.plan_all()
    if dry_run:
        queue.tell_plans(plans)
        return QueueResult(done_before=[name for name, state in states.items() if state.is_done])
    return queue.do_all(plans)


@dataclass
class _Queue:
    """Runs that are chosen, with what is known of them."""

    path: Path
    requests: Sequence[RunRequest]
    states: dict[str, RunState]
    journal: RunJournal
    choose_backend: ChooseBackend
    console: Console
    tell_failure: TellFailure | None

    def plan_all(self) -> dict[str, PlannedRun]:
        """Plan all that is left to do, before anything is begun."""
        plans: dict[str, PlannedRun] = {}
        awaited: list[Path] = []
        self._check_folders()
        for request in self.requests:
            if self.states[request.name].is_done:
                continue
            with self._naming(request):
                self._check_outputs(request)
                if not self.states[request.name].goes_on:
                    check_checkpoint(request)
                plans[request.name] = self.choose_backend(request).plan(request, tuple(awaited))
            awaited += list_folders(request)
        return plans

    def tell_plans(self, plans: dict[str, PlannedRun]) -> None:
        """Say what would be done."""
        for number, request in enumerate(self.requests, start=1):
            state = self.states[request.name]
            self._print(f"{number}. {request.name}: {state.says or 'to be done'}")
            if (plan := plans.get(request.name)) is not None:
                for line in plan.describes:
                    self._print(f"   {line}")
                for note in (*plan.notes, *(["checked whole when the runs that it reads from are done"] * plan.waits)):
                    self._print(f"   note: {note}")

    def do_all(self, plans: dict[str, PlannedRun]) -> QueueResult:
        """Do what is left, one after the other."""
        result = QueueResult()
        for number, request in enumerate(self.requests, start=1):
            state, place = self.states[request.name], f"run {number} of {len(self.requests)}, '{request.name}'"
            if state.is_done:
                self._print(f"{place}: {state.says}")
                result.done_before.append(request.name)
                continue
            lacking = result.failed.keys() | result.waiting.keys()
            if source := next((s.name for s in list_sources(request, self.requests) if s.name in lacking), None):
                self._print(f"{place}: not begun, for it reads what '{source}' did not leave")
                result.waiting[request.name] = source
                continue
            self._print(f"{place}: {plans[request.name].describes[0]}" + (f"; {state.says}" if state.says else ""))
            try:
                outcome = self._do(request, state, plans[request.name])
            except NequipLikeError as error:
                result.failed[request.name] = error.message
                self._tell(request, error)
                continue
            if outcome is None:
                result.done_before.append(request.name)
            elif outcome.stopped_by is not None:
                result.stopped_by = outcome.stopped_by
                break
            else:
                result.done[request.name] = outcome
        self._tell_end(result)
        return result

    def _do(self, request: RunRequest, state: RunState, plan: PlannedRun) -> RunOutcome | None:
        """Do one run, and write down what became of it; None if another command did it since this one began."""
        begin = time.monotonic()
        gc.collect()  # of the run before, also if it failed
        torch.cuda.empty_cache()
        backend = self.choose_backend(request)
        with claimed(request.run_dir, "run_dir: FOLDER"), self._noting_failures(request, begin):
            if self._is_done_meanwhile(request):
                return None
            if request.is_external:  # one that lives on writes into these files
                check_none_left(list_folders(request)[0] / LOGS)
            if begins_anew(request) and not state.goes_on:
                # Before it is written down that the run has begun: what goes on from there is its own.
                tell_moved(self.console, request.run_dir, move_earlier(request.run_dir, _OF_A_TRAINING))
            self.journal.add(request, BEGUN)
            with kept_in(request.logs / f"{request.name}.log"):
                if plan.waits:  # what runs before it left is there now
                    plan = backend.plan(request)
                for note in plan.notes:
                    self._print(f"note: {note}")
                outcome = backend.run(plan, self._print, state.goes_on)
            seconds = round(time.monotonic() - begin, 1)
            files = {name: str(file) for name, file in outcome.files.items()}
            metrics = dict(outcome.metrics)
            if outcome.stopped_by is not None:
                self.journal.add(request, STOPPED, seconds=seconds, why=outcome.stopped_by.name)
            else:
                self.journal.add(request, DONE, seconds=seconds, files=files, metrics=metrics)
                self._print(f"done: '{request.name}', {seconds} s")
        return outcome

    def _is_done_meanwhile(self, request: RunRequest) -> bool:
        """Whether another command on the same file did a run since this one read the journal."""
        known = self.journal.find_last(request.name)
        self.journal.read_again()
        last = self.journal.find_last(request.name)
        if last == known or last is None or last.state != DONE or last.section != compute_fingerprint(request):
            return False
        self._print(f"'{request.name}' was done by another command meanwhile, on {last.time}")
        return True

    @contextlib.contextmanager
    def _noting_failures(self, request: RunRequest, begin: float) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            why = _describe_error(error)
            self.journal.add(request, FAILED, seconds=round(time.monotonic() - begin, 1), why=why)
            log = request.logs / f"{request.name}.log"
            with output_errors(log):
                log.parent.mkdir(parents=True, exist_ok=True)
                with log.open("a", encoding="utf-8") as file:
                    file.write(f"failed: {error}\n")
                    if not isinstance(error, NequipLikeError):
                        traceback.print_exc(file=file)
            if isinstance(error, NequipLikeError):
                raise
            # An error of the package itself: others of the queue are not kept waiting for it.
            raise RunError(why, f"this is an error of the package; its traceback is in {log}") from error

    @contextlib.contextmanager
    def _naming(self, request: RunRequest) -> Iterator[None]:
        """Put the file and the run in front of what is wrong with it."""
        try:
            yield
        except NequipLikeError as error:
            where = f"{self.path.name}, run '{request.name}'"
            raise type(error)(f"{where}: {error.message}", error.advice) from error

    def _check_folders(self) -> None:
        """Refuse two trainings that would write into one folder."""
        taken: dict[Path, str] = {}
        for request in self.requests:
            if request.task not in ("train", "finetune", "backend"):
                continue
            if (other := taken.get(request.run_dir)) is not None:
                raise ConfigError(
                    f"{self.path.name}: the runs '{other}' and '{request.name}' both have run_dir {request.run_dir}",
                    "give each a folder of its own, or write task: resume",
                )
            taken[request.run_dir] = request.name
        written: dict[Path, str] = {}
        for request in self.requests:
            for file in list_outputs(request):
                if (other := written.get(file)) is not None:
                    raise ConfigError(
                        f"{self.path.name}: the runs '{other}' and '{request.name}' both write {file}",
                        "give each a folder of its own: output: {dir: FOLDER}",
                    )
                written[file] = request.name

    def _check_outputs(self, request: RunRequest) -> None:
        """Refuse to write over files that no run of this file wrote."""
        if self.states[request.name].says:
            return  # it was begun before: they are its own
        for file in list_outputs(request):
            if find_problem(file) is None and not self.journal.has_written(file):
                raise OutputError(f"{file} is there already", "give output: {dir: FOLDER}, or remove the file")

    def _tell(self, request: RunRequest, error: NequipLikeError) -> None:
        named = type(error)(f"run '{request.name}' failed: {error.message}", error.advice)
        if self.tell_failure is not None:
            self.tell_failure(named)
        else:
            self._print(f"error: {named}")

    def _tell_end(self, result: QueueResult) -> None:
        if len(self.requests) == 1 and result.is_complete:
            return
        left = len(self.requests) - sum(map(len, (result.done, result.done_before, result.failed, result.waiting)))
        counts = {
            "done": len(result.done), "done before": len(result.done_before), "failed": len(result.failed),
            "not begun": len(result.waiting) + left,
        }  # fmt: skip
        told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        self._print(f"{len(self.requests)} runs of {self.path.name}: {told}")

    def _print(self, line: str) -> None:
        print_line(self.console, line)


def _describe_error(error: Exception) -> str:
    return error.message if isinstance(error, NequipLikeError) else f"{type(error).__name__}: {first_line(error)}"


class RunError(NequipLikeError):
    """A run ended by an error of the package."""

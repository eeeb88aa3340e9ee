"""Worker processes of several codes, timed in turn: what every benchmark of speed here shares.

Each code runs in a process of its own environment. The processes live side by side and are asked round by round, one
after the other, so that a machine whose speed drifts slows all of them. ``ratio`` is a peer's time over ours, taken
round by round; above 1 we are faster. This file needs nothing but Python, because every environment imports it.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MARK = "@worker "  # before each of our lines, because peers print to standard output, too
POLL = 0.1  # seconds between two looks at a worker's memory
PAUSE = 0.05  # seconds before a round: the threads of the code that was asked before spin a while until they sleep
PATIENCE = 10.0  # seconds that a worker has to end
FOLDER = Path(__file__).parent


# --- in the worker ---------------------------------------------------------------------------------------------------


def tell(message: Mapping[str, object]) -> None:
    """Send one message to the benchmark."""
    print(MARK + json.dumps(message), flush=True)


def use_threads(threads: int) -> None:
    """Give this process so many processors; to be called before numpy, torch or jax are imported.

    The OpenMP libraries read the variable; XLA, which knows no such variable, counts the processors it may run on.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def peak_megabytes() -> float:
    """Largest resident memory of this process so far, MB.

    This is ``ru_maxrss`` without a flaw of it: Linux hands the figure of the parent process on to its child.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource

        unit = 1e6 if sys.platform == "darwin" else 1e3
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    return _status_kilobytes(status, "VmHWM") * 1024 / 1e6


def forget_peak() -> float:
    """Let :func:`peak_megabytes` count from now, where the system can; returns the resident memory now, MB."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return resident_megabytes(os.getpid())


def serve(
    step: Callable[[], float],
    info: Mapping[str, object],
    warmup: int = 3,
    peak: Callable[[], float] = peak_megabytes,
) -> None:
    """Take the first step, ``warmup`` more, and then a round of steps for each line on standard input.

    Args:
        step: One step; returns its loss or energy, so that nothing of it can still be under way.
        info: What the benchmark should know; sent after the first step together with its value.
        warmup: Steps that are not timed.
        peak: Largest memory so far, MB; see :func:`peak_megabytes`.
    """
    tell({**info, "value": step()})
    tell({"warmup": [step() for _ in range(warmup)]})
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
        tell({"seconds": seconds, "peak_mb": peak()})


# --- in the benchmark ------------------------------------------------------------------------------------------------


class LeftOut(Exception):  # noqa: N818 (not always an error)
    """A worker gave no answer; the message says why."""


@dataclass(frozen=True)
class Limits:
    """What a worker may take.

    Attributes:
        seconds: For each answer, so also for start and first step.
        gigabytes: Resident memory.
        total: Seconds from its start to its end, whatever it was asked.
    """

    seconds: float = 1800.0
    gigabytes: float = 16.0
    total: float = float("inf")


class Worker:
    """A process of one code.

    Args:
        python: Interpreter of the code's environment.
        script: File in this folder that calls :func:`serve`.
        spec: What it shall do; its only argument, as JSON.
        limits: When it is stopped.
        messages: File that takes what it writes to standard error; by default it goes to ours.

    Attributes:
        first_seconds: From the start of the process to the end of its first step.
        info: What it told then, and after its warm-up.

    Raises:
        LeftOut: If the process ended or was stopped before it was ready.
    """

    def __init__(
        self,
        python: str,
        script: str,
        spec: Mapping[str, object],
        limits: Limits,
        messages: IO[str] | None = None,
    ) -> None:
        start = time.perf_counter()
        self._limits = limits
        self._stopped = ""
        self._deadline = time.monotonic() + limits.seconds
        self._end = time.monotonic() + limits.total
        environment = {**os.environ, "OMP_NUM_THREADS": str(spec["threads"])}
        self.process = subprocess.Popen(
            [python, str(FOLDER / script), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
            env=environment,
            start_new_session=True,  # compilers that it starts end with it
        )
        self.peak_mb = 0.0
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            self.info = self._answer()
            self.first_seconds = time.perf_counter() - start
            if "value" in self.info:
                self.info |= self._answer()
        except BaseException:
            self.close()
            raise

    def _watch(self) -> None:
        while self.process.poll() is None:
            if time.monotonic() > self._deadline:
                self._stopped = f"no answer within {self._limits.seconds:g} s"
            elif time.monotonic() > self._end:
                self._stopped = f"not done within {self._limits.total:g} s"
            elif resident_megabytes(self.process.pid) > 1e3 * self._limits.gigabytes:
                self._stopped = f"more than {self._limits.gigabytes:g} GB of memory"
            if self._stopped:
                return self._kill()
            time.sleep(POLL)

    def _answer(self) -> dict:
        self._deadline = time.monotonic() + self._limits.seconds
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(MARK):
                self._deadline = float("inf")  # it waits for us now
                return json.loads(line.removeprefix(MARK))
        self.process.wait()
        raise LeftOut(self._stopped or f"ended with status {self.process.returncode}; its messages are above")

    def round(self, steps: int, summary: Callable[[list[float]], float] = statistics.median) -> float:
        """Seconds of a step: the ``summary`` of so many.

        Raises:
            LeftOut: If it ended or was stopped.
        """
        assert self.process.stdin is not None
        time.sleep(PAUSE)
        try:
            self.process.stdin.write(f"{steps}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise LeftOut("ended between two rounds") from None
        answer = self._answer()
        self.peak_mb = answer["peak_mb"]
        return summary(answer["seconds"])

    def _kill(self) -> None:
        with suppress(ProcessLookupError):  # it has ended by itself just now
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended already
            self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._kill()
            self.process.wait()


def resident_megabytes(pid: int) -> float:
    """Resident memory of a process now, MB; 0 where there is no /proc, or when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return _status_kilobytes(status, "VmRSS") * 1024 / 1e6


def _status_kilobytes(status: str, key: str) -> int:
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith(key + ":")), 0)


@dataclass
class Crew:
    """The workers of one case: ours, and those of the peers that came through.

    Attributes:
        workers: Name to worker; "ours" is the first.
        left_out: Name of a peer to why it is not there.
        seconds: Name to the time of a step in each round.
    """

    workers: dict[str, Worker]
    left_out: dict[str, str]
    seconds: dict[str, list[float]]

    def close(self) -> None:
        """End all processes."""
        for worker in self.workers.values():
            worker.close()

    def median(self, name: str) -> float:
        """Median over the rounds, seconds of a step."""
        return statistics.median(self.seconds[name])


def run_in_turn(
    pythons: Mapping[str, str],
    script: str,
    spec_of: Callable[[str], Mapping[str, object]],
    limits: Limits,
    rounds: int,
    steps: int,
    summary: Callable[[list[float]], float] = statistics.median,
) -> Crew:
    """Start one worker for each code, ask them round by round, and end them.

    Args:
        pythons: Code to interpreter; "ours" has to be among them.
        script: The workers' script.
        spec_of: Code to what it shall do.
        limits: Of each worker.
        rounds: How often each is asked.
        steps: Steps of a round.
        summary: Makes one figure of the steps of a round.

    Raises:
        RuntimeError: If our own worker did not come through; that of a peer is only left out.
    """
    crew = Crew({}, {}, {})
    try:
        for name, python in pythons.items():
            with _leaving_out(crew, name):
                crew.workers[name] = Worker(python, script, spec_of(name), limits)
                crew.seconds[name] = []
        for _ in range(rounds):
            for name in list(crew.workers):
                with _leaving_out(crew, name):
                    crew.seconds[name].append(crew.workers[name].round(steps, summary))
    finally:
        crew.close()
    return crew


@contextmanager
def _leaving_out(crew: Crew, name: str) -> Iterator[None]:
    """Takes a peer that gives no answer out of the crew, and says so."""
    try:
        yield
    except LeftOut as error:
        if name == "ours":
            raise RuntimeError(f"our own worker: {error}") from error
        print(f"{name} is left out: {error}", flush=True)
        crew.left_out[name] = str(error)
        crew.seconds.pop(name, None)
        worker = crew.workers.pop(name, None)
        if worker:
            worker.close()


def comparison(crew: Crew, peer: str | None) -> dict:
    """Times of a step, and the ratio with its spread: ``ratio`` is the median over the rounds of peer over ours."""
    row: dict = {"ours_ms": 1e3 * crew.median("ours"), "ours_first_s": crew.workers["ours"].first_seconds}
    if peer is None:
        return row
    ratios = [theirs / ours for theirs, ours in zip(crew.seconds[peer], crew.seconds["ours"], strict=True)]
    return row | {
        "peer": peer,
        "peer_ms": 1e3 * crew.median(peer),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "peer_first_s": crew.workers[peer].first_seconds,
    }


def peers_of(crew: Crew) -> Sequence[str | None]:
    """The peers that came through; None alone if there is no peer, for a row of our own times."""
    return [name for name in crew.workers if name != "ours"] or [None]

"""Processes that label side by side: each has one thread and a teacher of its own, and loads no torch.

Small structures gain nothing from several threads of one calculation. What comes out does not depend on how many
processes there are: each job is done with a teacher made for it, which knows nothing of jobs before.
"""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import IO, Any

from nequip_like.errors import ConfigError
from nequip_like.process_settings import count_usable_cores
from nequip_like.workflow.pretrain.jobs import Answer, Job

_MODULE = "nequip_like.workflow.pretrain.worker"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PATIENCE = 5.0  # seconds to end after SIGTERM


class Workers:
    """Processes of one teacher; leaving the context ends them, whatever they do.

    Args:
        teacher: Name of the teacher, which is one of ours.
        count: How many processes.
    """

    def __init__(self, teacher: str, count: int) -> None:
        self.count = count
        self._teacher = teacher
        self._answers: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._listeners: list[threading.Thread] = []
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 # closed with the context

    def __enter__(self) -> Workers:
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
        environment = os.environ | paths | dict.fromkeys(_THREADS, "1")
        for number in range(self.count):
            process = subprocess.Popen(
                [sys.executable, "-m", _MODULE, self._teacher],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                start_new_session=True,  # Ctrl-C ends them through this process
            )
            self._processes.append(process)
            self._listeners.append(threading.Thread(target=self._listen, args=(number, process.stdout), daemon=True))
            self._listeners[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for process, listener in zip(self._processes, self._listeners, strict=True):
            listener.join()  # what it reads ends with the process
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.close()
            with suppress(BrokenPipeError):  # of a job that it did not read any more
                process.stdin.close()
        self._errors.close()

    def answer(self, jobs: Iterable[Job], until: float) -> Iterator[tuple[int, Answer | None, float]]:
        """Have jobs done.

        Args:
            jobs: The jobs; the next is taken when a process is free.
            until: When to end at the latest, by ``time.monotonic``.

        Yields:
            Number of a job, one of its answers or None where it ends, and the seconds that it took. Answers of one job
            are in order, and those of several are mixed.

        Raises:
            ConfigError: If a process ends or fails.
        """
        waiting, busy = iter(enumerate(jobs)), set[int]()
        for number in range(self.count):
            self._give(number, waiting, busy)
        while busy:
            try:
                left = None if until == float("inf") else max(0.0, until - time.monotonic())
                number, message = self._answers.get(timeout=left)
            except queue.Empty:
                return
            if message is None:
                self._fail(number)
            yield message
            if message[1] is None:
                busy.discard(number)
                self._give(number, waiting, busy)

    def _give(self, number: int, waiting: Iterator[tuple[int, Job]], busy: set[int]) -> None:
        """Give the next job to a process, if there is one."""
        if (job := next(waiting, None)) is None:
            return
        busy.add(number)
        stream = self._processes[number].stdin
        assert stream is not None
        try:
            pickle.dump(job, stream)
            stream.flush()
        except BrokenPipeError:
            self._fail(number)

    def _listen(self, number: int, stream: IO[bytes]) -> None:
        """Pass on what a process says, and None when it says no more."""
        try:
            while True:
                self._answers.put((number, pickle.load(stream)))
        except (EOFError, pickle.UnpicklingError):
            pass  # it ended, or was ended while it spoke
        finally:
            self._answers.put((number, None))

    def _fail(self, number: int) -> None:
        status = self._processes[number].wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").split("\n")
        said = next((line for line in reversed(lines) if line.strip()), "nothing")
        how = f"signal {-status}" if status < 0 else f"status {status}"
        raise ConfigError(
            f"pretrain.teacher {self._teacher}: a process that labels ended with {how}; the last that it said: {said}",
            "see whether there is enough memory, or take another teacher",
        )


def count_workers() -> int:
    """Count the processes that may work side by side: the usable cores, or ``OMP_NUM_THREADS`` if that is less."""
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return min(count_usable_cores(), int(given)) if given.isdigit() and int(given) > 0 else count_usable_cores()

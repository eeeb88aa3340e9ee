"""Trains members side by side, a process each; a signal ends them all as it ends a single training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from nequip_like.process_settings import count_usable_cores
from nequip_like.workflow.uncertainty.plan import CommitteeMember

# The command of one training, by its name: what is below a command does not import it.
TRAIN = (sys.executable, "-m", "nequip_like.cli.train")
_POLL = 0.1  # seconds
# SIGUSR1 is what SLURM sends before a time limit: a training stops, and queues its job again.
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_THREADS = "OMP_NUM_THREADS"


def train_members(
    members: Sequence[CommitteeMember],
    parallel: int,
    make_arguments: Callable[[CommitteeMember], Sequence[str]],
    began: Callable[[CommitteeMember], None],
    ended: Callable[[CommitteeMember, int], None],
) -> signal.Signals | None:
    """Train members, some at a time; one that fails does not stop the others.

    Args:
        members: The members, in the order in which they begin.
        parallel: How many at a time.
        make_arguments: Arguments of the command of a member's training.
        began: Called when the training of a member begins.
        ended: Called when it has ended, with its exit status.

    Returns:
        The signal that ended them, if one did.
    """
    waiting, running = list(members), dict[CommitteeMember, subprocess.Popen[bytes]]()
    with _forwarding(running) as received:
        try:
            while running or (waiting and not received):
                while waiting and len(running) < parallel and not received:
                    member = waiting.pop(0)
                    began(member)
                    running[member] = _start(member, make_arguments(member), parallel)
                for member, process in list(running.items()):
                    if (status := process.poll()) is not None:
                        del running[member]
                        ended(member, status)
                time.sleep(_POLL)
        finally:
            for process in running.values():  # an error of this process: nobody would wait for them
                process.terminate()
    return received[0] if received else None


def _start(member: CommitteeMember, arguments: Sequence[str], parallel: int) -> subprocess.Popen[bytes]:
    member.folder.mkdir(parents=True, exist_ok=True)
    with member.printed_file.open("ab") as printed:
        return subprocess.Popen(
            [*TRAIN, *arguments],
            stdout=printed,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=make_environment(member.device, parallel, os.environ),
            start_new_session=True,  # Ctrl-C reaches it once, through this process
        )


def make_environment(device: str, parallel: int, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a member's process: it sees its own GPU, and shares the cores with the others.

    Args:
        device: Its device.
        parallel: How many processes there are at a time.
        environment: That of this process.

    Example:
        A job that got the GPUs 2 and 3 calls them 0 and 1:

        >>> make_environment("cuda:1", 2, {"CUDA_VISIBLE_DEVICES": "2,3", "OMP_NUM_THREADS": "8"})
        {'CUDA_VISIBLE_DEVICES': '3', 'OMP_NUM_THREADS': '8'}
    """
    result = dict(environment)
    if device.startswith("cuda:"):
        number = int(device.removeprefix("cuda:"))
        visible = [entry for entry in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if entry]
        result["CUDA_VISIBLE_DEVICES"] = visible[number] if number < len(visible) else str(number)
    if parallel > 1 and _THREADS not in environment:
        result[_THREADS] = str(max(1, count_usable_cores() // parallel))
    return result


@contextmanager
def _forwarding(running: Mapping[CommitteeMember, subprocess.Popen[bytes]]) -> Iterator[list[signal.Signals]]:
    """Pass the signals that end a run on to all members; gives the list of those that came."""
    received: list[signal.Signals] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        for process in running.values():
            process.send_signal(number)

    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.signal(number, forward) for number in _ENDINGS}
    try:
        yield received
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)

"""One failing process ends a run of several: which was the first is agreed on, and only its error is shown.

Where a process fails, the others fail a moment later, because they lose it while they wait for it. What they would say
hides the reason. So the first one writes down that it is, in the store that the processes found each other by, before
its connections are closed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist

from nequip_like.distributed import is_distributed
from nequip_like.errors import NequipLikeError, PeerError, TrainingError

USER_ERROR, OTHER_ERROR = 2, 1  # exit status of a command after an error of each kind

_FIRST = "nequip_like/first_failure"
_SEEN = "nequip_like/seen_failure"
_LOST = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Socket closed", "Broken pipe")
_PATIENCE = 5.0  # seconds for the others to learn of a failure, before the store ends with the process that has it
_LOOK = 1.0  # seconds between looks whether the first process is there
_GRACE = 20.0  # seconds to end in order after it is gone


@contextmanager
def first_failure_alone() -> Iterator[None]:
    """Let the error of the process that failed first through; those that this made fail end with a ``PeerError``.

    Raises:
        PeerError: If another process failed before this one.
        TrainingError: If another process is gone, and did not say why.
    """
    _end_with_first_process()
    try:
        yield
    except Exception as error:
        if not is_distributed():
            raise
        rank, status = dist.get_rank(), _status_of(error)
        lost = _is_lost_connection(error)
        first = _find_first(rank, status)
        if first is None:  # the store is gone, and with it the process that kept it: the first
            # What it had to say it said, unless it was killed. One line of one process, for that case.
            if rank != 1:
                raise PeerError("the first process of the run is gone", OTHER_ERROR) from error
            raise _make_loss("the first process of the run is gone") from error
        if first[0] != rank:
            raise PeerError(f"process {first[0]} of the run failed before this one", first[1]) from error
        _tell_others(rank)
        if lost:
            raise _make_loss("another process of the run is gone") from error
        raise


def _status_of(error: Exception) -> int:
    return USER_ERROR if isinstance(error, NequipLikeError) or _is_lost_connection(error) else OTHER_ERROR


def _is_lost_connection(error: BaseException) -> bool:
    """Whether an error says that another process cannot be reached any more."""
    return isinstance(error, RuntimeError | ConnectionError) and any(word in str(error) for word in _LOST)


def _make_loss(what: str) -> TrainingError:
    return TrainingError(
        f"{what}, and did not say why: it was killed, or its machine was lost",
        "if memory was short, use a smaller data.batch_size; go on from the last checkpoint with resume=auto in the "
        "same folder",
    )


def _find_first(rank: int, status: int) -> tuple[int, int] | None:
    """Rank and exit status of the process that failed first, which is this one if there was none before.

    Returns:
        None if the store cannot be reached.
    """
    try:
        store = dist.distributed_c10d._get_default_store()
        text = store.compare_set(_FIRST, "", f"{rank} {status}").decode()
    except (RuntimeError, OSError):
        return None
    first, its_status = text.split()
    if int(first) != rank:
        _count_in(store)
    return int(first), int(its_status)


def _count_in(store: Any) -> None:
    """Note that one more process knows of the failure."""
    try:
        store.add(_SEEN, 1)
    except RuntimeError:
        return  # the first process waited long enough, and is gone


def _tell_others(rank: int) -> None:
    """Close the connections, so that the others learn of the failure, and wait until they asked whose it was.

    Only the first process has to: the store ends with it. Where a launcher keeps the store it is just quick.
    """
    if rank != 0 or dist.get_backend() != "gloo":  # others end their connections with the process only
        return
    store, others = dist.distributed_c10d._get_default_store(), dist.get_world_size() - 1
    end = time.monotonic() + _PATIENCE
    dist.destroy_process_group()
    while store.add(_SEEN, 0) < others and time.monotonic() < end:
        time.sleep(0.05)


def _end_with_first_process() -> None:
    """Let a process that the first one of its machine started end with it, however that ends.

    One that waits for others on GPUs may not notice for half an hour that they are gone. Launchers such as torchrun and
    srun see to that themselves; Lightning does only as long as the first process lives.
    """
    if "NODE_RANK" not in os.environ or not int(os.environ.get("LOCAL_RANK", "0")):
        return  # not started by Lightning
    if any(name in os.environ for name in ("TORCHELASTIC_RUN_ID", "SLURM_STEP_ID")):
        return
    parent = os.getppid()
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="first-process-watcher").start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK)
    time.sleep(_GRACE)
    os._exit(OTHER_ERROR)

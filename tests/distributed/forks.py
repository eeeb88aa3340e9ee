"""Runs ``nequip-train`` in several processes at once, which are forks of one that has imported everything.

    python -m tests.distributed.forks

It reads requests, one line of JSON each: ``{"arguments": [...], "processes": 2, "folder": ..., "output": FILE, "limit":
300}``, and answers each with the exit statuses of the processes, in their order. Nobody ends a process because another
one ended: launchers do, but a run must not rely on it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from typing import Any

import lightning  # noqa: F401 (so that forks have it)
import matplotlib.pyplot  # noqa: F401
import torch
from lightning.pytorch.utilities import rank_zero_only

import nequip_like.workflow.evaluate
import nequip_like.workflow.train  # noqa: F401
from nequip_like.cli.train import main


def run(rank: int, port: int, request: dict[str, Any]) -> None:
    """Be one process of a run, as torchrun starts them."""
    world = request["processes"]
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0}
    os.environ.update({name: str(value) for name, value in names.items()})
    os.environ.update(TORCHELASTIC_RUN_ID="forks", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    rank_zero_only.rank = rank  # Lightning reads it while it is imported
    torch.set_num_threads(1)
    os.chdir(request["folder"])
    sys.argv[:] = ["nequip-train", *request["arguments"]]
    main()


def fork(rank: int, port: int, request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        run(rank, port, request)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def answer(request: dict[str, Any]) -> list[int | None]:
    """Exit statuses, as shells tell them; None of one that had to be killed at the limit of time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pids = [fork(rank, port, request) for rank in range(request["processes"])]
    statuses: dict[int, int | None] = {}
    end = time.monotonic() + request["limit"]
    while len(statuses) < len(pids):
        for pid in set(pids) - statuses.keys():
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                statuses[pid] = 128 - code if code < 0 else code
            elif time.monotonic() > end:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                statuses[pid] = None
        time.sleep(0.02)
    return [statuses[pid] for pid in pids]


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)

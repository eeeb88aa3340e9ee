"""Processes of tests that begin at once: forked from one that has loaded torch and Lightning already.

A command spends most of a test's time with its imports. Tests of what it does run it with :func:`run_python`, which
takes what stands behind ``python`` in a command line, or, where they only read and print, call them in this process
with :func:`call_command`. What a start itself does is tested with ``subprocess``: which
modules are loaded when, and what libraries read from the environment while they are loaded. So is each command once.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any
from unittest import mock

# Loaded once for each process of pytest. Whatever else a command needs, it loads itself.
PRELOADED = [
    "__main__",  # of pytest, which multiprocessing would load in each process
    *("torch", "lightning", "torchmetrics", "hydra.main", "ase.io", "matplotlib.figure", "rich.table"),
    *("nequip_like.composition.hydra_compose", "nequip_like.composition.compose", "nequip_like.workflow.train"),
    *("nequip_like.workflow.evaluate", "nequip_like.workflow.config.check"),
]


def environment(**variables: str) -> dict[str, str]:
    """What a command finds in its environment: nothing of pytest's or of a run in this process, and one thread."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PL_", "HYDRA", "NEQUIP_LIKE_CLAIMS"))}
    return own | {"OMP_NUM_THREADS": "1", **variables}


def run_python(
    *arguments: str, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 300.0
) -> subprocess.CompletedProcess[str]:
    """Run ``python *arguments`` in a process of its own, with the result that ``subprocess.run`` would give.

    Args:
        arguments: ``-m MODULE``, ``-c CODE`` or a script, and its arguments; ``-W ACTION`` may stand before it.
        cwd: The current folder.
        env: The whole environment; by default :func:`environment`.
        timeout: The longest time in seconds.

    Returns:
        Exit status (negative: the signal that ended it), output and error stream.
    """
    variables = dict(environment() if env is None else env)
    with tempfile.TemporaryDirectory() as streams:
        files = [Path(streams, name) for name in ("output", "errors")]
        for file in files:
            file.touch()
        process = _server().Process(target=_become, args=(arguments, str(cwd), variables, [str(f) for f in files]))
        process.start()
        process.join(timeout)
        status = process.exitcode
        if status is None:
            process.kill()
            process.join()
        output, errors = (file.read_text(encoding="utf-8", errors="replace") for file in files)
    if status is None:
        raise subprocess.TimeoutExpired(arguments, timeout, output, errors)
    return subprocess.CompletedProcess(arguments, status, output, errors)


def call_command(
    main: Callable[[], None], *arguments: str, cwd: Path, name: str = "nequip-train"
) -> subprocess.CompletedProcess[str]:
    """Call a command in this process, with the result that :func:`run_python` would give.

    Args:
        main: The command's entry point, which reads ``sys.argv``.
        arguments: What is typed behind the name of the command.
        cwd: The current folder.
        name: The name of the command.
    """
    output, errors, status = io.StringIO(), io.StringIO(), 0
    # Hydra sets variables for the time of a run.
    with (
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ),
        mock.patch.object(sys, "argv", [name, *arguments]),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
    return subprocess.CompletedProcess([name, *arguments], status, output.getvalue(), errors.getvalue())


def run_side_by_side(work: Callable[..., None], *arguments: Any, processes: int = 2) -> None:
    """Call ``work(rank, *arguments)`` in several processes, as ``torch.multiprocessing.spawn`` does."""
    import torch.multiprocessing

    _server()
    torch.multiprocessing.start_processes(work, arguments, nprocs=processes, start_method="forkserver")


def _server() -> ForkServerContext:
    """The context of processes that have loaded everything, with one thread."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["OMP_NUM_THREADS"]
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = threads
    return multiprocessing.get_context("forkserver")


def _become(arguments: Sequence[str], folder: str, variables: Mapping[str, str], files: Sequence[str]) -> None:
    """Be the process that the command line would have started."""
    sys.stdout, sys.stderr = (_redirect(number, file) for number, file in enumerate(files, start=1))
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    multiprocessing.set_start_method(None, force=True)  # of its own processes: as everywhere
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    action = arguments[1] if arguments[0] == "-W" else variables.get("PYTHONWARNINGS")
    if action is not None:
        _filter_warnings(action)
    what, *rest = arguments[2:] if arguments[0] == "-W" else arguments
    try:
        if what == "-m":
            sys.path.insert(0, folder)
            sys.argv[:] = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif what == "-c":
            sys.path.insert(0, folder)
            sys.argv[:] = ["-c", *rest[1:]]
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.path.insert(0, str(Path(what).parent))
            sys.argv[:] = [what, *rest]
            runpy.run_path(what, run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # multiprocessing ends without them


def _redirect(number: int, file: str) -> io.TextIOWrapper:
    """Let a standard stream go to a file, and wrap it as Python does where it is no terminal."""
    opened = os.open(file, os.O_WRONLY | os.O_APPEND)
    os.dup2(opened, number)
    os.close(opened)
    return open(
        number, "w", encoding="utf-8", errors=("strict", "backslashreplace")[number - 1],
        buffering=-1 if number == 1 else 1, closefd=False,
    )  # fmt: skip


def _filter_warnings(action: str) -> None:
    """As ``-W`` does: for what Python shows or ignores by default. What libraries chose when they were loaded stays."""
    by_default = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
    warnings.filters[:] = [f for f in warnings.filters if f[2] not in by_default or f[1] is not None]
    warnings.simplefilter(action, append=True)
    sys.warnoptions[:] = [action]

"""C code to a shared library, compiled once and kept."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nequip_like.errors import ModelError, OutputError, first_line
from nequip_like.nn.native.cache import kept_library

# Products and sums may be contracted, but not reordered; NaN and infinity keep their meaning.
_FLAGS = ("-O2", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC")
_THREADS = "-fopenmp"
_TEXT: Any = {"encoding": "utf-8", "errors": "replace"}  # whatever the locale: paths may have any letters


def compiler() -> str | None:
    """The C compiler: ``$CC``, gcc, or cc; None if there is none."""
    return shutil.which(os.environ.get("CC") or "gcc") or shutil.which("cc")


def compiled(sources: Sequence[str]) -> ctypes.CDLL:
    """Compile C code, or load what was compiled before.

    A compiler without OpenMP, such as Apple's, makes a library that uses one thread.

    Libraries are kept by code, compiler and processor (:mod:`nequip_like.nn.native.cache`): on a cluster the folder may
    be shared by machines of different kinds.

    Args:
        sources: Translation units; they are compiled side by side.

    Raises:
        ModelError: If there is no compiler, or it refuses the code.
        OutputError: If the library cannot be kept.
    """
    program = compiler()
    if program is None:
        raise ModelError(
            "model.kernel is fused, which needs a C compiler, and there is none",
            "install gcc, name a compiler in the environment variable CC, or write model.kernel=batched",
        )
    parts = (*sources, *_FLAGS, _version(program), _processor())
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def make(target: Path, folder: Path) -> None:
        flags = (*_FLAGS, _THREADS) if _has_threads(program) else _FLAGS
        _compile(program, flags, sources, target, folder)

    return kept_library(key, make)


def _has_threads(program: str) -> bool:
    command = [program, _THREADS, "-x", "c", "-", "-shared", "-fPIC", "-o", os.devnull]
    test = "#include <omp.h>\nint threads(void) { return omp_get_max_threads(); }"
    return subprocess.run(command, input=test, capture_output=True, **_TEXT, check=False).returncode == 0


def _compile(program: str, flags: Sequence[str], sources: Sequence[str], target: Path, folder: Path) -> None:
    # Where the compiler puts what passes between its steps; its messages in English.
    environment = {**os.environ, "TMPDIR": str(folder), "LC_ALL": "C"}
    jobs = []
    for i, source in enumerate(sources):
        unit = folder / f"{i}.c"
        unit.write_text(source, encoding="utf-8")
        command = [program, *flags, "-c", str(unit), "-o", str(unit.with_suffix(".o"))]
        jobs.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **_TEXT, env=environment)
        )
    # All are waited for before one's failure is told.
    results = [(job.communicate()[1], job.returncode) for job in jobs]
    objects = [str(folder / f"{i}.o") for i in range(len(sources))]
    for errors, status in results:
        _expect_success(program, errors, status)
    link = [program, *flags, "-shared", *objects, "-lm", "-o", str(target)]
    done = subprocess.run(link, capture_output=True, **_TEXT, check=False, env=environment)
    _expect_success(program, done.stderr, done.returncode)


def _expect_success(program: str, errors: str, status: int) -> None:
    if status == 0:
        return
    if (full := os.strerror(errno.ENOSPC)) in errors:
        raise OutputError(f"{program} cannot write its files: {full}", "make room, or write model.kernel=batched")
    reason = next((line for line in errors.splitlines() if "error" in line), f"exit status {status}")
    raise ModelError(f"{program} cannot compile the fused kernel: {reason}", "write model.kernel=batched")


def _version(program: str) -> str:
    try:
        return subprocess.run([program, "--version"], capture_output=True, **_TEXT, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ModelError(f"{program} does not run: {first_line(error)}", "write model.kernel=batched") from error


def _processor() -> str:
    """What ``-march=native`` depends on."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return f"{platform.machine()} {platform.processor()}"
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))

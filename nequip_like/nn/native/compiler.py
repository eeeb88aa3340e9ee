"""C code to a shared library, compiled once and stored in the cache."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nequip_like.errors import ModelError, OutputError, first_line
from nequip_like.nn.native.cache import load_or_build
from nequip_like.process_settings import warn_once

# Products and sums may be contracted, but not reordered: a sum gives the same bits however many threads there are. NaN
# and infinity keep their meaning (no -ffast-math): the guard against them looks at the results.
_FLAGS = ("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC")
_THREADS = "-fopenmp"
_ARM = ("aarch64", "arm64")  # Linux's name, and Apple's
_TEXT: Any = {"encoding": "utf-8", "errors": "replace"}  # whatever the locale: paths may have any letters


def find_compiler() -> str | None:
    """The C compiler: ``$CC``, gcc, or cc; None if there is none."""
    return shutil.which(os.environ.get("CC") or "gcc") or shutil.which("cc")


def list_flags(machine: str) -> tuple[str, ...]:
    """Flags of the compiler, without threads.

    For ARM ``-march=native`` chooses instructions without tuning, and some versions of clang refuse it.

    Args:
        machine: Kind of processor that code is compiled on and for, as ``platform.machine()`` names it.
    """
    processor = "-mcpu=native" if machine in _ARM else "-march=native"
    return ("-O2", processor, *_FLAGS)


def compile_library(units: Sequence[str], headers: Mapping[str, str] | None = None) -> ctypes.CDLL:
    """Compile C code, or load what was compiled before.

    A compiler without OpenMP, such as Apple's, makes a library that uses one thread.

    Libraries are stored by code, compiler and processor (:mod:`nequip_like.nn.native.cache`): on a cluster the folder
    may be shared by machines of different kinds. The units lie beside them, for people to read.

    Args:
        units: Translation units; they are compiled side by side.
        headers: Text by name of the files that they include.

    Raises:
        ModelError: If there is no compiler, or it refuses the code.
        OutputError: If the library cannot be stored.
    """
    program = find_compiler()
    if program is None:
        raise ModelError(
            "model.kernel is fused, which needs a C compiler, and there is none",
            "install gcc, name a compiler in the environment variable CC, or write model.kernel=batched",
        )
    headers, native = headers or {}, list_flags(platform.machine())
    # "native" means another set of instructions on another processor, so its name and flags are in the key.
    parts = (*units, *headers, *headers.values(), *native, _read_version(program), _identify_processor())
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    def build(target: Path, folder: Path) -> None:
        flags = (*native, _THREADS) if _has_threads(program) else native
        for name, text in headers.items():
            (folder / name).write_text(text, encoding="utf-8")
        _compile(program, flags, units, target, folder)

    return load_or_build(key, build, "\n".join(units))


def _has_threads(program: str) -> bool:
    command = [program, _THREADS, "-x", "c", "-", "-shared", "-fPIC", "-o", os.devnull]
    test = "#include <omp.h>\nint threads(void) { return omp_get_max_threads(); }"
    return subprocess.run(command, input=test, capture_output=True, **_TEXT, check=False).returncode == 0


def _compile(program: str, flags: Sequence[str], units: Sequence[str], target: Path, folder: Path) -> None:
    # Where the compiler puts what passes between its steps; its messages in English.
    environment = {**os.environ, "TMPDIR": str(folder), "LC_ALL": "C"}
    jobs = []
    for i, unit in enumerate(units):
        file = folder / f"{i}.c"
        file.write_text(unit, encoding="utf-8")
        command = [program, *flags, "-c", str(file), "-o", str(file.with_suffix(".o"))]
        jobs.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **_TEXT, env=environment)
        )
    # Wait for all before one's failure is raised: the folder that they write to is removed then.
    results = [(job.communicate()[1], job.returncode) for job in jobs]
    objects = [str(folder / f"{i}.o") for i in range(len(units))]
    for errors, status in results:
        _require_success(program, errors, status)
    link = [program, *flags, "-shared", *objects, "-lm", "-o", str(target)]
    linking = subprocess.run(link, capture_output=True, **_TEXT, check=False, env=environment)
    _require_success(program, linking.stderr, linking.returncode)


def _require_success(program: str, errors: str, status: int) -> None:
    if status == 0:
        return
    # No fault of the code: another folder may have room.
    if (full := os.strerror(errno.ENOSPC)) in errors:
        raise OutputError(f"{program} cannot write its files: {full}", "make room, or write model.kernel=batched")
    reason = next((line for line in errors.splitlines() if "error" in line), f"exit status {status}")
    raise ModelError(f"{program} cannot compile the fused kernel: {reason}", "write model.kernel=batched")


def _read_version(program: str) -> str:
    try:
        return subprocess.run([program, "--version"], capture_output=True, **_TEXT, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ModelError(f"{program} does not run: {first_line(error)}", "write model.kernel=batched") from error


def _identify_processor() -> str:
    """What ``-march=native`` and ``-mcpu=native`` depend on."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return f"{platform.machine()} {platform.processor()}"
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    # ARM's have no name, only the numbers of their maker and model.
    names = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(names)}))


def compile_or_warn(
    units: Sequence[str], headers: Mapping[str, str] | None = None, *, otherwise: str
) -> ctypes.CDLL | None:
    """Compile what there is another way to do; None if it cannot be had, and then a warning says why, once.

    Without a compiler nothing is said.

    Args:
        units: As for :func:`compile_library`.
        headers: As well.
        otherwise: What is done without it, for the warning: "errors are summed by NumPy, which is slower".
    """
    if find_compiler() is None:
        return None
    try:
        return compile_library(units, headers)
    except (ModelError, OutputError) as error:
        warn_once(f"{otherwise}: {error.message}")
        return None

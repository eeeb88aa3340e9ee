"""C code to a shared library, compiled once and kept."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

import torch

from nequip_like.data.catalog import cache_folder
from nequip_like.errors import ModelError, first_line
from nequip_like.whole_files import written_whole

_REAL = {torch.float32: "float", torch.float64: "double"}
# Sums over channels may be reordered, or they would not become vectors; NaN and infinity keep their meaning.
_FLAGS = (
    *("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fassociative-math"),
    *("-fno-signed-zeros", "-fopenmp", "-shared", "-fPIC"),
)


def compiler() -> str | None:
    """The C compiler: ``$CC``, gcc, or cc; None if there is none."""
    return shutil.which(os.environ.get("CC") or "gcc") or shutil.which("cc")


def compiled(source: str, dtype: torch.dtype) -> ctypes.CDLL:
    """Compile C code, or load what was compiled before.

    Libraries are kept in ``kernels`` of the package's cache folder, by code, compiler and processor: on a cluster the
    folder may be shared by machines of different kinds.

    Args:
        source: The code; ``REAL`` is its element type.
        dtype: float32 or float64.

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
    flags = (*_FLAGS, f"-DREAL={_REAL[dtype]}")
    key = hashlib.sha256("\n".join((source, *flags, _version(program), _processor())).encode()).hexdigest()[:32]
    library = cache_folder() / "kernels" / f"{key}.so"
    if not library.is_file():
        with written_whole(library) as partial:
            _compile(program, flags, source, partial)
    return ctypes.CDLL(str(library))


def _compile(program: str, flags: tuple[str, ...], source: str, target: Path) -> None:
    command = [program, *flags, "-x", "c", "-", "-o", str(target)]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = next(iter(done.stderr.splitlines()), f"exit status {done.returncode}")
        raise ModelError(f"{program} cannot compile the fused kernel: {reason}", "write model.kernel=batched")


def _version(program: str) -> str:
    try:
        return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ModelError(f"{program} does not run: {first_line(error)}", "write model.kernel=batched") from error


def _processor() -> str:
    """What ``-march=native`` depends on."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return f"{platform.machine()} {platform.processor()}"
    lines = info.read_text().splitlines()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))

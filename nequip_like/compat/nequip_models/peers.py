"""Runs a script of this folder in an interpreter that has NequIP."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from nequip_like.errors import ConfigError, ModelFileError

_LAST = 300  # characters of what it said


def run_in_nequip(python: str | Path, script: str, arguments: list[str], task: str) -> str:
    """Run a script with NequIP.

    Args:
        python: The interpreter.
        script: Name of the script, of this folder.
        arguments: What it is given.
        task: What it is to do, for messages.

    Returns:
        What it printed.

    Raises:
        ConfigError: If there is no such interpreter, or it has no NequIP.
        ModelFileError: If it fails; the message has its last words.
    """
    interpreter = os.path.expanduser(str(python))
    # The environment of this process may name packages of this interpreter, which are of another version there.
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    environment |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "CUDA_VISIBLE_DEVICES": ""}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([interpreter, *command], capture_output=True, text=True, env=environment)

    try:
        if run("-c", "import importlib.util, sys; sys.exit(importlib.util.find_spec('nequip') is None)").returncode:
            raise ConfigError(f"{python} has no nequip", "name the interpreter that NequIP is installed for")
        done = run(str(Path(__file__).with_name(script)), *arguments)
    except OSError as error:
        raise ConfigError(
            f"there is no interpreter {python}: {error.strerror or error}",
            "name the python that NequIP is installed for",
        ) from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-_LAST:]
        raise ModelFileError(f"NequIP cannot {task}: {said}", f"try it with NequIP itself, {python}")
    return done.stdout

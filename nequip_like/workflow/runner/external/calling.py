"""How a trainer of others is called: what it finds in its environment, and the file that says what it is to do."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nequip_like.errors import ConfigError
from nequip_like.whole_files import written_whole
from nequip_like.workflow.runner.external.messages import PROTOCOL
from nequip_like.workflow.runner.files import is_below
from nequip_like.workflow.runner.requests import RunRequest

#: Variable that names the file of the request.
REQUEST_VARIABLE = "NEQUIP_RUN_REQUEST"
_OURS = "NEQUIP_RUN_"
# They name packages and settings of this interpreter, which are of another version there.
_OF_THIS_INTERPRETER = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")


def build_environment(request: RunRequest, file: Path) -> dict[str, str]:
    """The environment of the trainer: that of this process without what is of its interpreter, and ``backend_env``.

    Args:
        request: The run.
        file: The file of the request.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_THIS_INTERPRETER}
    inherited = {name: value for name, value in inherited.items() if not name.startswith(_OURS)}
    # Without it Python keeps lines back where its output is no terminal.
    return {**inherited, "PYTHONUNBUFFERED": "1", **request.environment, REQUEST_VARIABLE: str(file)}


def check_environment(request: RunRequest) -> None:
    """Refuse variables that the runner sets itself.

    Raises:
        ConfigError: If ``backend_env`` has one.
    """
    if reserved := [name for name in request.environment if name.startswith(_OURS)]:
        raise ConfigError(
            f"backend_env has '{reserved[0]}', which nequip-run sets itself", f"leave out what begins with {_OURS}"
        )


def find_interpreter(request: RunRequest) -> Path:
    """The interpreter that the run names.

    Raises:
        ConfigError: If it names none, or there is none.
    """
    if request.python is None:
        raise ConfigError(
            f"backend: {request.backend} has no backend_python",
            "name the interpreter that it is installed for: backend_python: /path/to/environment/bin/python",
        )
    return check_interpreter(request.python)


def check_interpreter(python: Path) -> Path:
    """Refuse what cannot be an interpreter; it is not started.

    Raises:
        ConfigError: If it is not there, or may not be run.
    """
    advice = "name the python of an environment: backend_python: /path/to/environment/bin/python"
    if python.is_dir():
        raise ConfigError(f"backend_python is {python}, a folder", advice)
    if not python.is_file():
        raise ConfigError(f"backend_python is {python}, which is not there", advice)
    if not os.access(python, os.X_OK):
        raise ConfigError(f"backend_python is {python}, which may not be run", advice)
    return python


def build_command(request: RunRequest, awaited: Collection[Path] = ()) -> tuple[str, ...]:
    """The command line of ``backend_command`` or ``backend_script``, with ``backend_args`` behind it.

    Args:
        request: The run.
        awaited: Folders that earlier runs will have filled.

    Raises:
        ConfigError: If the program or script is not there, or the folder that it is started in.
    """
    folder = request.command_folder
    if folder is not None and not folder.is_dir() and not is_below(folder, awaited):
        raise ConfigError(f"backend_cwd is {folder}, which is no folder", "give one that is there")
    first, *following = request.command
    is_script = request.given.get("backend_script") is not None
    is_awaited = is_below(Path(first), awaited)
    if is_script and not is_awaited and not Path(first).is_file():
        raise ConfigError(f"backend_script is {first}, which is not there", "name a file, relative to the run file")
    if request.python is not None:
        launcher: tuple[str, ...] = (str(check_interpreter(request.python)),)
    elif is_script and first.endswith(".py"):
        launcher = (sys.executable,)
    else:
        launcher = ()
        if not is_awaited and shutil.which(first, path=request.environment.get("PATH")) is None:
            key = "backend_script" if is_script else "backend_command"
            raise ConfigError(
                f"{key} begins with {first}, which is no program",
                "name one that is there and may be run (chmod +x), or the interpreter of a script: backend_python",
            )
    return (*launcher, first, *following, *request.arguments)


def build_content(request: RunRequest, home: Path, go_on_from: Path | None) -> dict[str, Any]:
    """What a trainer is told of a run.

    Args:
        request: The run.
        home: Folder that it may write to.
        go_on_from: Checkpoint of the same run, which was stopped.
    """
    return {
        "protocol": PROTOCOL,
        "name": request.name,
        "task": request.task,
        "run_dir": str(home),
        "device": request.device,
        "model": {key: str(path) for key, path in request.model.items()},
        "go_on_from": None if go_on_from is None else str(go_on_from),
        **{name: dict(section) for name, section in request.sections.items()},
    }


def write_request(content: Mapping[str, Any], file: Path) -> None:
    """Write what a trainer is told.

    Raises:
        OutputError: If the file cannot be written.
    """
    with written_whole(file) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")

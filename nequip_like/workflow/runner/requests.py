"""One run of a run file, understood: keys checked, names unique, paths those of the file's folder."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nequip_like.arguments import check, check_entries, check_key, shown
from nequip_like.data.reference_energies import references_below
from nequip_like.errors import ConfigError, closest_hint
from nequip_like.whole_files import path_of
from nequip_like.workflow.runner import keys
from nequip_like.workflow.runner.reading import read_run_file

_NAME = re.compile(r"[\w][\w.+-]{0,99}")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,3})?")
_PATHS_OF_DATA = ("indices_path", "repair", "cache_dir")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


@dataclass(frozen=True)
class RunRequest:
    """What one run is to do.

    Attributes:
        name: Its name in the file: ``name`` or ``id``, else that of its folder.
        task: One of :data:`~nequip_like.workflow.runner.keys.TASKS`.
        backend: A model family of ours, or a trainer of others; empty for ``task: backend``.
        run_dir: Its folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        model: The model it begins with: ``path`` (a model file, checkpoint or run folder), ``manifest``, ``weights``.
        sections: ``data``, ``train``, ``eval``, ``output`` and ``export``, with absolute paths.
        python: Interpreter of a process of its own.
        environment: Variables for it.
        arguments: ``backend_args``.
        command: What ``task: backend``, or a trainer of others, is started by.
        command_folder: Where it is started.
        time_limit: Seconds that it may take.
        silence_limit: Seconds that it may print nothing.
        given: The run as it stands in the file.
    """

    name: str
    task: str
    backend: str
    run_dir: Path
    device: str = "auto"
    model: Mapping[str, Path] = field(default_factory=dict)
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    python: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    command_folder: Path | None = None
    time_limit: float | None = None
    silence_limit: float | None = None
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_external(self) -> bool:
        """Whether a program of others does it."""
        return self.task == "backend" or self.backend in (keys.NEQUIP_EXTERNAL, keys.EXTERNAL)

    @property
    def trains(self) -> bool:
        """Whether it trains."""
        return self.task in keys.TRAINING_TASKS

    @property
    def artifacts(self) -> Path:
        """Where model.safetensors, manifest.json and model.json go."""
        return self.run_dir / "artifacts"

    @property
    def logs(self) -> Path:
        """Where what it prints goes."""
        return self.run_dir / "logs"

    def section(self, name: str) -> Mapping[str, Any]:
        """A section; empty if it is not there."""
        return self.sections.get(name, {})


def read_requests(file: str | Path) -> list[RunRequest]:
    """Read the runs of a file.

    Args:
        file: The file.

    Returns:
        The runs, in their order.

    Raises:
        ConfigError: For what cannot be meant, naming the run and the key.
    """
    path = locate_run_file(file)
    given = read_run_file(path)
    requests: list[RunRequest] = []
    for number, run in enumerate(given):
        where = f"run {number}" if len(given) > 1 else "the run"
        try:
            requests.append(_understand(run, path.parent, f"run{number}"))
        except ConfigError as error:
            raise ConfigError(f"{path}, {where}: {error.message}", error.advice) from error
    requests = _tell_apart(requests)
    taken: set[str] = set()
    for request in requests:
        if request.name in taken:
            raise ConfigError(f"{path} has two runs named '{request.name}'", "give each a name of its own: name: ...")
        taken.add(request.name)
    return requests


def choose_requests(requests: Sequence[RunRequest], names: Sequence[str], file: Path) -> list[RunRequest]:
    """The runs that are wanted, in their order.

    Args:
        requests: All runs of a file.
        names: Names of those that are wanted; all without.
        file: The file, for messages.

    Raises:
        ConfigError: If there is no run of a name.
    """
    taken = [request.name for request in requests]
    if unknown := [name for name in names if name not in taken]:
        hint = closest_hint(unknown[0], taken)
        raise ConfigError(f"{file} has no run '{unknown[0]}'", f"{hint}there are {', '.join(sorted(taken))}")
    return [request for request in requests if not names or request.name in names]


def _tell_apart(requests: Sequence[RunRequest]) -> list[RunRequest]:
    """Put the task behind the names of runs that have no name of their own and one folder."""
    counts = Counter(request.name for request in requests)
    return [
        replace(request, name=f"{request.name}-{request.task}")
        if counts[request.name] > 1 and not {"name", "id"} & request.given.keys()
        else request
        for request in requests
    ]


def _understand(run: Mapping[str, Any], folder: Path, usual_name: str) -> RunRequest:
    check_entries("run", run, keys.RUN)
    task = _read_task(run)
    backend = _read_backend(run, task)
    if "run_dir" not in run or not run["run_dir"].strip():
        raise ConfigError("there is no run_dir", "name the folder of the run: run_dir: models/water")
    run_dir = _resolve(run["run_dir"], folder)
    name = str(run.get("name", run.get("id", run_dir.name or usual_name)))
    if "name" in run and "id" in run and str(run["id"]) != run["name"]:
        raise ConfigError(f"name is {run['name']!r} and id is {run['id']!r}", "give one of them")
    if _NAME.fullmatch(name) is None:
        raise ConfigError(f"name is {name!r}", "give a name of letters, digits, '-', '_' and '.'")
    device = run.get("device", "auto")
    if _DEVICE.fullmatch(device) is None:
        raise ConfigError(f"device is {device!r}", "give auto, cpu, cuda or cuda:1")
    sections = {
        "data": _read_data(run.get("data") or {}, folder),
        "train": _read_plain("train", run, keys.TRAIN),
        "eval": _read_plain("eval", run, keys.EVAL),
        "output": _read_plain("output", run, keys.OUTPUT),
        "export": _read_plain("export", run, keys.EXPORT),
    }
    _resolve_entries(sections["train"], ("input_json", "config_yml"), folder)
    _resolve_entries(sections["output"], ("dir",), folder)
    command, command_folder = _read_command(run, task, backend, folder)
    request = RunRequest(
        name=name,
        task=task,
        backend=backend,
        run_dir=run_dir,
        device=device,
        model=_read_model(run, folder),
        sections=sections,
        python=_resolve_program(run.get("backend_python"), folder),
        environment=_read_environment(run.get("backend_env") or {}),
        arguments=_read_arguments("backend_args", run.get("backend_args") or []),
        command=command,
        command_folder=command_folder,
        time_limit=run.get("backend_time_limit"),
        silence_limit=run.get("backend_silence_limit"),
        given=dict(run),
    )
    _check_sections(request)
    return request


def _read_task(run: Mapping[str, Any]) -> str:
    if "task" in run and "mode" in run and run["task"] != run["mode"]:
        raise ConfigError(f"task is {run['task']} and mode, its other name, is {run['mode']}", "give one of them")
    return str(run.get("task", run.get("mode", "train")))


def _read_backend(run: Mapping[str, Any], task: str) -> str:
    if task == "backend":
        return str(run.get("backend", ""))
    known = (*keys.list_families(), keys.NEQUIP_EXTERNAL, keys.EXTERNAL)
    if "backend" not in run:
        raise ConfigError("there is no backend", f"give one of {', '.join(known)}")
    if run["backend"] not in known:
        hint = closest_hint(run["backend"], known)
        raise ConfigError(f"there is no backend '{run['backend']}'", f"{hint}known are {', '.join(known)}")
    return str(run["backend"])


def _read_model(run: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    model_in, section = run.get("model_in"), run.get("model") or {}
    check_entries("model", section, keys.MODEL)
    entries: dict[str, str] = {key: value for key, value in section.items() if value is not None}
    if isinstance(model_in, str):
        model_in = {"path": model_in}
    for key, value in (model_in or {}).items():
        check_key("model_in", key, keys.MODEL_IN)
        check(f"model_in.{key}", value, keys.MODEL_IN[key])
        place = "path" if key == "source" else key
        if value is not None and entries.get(place, value) != value:
            raise ConfigError(f"model_in.{key} is {value!r}, but {place} is {entries[place]!r}", "give one of them")
        if value is not None:
            entries[place] = value
    if "path" in entries and "manifest" in entries:
        raise ConfigError("model_in names a model and a manifest", "give one: the manifest names its weights")
    if "weights" in entries and "manifest" not in entries:
        raise ConfigError("model.weights is given without model.manifest", "name the manifest, which has the model")
    return {key: _resolve(value, folder) for key, value in entries.items()}


def _read_data(section: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    kinds = {**dict.fromkeys(keys.list_data_keys(), Any), **keys.DATA}
    check_entries("data", section, kinds)
    data = dict(section)
    for key in ("train", "val", "test", *keys.EVALUATED):
        if isinstance(data.get(key), bool) or data.get(key) == []:
            raise ConfigError(f"data.{key} is {shown(data[key])}, no file", "name a file; quote a name such as 'no'")
        if isinstance(data.get(key), str | list):
            data[key] = _resolve_files(data[key], folder)
    for key in ("train_indices", "val_indices", "test_indices"):
        if data.get(key) is not None:
            check_entries(f"data.{key}", data[key], keys.SUBSET)
            data[key] = {name: value for name, value in data[key].items() if value is not None}
            _resolve_entries(data[key], ("indices_path",), folder)
    _resolve_entries(data, _PATHS_OF_DATA, folder)
    if isinstance(data.get("reference_energies"), str | dict):
        data["reference_energies"] = references_below(folder, data["reference_energies"])
    if named := [key for key in keys.EVALUATED if key in data][1:]:
        raise ConfigError(f"data.{named[0]} is another name for what is given", f"give one: {keys.EVALUATED}")
    return data


def _read_plain(name: str, run: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    section = dict(run.get(name) or {})
    check_entries(name, section, kinds)
    return section


def _read_command(run: Mapping[str, Any], task: str, backend: str, folder: Path) -> tuple[tuple[str, ...], Path | None]:
    given = [key for key in ("backend_command", "backend_script") if run.get(key)]
    starts = task == "backend" or backend == keys.EXTERNAL
    place = f"task: {task}" if task == "backend" else f"backend: {backend}"
    if len(given) > 1:
        raise ConfigError("backend_command and backend_script are both given", "give one of them")
    if starts and not given:
        raise ConfigError(f"{place} has nothing to run", "give backend_command: [PROGRAM, ...] or backend_script: FILE")
    if given and not starts:
        raise ConfigError(f"{given[0]} is given, but {place} starts no command", "write task: backend")
    if run.get("backend_cwd") and not starts:
        raise ConfigError(f"backend_cwd is given, but {place} starts no command", "leave it out")
    if not given:
        return (), None
    command_folder = _resolve(run["backend_cwd"], folder) if run.get("backend_cwd") else folder
    if given[0] == "backend_script":
        return (str(_resolve(run["backend_script"], folder)),), command_folder
    command = _read_arguments("backend_command", run["backend_command"])
    first = command[0]
    if "/" in first:
        first = str(_resolve(first, folder))
    return (first, *command[1:]), command_folder


def _read_arguments(key: str, entries: Collection[Any]) -> tuple[str, ...]:
    for entry in entries:
        if isinstance(entry, bool | dict | list) or entry is None or entry == "":
            raise ConfigError(f"{key} has {shown(entry)}", "give texts and numbers; put quotes around a text")
    return tuple(map(str, entries))


def _read_environment(entries: Mapping[str, Any]) -> dict[str, str]:
    for name, value in entries.items():
        if _VARIABLE.fullmatch(name) is None:
            raise ConfigError(f"backend_env has {name!r}, which is no name of a variable", "write NAME: value")
        if isinstance(value, dict | list):
            raise ConfigError(f"backend_env.{name} is {shown(value)}", "give a text or a number")
    return {name: "" if value is None else _write_text(value) for name, value in entries.items()}


def _write_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_sections(request: RunRequest) -> None:
    """Refuse what a task has no use for, and what it lacks."""
    task = request.task
    has = {name for name, section in request.sections.items() if section}
    used: dict[str, set[str]] = {
        **{name: {"data", "train", "export"} for name in keys.TRAINING_TASKS},
        **{name: {"data", "eval", "output"} for name in ("evaluate", "infer")},
        "export": {"export"},
        "backend": set(has),
    }
    if unused := sorted(has - used[task]):
        raise ConfigError(f"{unused[0]} is given, which task: {task} has no use for", "leave it out, or set task: ...")
    if "on_error" in request.section("eval") and (task != "infer" or request.is_external):
        whose = f"backend: {request.backend}" if request.is_external else f"task: {task}"
        raise ConfigError(
            f"eval.on_error is given, but {whose} leaves no structure out", "it is for task: infer of our own models"
        )
    if task in ("finetune", "export") and not request.model:
        raise ConfigError(f"task: {task} needs a model", "give model_in: FILE, or model: {manifest: manifest.json}")
    if task == "resume" and not request.model:
        raise ConfigError(
            "task: resume needs a checkpoint", f"give model_in, such as the run's folder {request.run_dir}"
        )
    if task == "train" and request.model:
        raise ConfigError("model_in is given, but task: train begins anew", "write task: finetune, or task: resume")
    if request.trains and request.section("data").get("train") is None:
        raise ConfigError(f"task: {task} needs data.train", "name the file: data: {train: train.xyz}")
    if task in ("evaluate", "infer") and not any(request.section("data").get(key) for key in (*keys.EVALUATED, "test")):
        raise ConfigError(f"task: {task} needs data.path", "name the file: data: {path: test.xyz}")


def locate_run_file(file: str | Path) -> Path:
    """The whole path of a run file, without ``..`` in it: what lies in a folder is seen by its path."""
    return Path(os.path.normpath(path_of(file).absolute()))


def _resolve(path: str, folder: Path) -> Path:
    return Path(os.path.normpath(Path(folder, path_of(path))))


def _resolve_program(path: str | None, folder: Path) -> Path | None:
    return None if path is None else _resolve(path, folder)


def _resolve_files(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_resolve_files(entry, folder) for entry in value]
    return str(_resolve(value, folder))


def _resolve_entries(section: dict[str, Any], names: Collection[str], folder: Path) -> None:
    for name in names:
        if isinstance(section.get(name), str):
            section[name] = str(_resolve(section[name], folder))

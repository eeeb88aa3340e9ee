"""Files that a run reads and writes, as far as the run file tells: what waits for what, and what is in the way."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from nequip_like.data.reference_energies import names_file
from nequip_like.errors import ConfigError, DataError
from nequip_like.inference.manifest import MANIFEST
from nequip_like.model.checkpoint_format import read_checkpoint
from nequip_like.workflow.resume import CHECKPOINT_FOLDER, Resumption, find_newest
from nequip_like.workflow.runner import keys
from nequip_like.workflow.runner.requests import RunRequest

_PATTERN = set("*?[")
_SETS = ("train", "val", "test", *keys.EVALUATED)
METRICS, PREDICTIONS = "metrics.json", "predictions.extxyz"


def list_inputs(request: RunRequest) -> list[tuple[str, Path]]:
    """The key and the path of everything that a run reads."""
    inputs = [(f"model_in.{key}" if key == "path" else f"model.{key}", path) for key, path in request.model.items()]
    if request.task in ("evaluate", "infer") and not request.model:
        inputs.append(("run_dir", request.run_dir))
    data, train = request.section("data"), request.section("train")
    for name in _SETS:
        inputs += [(f"data.{name}", Path(file)) for file in _list_texts(data.get(name))]
    inputs += [(f"data.{key}", Path(data[key])) for key in ("indices_path", "repair") if isinstance(data.get(key), str)]
    for name in ("train_indices", "val_indices", "test_indices"):
        if isinstance(file := (data.get(name) or {}).get("indices_path"), str):
            inputs.append((f"data.{name}.indices_path", Path(file)))
    if (file := _name_reference_file(data.get("reference_energies"))) is not None:
        inputs.append(("data.reference_energies", Path(file)))
    inputs += [(f"train.{key}", Path(train[key])) for key in ("input_json", "config_yml") if train.get(key)]
    return inputs


def list_folders(request: RunRequest) -> list[Path]:
    """The folders that a run writes to."""
    return [request.run_dir] if request.task not in ("evaluate", "infer") else [locate_output(request)]


def locate_output(request: RunRequest) -> Path:
    """Where evaluate and infer write: ``output.dir``, or a folder of the run that is called as the task."""
    folder = request.section("output").get("dir")
    return Path(folder) if folder else request.run_dir / request.task


def list_outputs(request: RunRequest) -> list[Path]:
    """Files that evaluate and infer write, and of an export the one that names the others."""
    if request.task == "export":
        return [] if request.is_external else [request.artifacts / MANIFEST]
    output, folder = request.section("output"), locate_output(request)
    names: list[str | None] = []
    if request.task == "evaluate":
        names = [output.get("metrics_json") or METRICS, output.get("metrics_csv"), output.get("predictions_csv")]
    elif request.task == "infer":
        names = [output.get("predictions_csv") or output.get("predictions") or PREDICTIONS]
    return [folder / name for name in names if name]


def is_below(path: Path, folders: Collection[Path]) -> bool:
    """Whether a path is one of some folders, or in one of them.

    Example:
        >>> is_below(Path("models/water/artifacts"), [Path("models/water")]), is_below(Path("models"), [Path("a")])
        (True, False)
    """
    return any(folder in (path, *path.parents) for folder in folders)


def check_inputs(request: RunRequest, awaited: Collection[Path] = ()) -> bool:
    """Refuse a run whose files are not there.

    Args:
        request: The run.
        awaited: Folders that runs before it will have filled by then.

    Returns:
        Whether something that it reads is still awaited.

    Raises:
        ConfigError: Naming the key and the file.
        DataError: The same, of data.
    """
    waits = False
    for key, path in list_inputs(request):
        if is_below(path, awaited):
            waits = True
        elif not _PATTERN & set(str(path)):
            kind = DataError if key.startswith("data.") else ConfigError
            if (problem := find_problem(path)) is not None:
                raise kind(f"{key}: {problem}", _advise(key))
    return waits


def check_model_stays(request: RunRequest) -> None:
    """Refuse to fine-tune a model in the run's own folder: a new run there moves the files of the one before.

    Raises:
        ConfigError: Naming the model.
    """
    if request.task != "finetune":
        return
    if inside := [path for path in request.model.values() if is_below(path, [request.run_dir])]:
        raise ConfigError(
            f"the model {inside[0]} lies in run_dir, whose files a new run moves away", "give another run_dir"
        )


def begins_anew(request: RunRequest) -> bool:
    """Whether a run, when it is not gone on with, moves away what another one has left in its folder.

    A resumption of a checkpoint from elsewhere does: when it is stopped, it goes on from its own checkpoints and no
    others.
    """
    own = request.task == "resume" and any(is_below(path, [request.run_dir]) for path in request.model.values())
    return request.trains and not own


def check_checkpoint(request: RunRequest) -> None:
    """Refuse to go on from an older checkpoint of the run in this very folder: after a stop a newer one would be taken.

    Raises:
        ConfigError: Naming both.
        ModelFileError: If a checkpoint cannot be read.
    """
    path, folder = request.model.get("path"), request.run_dir / CHECKPOINT_FOLDER
    if request.task != "resume" or request.is_external or path is None or path.parent != folder or not path.is_file():
        return
    newest, chosen = find_newest(folder), Resumption(path, read_checkpoint(path))
    if newest is not None and newest.step > chosen.step:
        raise ConfigError(
            f"model_in is {path.name}, of {chosen.step} steps, but {newest.path} of the same run has {newest.step}",
            f"give another run_dir to branch off there, or model_in: {request.run_dir} to go on from the newest",
        )


def find_problem(path: Path) -> str | None:
    """What keeps a path from being read: it is not there, or the system does not say; None if nothing is known.

    Example:
        >>> find_problem(Path("none.xyz")), find_problem(Path("."))
        ('there is no none.xyz', None)
    """
    try:
        return None if path.exists() else f"there is no {path}"
    except OSError as error:  # a name that is too long, a folder that may not be read
        return f"cannot read {path}: {error.strerror}"


def _advise(key: str) -> str:
    if key == "run_dir":
        return "name the model: model_in: FILE; without it that of run_dir is taken"
    return "relative paths begin at the folder of the run file; give one that is there"


def _name_reference_file(choice: Any) -> str | None:
    return choice if isinstance(choice, str) and names_file(choice) else None


def _list_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for entry in value:
            yield from _list_texts(entry)

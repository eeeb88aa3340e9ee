"""A new run in the folder of an earlier one: what that run left is moved, whole, into a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from nequip_like.errors import OutputError
from nequip_like.report.pictures import FORMATS
from nequip_like.summaries import print_line
from nequip_like.whole_files import output_errors, path_of
from nequip_like.workflow.run_folder.new_folders import make_new

CONFIG_FILE = "config.yaml"
INDICES_FILE = "indices.json"
_NAME = "earlier-run"
_HEAD = "# python "  # what a config that a run wrote begins with
# What a run cannot have left without any of these: tests of a model alone may be done again at any time.
_TRAINED = ("checkpoints", "metrics.csv", "model.safetensors")
_FILES = (
    *_TRAINED,
    *(CONFIG_FILE, INDICES_FILE, "hparams.yaml", "loss.log", "metrics.json", "predictions.extxyz"),
    *("run.json", "report.html", "wandb-run-id.txt", "mlflow-run-id.txt"),
    *(f"{picture}.{ending}" for picture in ("training", "parity", "uncertainty") for ending in FORMATS),
)


def format_config_head(versions: str, overrides: str) -> str:
    """Format the comment above the config of a run: the versions, Python's first, and what the command line changed."""
    return f"# {versions}\n# overrides: {overrides}\n"


def check_config_is_ours(folder: Path) -> None:
    """Refuse a folder whose ``config.yaml`` the user wrote: the resolved config would be written over it.

    Args:
        folder: The output folder.

    Raises:
        OutputError: Naming the file.
    """
    path = folder / CONFIG_FILE
    with output_errors(path):
        is_of_user = path.is_file() and not path.read_bytes().startswith(_HEAD.encode())
    if is_of_user:
        raise OutputError(
            f"{path} would be written over: a run writes its resolved config there",
            "give a folder of its own, hydra.run.dir=FOLDER, or rename the file",
        )


def check_source_stays(folder: Path, source: str | Path) -> None:
    """Refuse to begin with the weights of the very run whose files would be moved: later processes would seek them.

    Args:
        folder: The output folder.
        source: The model that is fine-tuned.

    Raises:
        OutputError: If the model is one of these files.
    """
    path = path_of(source).absolute()
    if path == folder or any(place in (path, *path.parents) for place in (folder / name for name in _TRAINED)):
        raise OutputError(
            f"finetune.source={source} is of the run in {folder}, whose files a new run there would move",
            "give another folder: hydra.run.dir=FOLDER",
        )


def move_earlier(folder: Path, further: Sequence[str] = ()) -> Path | None:
    """Move what an earlier run left in a folder to a run folder in it: ``earlier-run``, ``earlier-run-2``, ...

    Other files stay where they are.

    Args:
        folder: The output folder.
        further: Names of what else only an earlier run can have left.

    Returns:
        Where the files are now; None if there was no earlier run.

    Raises:
        OutputError: If they cannot be moved.
    """
    if not any((folder / name).exists() for name in (*_TRAINED, *further)):
        return None
    place = make_new(folder / _NAME)
    with output_errors(place):
        for path in (folder / name for name in (*_FILES, *further)):
            if path.exists():
                path.rename(place / path.name)
    return place


def tell_moved(console: Console, folder: Path, place: Path | None) -> None:
    """Say where the files of an earlier run are now, if there were any.

    Args:
        console: Where to print.
        folder: The output folder.
        place: As :func:`move_earlier` gives it.
    """
    if place is not None:
        note = f"note: {folder} had the files of an earlier run; they are in {place} now"
        print_line(console, note)

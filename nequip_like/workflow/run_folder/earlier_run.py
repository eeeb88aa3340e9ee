"""A new run in the folder of an earlier one: what that run left is moved, whole, into a folder of its own."""

from __future__ import annotations

from pathlib import Path

from nequip_like.errors import OutputError
from nequip_like.report.pictures import FORMATS
from nequip_like.whole_files import output_errors, path_of
from nequip_like.workflow.run_folder.new_folders import make_new

CONFIG_FILE = "config.yaml"
_NAME = "earlier-run"
_HEAD = "# python "  # what a config that a run wrote begins with
# What a run cannot have left without any of these: tests of a model alone may be done again at any time.
_TRAINED = ("checkpoints", "metrics.csv", "model.safetensors")
_FILES = (
    *_TRAINED,
    *(CONFIG_FILE, "hparams.yaml", "loss.log", "metrics.json", "predictions.extxyz"),
    *(f"{picture}.{ending}" for picture in ("training", "parity") for ending in FORMATS),
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


def move_earlier(folder: Path) -> Path | None:
    """Move what an earlier run left in a folder to a run folder in it: ``earlier-run``, ``earlier-run-2``, ...

    Other files stay where they are.

    Args:
        folder: The output folder.

    Returns:
        Where the files are now; None if there was no earlier run.

    Raises:
        OutputError: If they cannot be moved.
    """
    if not any((folder / name).exists() for name in _TRAINED):
        return None
    place = make_new(folder / _NAME)
    with output_errors(place):
        for path in (folder / name for name in _FILES):
            if path.exists():
                path.rename(place / path.name)
    return place

"""By which name a service knows a run: kept in the run folder, so that a run that goes on there is the same one."""

from __future__ import annotations

from pathlib import Path

from nequip_like.whole_files import output_errors, written_whole


def read_run_id(folder: str | Path, service: str) -> str | None:
    """The name of the run in a folder; None if it has none yet.

    Args:
        folder: The run folder.
        service: ``wandb`` or ``mlflow``.

    Raises:
        OutputError: If the file is there and cannot be read.
    """
    path = name_id_file(folder, service)
    with output_errors(path):
        text = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    return text or None


def keep_run_id(folder: str | Path, service: str, run_id: str) -> None:
    """Keep the name of the run.

    Args:
        folder: The run folder.
        service: ``wandb`` or ``mlflow``.
        run_id: The name.

    Raises:
        OutputError: If the file cannot be written.
    """
    if read_run_id(folder, service) != run_id:
        with written_whole(name_id_file(folder, service)) as partial:
            partial.write_text(f"{run_id}\n", encoding="utf-8")


def name_id_file(folder: str | Path, service: str) -> Path:
    """The file that the name is kept in.

    Args:
        folder: The run folder.
        service: ``wandb`` or ``mlflow``.
    """
    return Path(folder) / f"{service}-run-id.txt"

"""The dashboards that a run can log to, each with its own way of taking pictures, tables and files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from nequip_like.training.loggers.wandb_run import EPOCH, STEP, WandbRunLogger

Row = Sequence[str | float | Path]  # a path is that of a structure


class Board(Protocol):
    """A dashboard. Names have the form ``section/name``."""

    def declare_axes(self, by_epoch: Sequence[str], errors: Sequence[str]) -> None:
        """Say what is drawn over epochs, and what is the better the smaller it is.

        Args:
            by_epoch: Beginnings of names.
            errors: Beginnings of those among them that are errors.
        """

    def log_picture(self, name: str, picture: Path, epoch: int, step: int) -> None:
        """Show a PNG file."""

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Row], step: int) -> None:
        """Show a table."""

    def keep_model(self, files: Sequence[Path], metrics: Mapping[str, float], step: int) -> None:
        """Keep the files of the best model, with its errors."""

    def finish(self) -> str:
        """End the run; gives the command that is left to be typed, if there is one."""


class WandbBoard:
    """Weights & Biases.

    Args:
        logger: Its logger.
    """

    def __init__(self, logger: WandbLogger) -> None:
        self._logger = logger

    def declare_axes(self, by_epoch: Sequence[str], errors: Sequence[str]) -> None:  # noqa: D102
        run: Any = self._logger.experiment
        for name in by_epoch:
            run.define_metric(f"{name}*", step_metric=EPOCH, summary="min" if name in errors else "last")

    def log_picture(self, name: str, picture: Path, epoch: int, step: int) -> None:  # noqa: D102
        import wandb

        self._run.log({name: wandb.Image(str(picture)), EPOCH: epoch, STEP: step})

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Row], step: int) -> None:  # noqa: D102
        import wandb

        content = [[wandb.Molecule(str(cell)) if isinstance(cell, Path) else cell for cell in row] for row in rows]
        self._run.log({name: wandb.Table(columns=list(columns), data=content), STEP: step})

    def keep_model(self, files: Sequence[Path], metrics: Mapping[str, float], step: int) -> None:  # noqa: D102
        import wandb

        run = self._run
        model = wandb.Artifact(f"model-{run.id}", type="model", metadata={**metrics, "step": step})
        for file in files:
            if file.suffix == ".html":
                run.log({"report": wandb.Html(file.read_text(encoding="utf-8"), inject=False), STEP: step})
            model.add_file(str(file))
        run.log_artifact(model, aliases=["best"])
        run.summary.update(dict(metrics))

    def finish(self) -> str:  # noqa: D102
        return self._logger.finish() if isinstance(self._logger, WandbRunLogger) else ""

    @property
    def _run(self) -> Any:
        return self._logger.experiment


class TensorBoard:
    """TensorBoard: pictures and tables of text; it keeps no files.

    Args:
        logger: Its logger.
    """

    def __init__(self, logger: TensorBoardLogger) -> None:
        self._logger = logger

    def declare_axes(self, by_epoch: Sequence[str], errors: Sequence[str]) -> None:
        """Everything is drawn over steps there."""

    def log_picture(self, name: str, picture: Path, epoch: int, step: int) -> None:  # noqa: D102
        from matplotlib.image import imread  # of pixels from 0 to 1, (height, width, colours)

        self._logger.experiment.add_image(name, imread(picture), step, dataformats="HWC")

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Row], step: int) -> None:  # noqa: D102
        self._logger.experiment.add_text(name, format_markdown(columns, rows), step)

    def keep_model(self, files: Sequence[Path], metrics: Mapping[str, float], step: int) -> None:
        """The files are in the run folder; their errors are shown."""
        self._logger.log_metrics(dict(metrics), step)

    def finish(self) -> str:  # noqa: D102
        self._logger.experiment.flush()
        return ""


class MlflowBoard:
    """MLflow.

    Args:
        logger: Its logger.
    """

    def __init__(self, logger: MLFlowLogger) -> None:
        self._logger = logger

    def declare_axes(self, by_epoch: Sequence[str], errors: Sequence[str]) -> None:
        """Everything is drawn over steps there."""

    def log_picture(self, name: str, picture: Path, epoch: int, step: int) -> None:  # noqa: D102
        folder, _, title = f"pictures/{name}".rpartition("/")
        self._keep(picture, folder, f"{title}-epoch{epoch}{picture.suffix}")

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Row], step: int) -> None:  # noqa: D102
        folder, _, title = f"tables/{name}".rpartition("/")
        with TemporaryDirectory() as temporary:
            path = Path(temporary) / f"{title}.csv"
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([columns, *_name_structures(rows)])
            self._keep(path, folder, path.name)
        for structure in (cell for row in rows for cell in row if isinstance(cell, Path)):
            self._keep(structure, f"{folder}/structures", structure.name)

    def keep_model(self, files: Sequence[Path], metrics: Mapping[str, float], step: int) -> None:  # noqa: D102
        for file in files:
            self._keep(file, "model", file.name)
        self._logger.log_metrics(dict(metrics), step)

    def finish(self) -> str:  # noqa: D102
        return ""

    def _keep(self, file: Path, folder: str, name: str) -> None:
        client: Any = self._logger.experiment
        with TemporaryDirectory() as temporary:
            link = Path(temporary) / name
            link.symlink_to(file.absolute())
            client.log_artifact(self._logger.run_id, str(link), folder)


def find_boards(loggers: Iterable[Logger]) -> list[Board]:
    """The dashboards among loggers.

    Args:
        loggers: Loggers of a trainer.
    """
    boards: list[Board] = []
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            boards.append(WandbBoard(logger))
        elif isinstance(logger, TensorBoardLogger):
            boards.append(TensorBoard(logger))
        elif isinstance(logger, MLFlowLogger):
            boards.append(MlflowBoard(logger))
    return boards


def format_markdown(columns: Sequence[str], rows: Sequence[Row]) -> str:
    r"""A table in Markdown.

    Example:
        >>> print(format_markdown(("set", "MAE"), [("a|b", 0.5)]))
        | set | MAE |
        |---|---|
        | a\|b | 0.5 |
    """
    lines = [columns, *_name_structures(rows)]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    texts = [f"| {' | '.join(line)} |" for line in cells]
    return "\n".join([texts[0], f"|{'---|' * len(columns)}", *texts[1:]])


def _name_structures(rows: Sequence[Row]) -> list[list[str | float]]:
    """Rows with the names of files in place of what is in them."""
    return [[cell.name if isinstance(cell, Path) else cell for cell in row] for row in rows]

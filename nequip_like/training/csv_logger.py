"""metrics.csv: everything that was logged, also over several runs that go on from one another."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.core.saving import save_hparams_to_yaml
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from nequip_like.whole_files import output_errors, path_of, written_whole


class HistoryLogger(CSVLogger):
    """Lightning's CSVLogger, which goes on in a file that is there already and writes every row at once.

    Lightning's own deletes the file, and holds back the last hundred steps, which a killed run then loses.

    Args:
        save_dir: Folder of ``metrics.csv``.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__(path_of(save_dir), name="", version="", flush_logs_every_n_steps=1)

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """What writes the file."""
        if self._experiment is None:
            os.makedirs(self.root_dir, exist_ok=True)
            self._experiment = _Writer(self.log_dir)
        return self._experiment  # type: ignore[return-value]


class _Writer(ExperimentWriter):
    def _check_log_dir_exists(self) -> None:
        """Go on with the columns of the file that is there."""
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self.metrics_keys = list(csv.DictReader(file).fieldnames or [])

    def log_hparams(self, params: dict[str, Any]) -> None:
        """Write the config of the run to ``hparams.yaml``.

        Raises:
            OutputError: If it cannot be written.
        """
        self.hparams.update(params)
        with written_whole(Path(self.log_dir) / self.NAME_HPARAMS_FILE) as partial:
            save_hparams_to_yaml(partial, self.hparams)

    def save(self) -> None:
        """Append the rows; with a new column, write the whole file again.

        Raises:
            OutputError: If they cannot be written.
        """
        if not self.metrics:
            return
        path = Path(self.metrics_file_path)
        if self._record_new_keys() or not path.is_file():
            write_rows(path, [*(read_rows(path) if path.is_file() else []), *self.metrics], self.metrics_keys)
        else:
            with output_errors(path), path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.metrics_keys).writerows(self.metrics)
        self.metrics = []


def carry_over(source: Path, target: Path, step: int) -> None:
    """Begin a history with the part of an earlier one that was logged before a step.

    Args:
        source: The earlier ``metrics.csv``; may be the target itself.
        target: The new one.
        step: Number of steps of the checkpoint that the new run goes on from.

    Example:
        A run that goes on after 20 steps does the later ones again, so their rows are not carried over:

        >>> rows = [{"epoch": epoch, "step": step} for epoch, step in ((0, 9), (1, 19), (2, 29))]
        >>> write_rows(Path("metrics.csv"), rows, ["epoch", "step"])
        >>> carry_over(Path("metrics.csv"), Path("metrics.csv"), step=20)
        >>> [row["step"] for row in read_rows(Path("metrics.csv"))]
        ['9', '19']
    """
    rows = [row for row in read_rows(source) if (row.get("step") or "").isdigit() and int(row["step"]) < step]
    if rows:
        write_rows(target, rows, list(rows[0]))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file; a last line that was cut off is left out."""
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if None not in row and None not in row.values()]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], columns: list[str]) -> None:
    """Write a whole file.

    Raises:
        OutputError: If it cannot be written.
    """
    with written_whole(path) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)

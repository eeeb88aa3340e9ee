"""What dashboards get when a run ends: tests, the worst frames as structures, the model and the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import ase.io
import lightning

from nequip_like.inference.evaluation import COLUMNS, Evaluation, Evaluations
from nequip_like.report.boards.dashboard import show_pictures
from nequip_like.report.boards.kinds import Row, find_boards
from nequip_like.report.labelled_files import build_labelled_atoms
from nequip_like.report.page.compared_set import compare_evaluation
from nequip_like.report.units import FORCES, PER_ATOM_ENERGY, SHOWN

_ERRORS = ("set", "error of", "unit", *(heading for heading, _ in COLUMNS))
_WORST = ("set", "frame", "file", "index", "energy, meV/atom", "forces RMSE, meV/Å", "stress RMSE, GPa", "structure")


def log_results(
    trainer: lightning.Trainer,
    evaluations: Evaluations | None,
    files: Mapping[str, Path],
    metrics: Mapping[str, float],
    step: int,
) -> list[str]:
    """Show what came out on each dashboard, and end its run.

    Args:
        trainer: The trainer with its loggers.
        evaluations: Of the test sets, if there was a test.
        files: What is kept of the best model, by what it is; those that are there.
        metrics: Its errors, by logged name.
        step: Optimizer steps of its weights.

    Returns:
        Commands that are left to be typed.
    """
    boards = find_boards(trainer.loggers)
    if boards and evaluations:
        show_pictures(trainer, evaluations, "test")
        with TemporaryDirectory() as folder:
            errors, worst = _list_errors(evaluations), _list_worst(evaluations, Path(folder))
            for board in boards:
                board.log_table("test/error_table", _ERRORS, errors, step)
                board.log_table("test/worst_frames", _WORST, worst, step)
    model_files = [file for file in files.values() if file.is_file()]
    commands = []
    for board in boards:
        if model_files:
            finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
            board.keep_model(model_files, {f"best/{name}": value for name, value in finite.items()}, step)
        commands.append(board.finish())
    return [command for command in commands if command]


def _list_errors(evaluations: Mapping[str, Evaluation]) -> list[Row]:
    """Errors of each quantity and of the forces on each species, as the tables of a test show them."""
    rows: list[Row] = []
    for name, evaluation in evaluations.items():
        for quantity in SHOWN:
            suffixes = ["", *(f"_{s}" for s in evaluation.dataset.type_names if quantity is FORCES)]
            for suffix in suffixes:
                values = [evaluation.metrics.get(f"{quantity.metric}_{short}{suffix}") for _, short in COLUMNS]
                if any(value is not None for value in values):
                    label = f"{quantity.label} on {suffix[1:]}" if suffix else quantity.label
                    numbers = [math.nan if value is None else value * quantity.factor for value in values]
                    rows.append((name, label, quantity.unit, *numbers))
    return rows


def _list_worst(evaluations: Mapping[str, Evaluation], folder: Path) -> list[Row]:
    """The frames with the largest errors, each with a file of its structure, which is written into the folder."""
    rows: list[Row] = []
    for i, (name, evaluation) in enumerate(evaluations.items()):
        for frame in compare_evaluation(name, evaluation).list_worst():
            structure = folder / f"set{i}-frame{frame.index}.pdb"
            ase.io.write(structure, build_labelled_atoms(evaluation.dataset.frames[frame.index]), "proteindatabank")
            numbers = (frame.energy * PER_ATOM_ENERGY.factor, frame.forces * FORCES.factor, frame.stress)
            rows.append((name, frame.index, frame.file, frame.position, *numbers, structure))
    return rows

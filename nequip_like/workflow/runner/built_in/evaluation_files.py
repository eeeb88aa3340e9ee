"""Files of an evaluation, the same for models of ours and for those of others: errors, and a table of energies."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nequip_like.inference.evaluation import Evaluation
from nequip_like.whole_files import written_whole
from nequip_like.workflow.runner.built_in.error_metrics import list_energies
from nequip_like.workflow.runner.files import METRICS, locate_output
from nequip_like.workflow.runner.requests import RunRequest


def write_evaluation(
    request: RunRequest, evaluation: Evaluation, metrics: Mapping[str, float], model: str, energy_only: bool = False
) -> dict[str, Path]:
    """Write ``metrics.json`` and the tables that were asked for.

    Args:
        request: The run.
        evaluation: Predictions and their errors.
        metrics: The errors by the names of run files.
        model: What was evaluated.
        energy_only: Whether there are no forces.

    Returns:
        The files by what they are.

    Raises:
        OutputError: If a file cannot be written.
    """
    output, folder = request.section("output"), locate_output(request)
    files = {"metrics": folder / (output.get("metrics_json") or METRICS)}
    content = {
        "model": model,
        "frames": len(evaluation.dataset),
        "energy_only": energy_only,
        **metrics,
        "metrics": evaluation.metrics,
    }
    with written_whole(files["metrics"]) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if name := output.get("metrics_csv"):
        files["metrics_csv"] = folder / name
        _write_table(files["metrics_csv"], ("metric", "value"), [*metrics.items(), *evaluation.metrics.items()])
    if name := output.get("predictions_csv"):
        files["predictions"] = folder / name
        write_frame_energies(files["predictions"], evaluation)
    return files


def write_frame_energies(file: Path, evaluation: Evaluation) -> None:
    """Write ``predictions_csv``: a row of energies for each frame."""
    _write_table(file, ("index", "energy", "energy_per_atom", "natoms"), list_energies(evaluation))


def _write_table(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with written_whole(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)

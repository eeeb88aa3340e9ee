"""What NequIP predicts, compared with labels and written as for models of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.errors import BackendError, ConfigError, DataError
from nequip_like.inference.error_metrics import compute_errors
from nequip_like.inference.evaluation import Evaluation, select_compared_labels
from nequip_like.report.files import write_predictions
from nequip_like.workflow.runner.backend import Report, RunOutcome
from nequip_like.workflow.runner.built_in.error_metrics import compute_run_metrics
from nequip_like.workflow.runner.built_in.evaluation_files import write_evaluation, write_frame_energies
from nequip_like.workflow.runner.files import PREDICTIONS, locate_output
from nequip_like.workflow.runner.requests import RunRequest

_BATCH = 100  # frames at a time, of errors


def check_output_keys(request: RunRequest) -> None:
    """Refuse what cannot be written, or has no equal in NequIP.

    Raises:
        ConfigError: Naming the key.
    """
    for key, value in request.section("eval").items():
        if value:
            raise ConfigError(f"eval.{key} has no equal in NequIP", "leave it out")
    output = request.section("output")
    if request.task == "infer":
        if unused := [key for key in ("metrics_json", "metrics_csv") if output.get(key) is not None]:
            raise ConfigError(f"output.{unused[0]} is given, which task: infer has no use for", "write task: evaluate")
        name = output.get("predictions")
        if name is not None and not name.endswith((".xyz", ".extxyz")):
            raise ConfigError(f"output.predictions is {name!r}", "give a name that ends in .extxyz")


def read_predictions(file: Path, dataset: GraphDataset) -> list[Graph]:
    """Read the arrays that the adapter wrote.

    Args:
        file: Arrays ``total_energy`` (frames, 1), ``forces`` (atoms, 3) and ``stress`` (frames, 3, 3) as far as the
            model has them; eV and Angstrom.
        dataset: The frames.

    Raises:
        BackendError: If they do not fit to the frames, or are no finite numbers.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}
    except (OSError, ValueError, EOFError) as error:
        raise BackendError(f"{file} has no predictions: {error}", "look at the trainer's log") from error
    atoms = [len(frame[fields.POSITIONS]) for frame in dataset.frames]
    shapes = {
        fields.TOTAL_ENERGY: (len(atoms), 1),
        fields.FORCES: (sum(atoms), 3),
        fields.STRESS: (len(atoms), 3, 3),
    }
    for label, value in arrays.items():
        if value.shape != shapes.get(label):
            raise BackendError(f"{file}: {label} has the shape {tuple(value.shape)}", "look at the trainer's log")
        if label != fields.STRESS and not torch.isfinite(value).all():
            raise BackendError(f"NequIP predicts {label} that are no finite numbers", "look at the structures")
    if fields.TOTAL_ENERGY not in arrays:
        raise BackendError(f"{file} has no energies", "look at the trainer's log")
    parts = {
        label: value.split(atoms if label == fields.FORCES else [1] * len(atoms)) for label, value in arrays.items()
    }
    return [{label: values[i] for label, values in parts.items()} for i in range(len(atoms))]


def write_outcome(
    request: RunRequest, dataset: GraphDataset, predictions: list[Graph], model: str, report: Report
) -> RunOutcome:
    """Write errors (``task: evaluate``), and predictions.

    Raises:
        DataError: If frames that are to be evaluated have no labels.
        OutputError: If a file cannot be written.
    """
    output, folder = request.section("output"), locate_output(request)
    compared = select_compared_labels(dataset, predictions[0])
    files: dict[str, Path] = {}
    if request.task == "infer":
        evaluation = Evaluation(dataset, predictions, {}, [])
        metrics = {"frames": float(len(dataset))}
        if name := output.get("predictions_csv"):
            files["predictions"] = folder / name
            write_frame_energies(files["predictions"], evaluation)
        else:
            files["predictions"] = folder / (output.get("predictions") or PREDICTIONS)
            write_predictions({"data": evaluation}, files["predictions"])
    else:
        if not compared:
            raise DataError("the data have no labels that NequIP predicts", "write task: infer, or data.key_mapping")
        pairs = zip(dataset.frames, predictions, strict=True)
        errors = compute_errors(pairs, compared, dataset.type_names, _BATCH)
        evaluation = Evaluation(dataset, predictions, errors, [])
        metrics = compute_run_metrics(evaluation)
        files = write_evaluation(request, evaluation, metrics, model)
    report(f"written: {', '.join(str(file) for file in files.values())}")
    return RunOutcome(files, metrics)

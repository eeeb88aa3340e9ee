"""Files of a test: ``metrics.json`` and ``predictions.extxyz``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.inference.evaluation import Evaluation
from nequip_like.report.comment_line import format_annotations, quote
from nequip_like.report.extxyz_frame import ASE_NAMES, format_frame, format_key, format_numbers
from nequip_like.whole_files import written_whole

PREDICTED = "predicted_"
_OWN = {"data_set", "origin", *ASE_NAMES.values(), *(PREDICTED + name for name in ASE_NAMES.values())}
_OWN |= set(fields.UNCERTAINTIES.values())


def write_metrics(evaluations: Mapping[str, Evaluation], path: str | Path) -> None:
    """Write ``{data set: {metric: value}}`` as JSON, in eV and Angstrom. A value that is not finite is null.

    Where frames fall into groups, the data set has ``groups``, too:
    ``{key: {group: {frames: number, metric: value}}}``. Where the potential predicts uncertainties, it has
    ``uncertainty``: ``{per_atom_energy: {coverage_90: ..., ...}, forces: {...}}``.

    Raises:
        OutputError: If the file cannot be written.
    """
    values: dict[str, Any] = {}
    for name, evaluation in evaluations.items():
        values[name] = _replace_infinite(evaluation.metrics)
        if (groups := evaluation.groups) is not None:
            of_groups = {
                group: {"frames": groups.frames[group], **_replace_infinite(metrics)}
                for group, metrics in groups.metrics.items()
            }
            values[name]["groups"] = {groups.key: of_groups}
        if evaluation.uncertainty:
            values[name]["uncertainty"] = {
                quantity: _replace_infinite(quality.list_values())
                for quantity, quality in evaluation.uncertainty.items()
            }
    _write(path, [json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"])


def _replace_infinite(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in metrics.items()
    }


def write_predictions(evaluations: Mapping[str, Evaluation], path: str | Path) -> list[str]:
    """Write all frames with labels and predictions, as extended XYZ that ``ase.io.read`` reads.

    Labels stand under ASE's names (``energy``, ``forces``, ``stress``), so ``atoms.get_potential_energy()`` gives the
    label. Predictions stand beside them: in ``atoms.info`` ``predicted_energy`` and ``predicted_stress`` (9 numbers,
    ``reshape(3, 3)`` makes the matrix; tension positive), in ``atoms.arrays`` ``predicted_forces`` and
    ``predicted_energies`` (of the atoms), and, where they are predicted, ``energy_uncertainty`` and
    ``forces_uncertainty``. ``data_set`` and ``origin`` in ``atoms.info`` tell where a frame comes from.
    Units are eV and Angstrom. Numbers have all their digits, which ASE's own writer cuts to eight decimals.

    A label or stress that a frame does not have is left out; forces that some of its atoms lack are ``nan``.

    What else the input's frames held in ``info`` and ``arrays`` is there, too, as it was and under its own name; a name
    that is the file's own gets ``input_`` before it. An array of several dimensions becomes (atoms, columns).

    Returns:
        Names of values of the input that extended XYZ cannot hold; they are left out.

    Raises:
        OutputError: If the file cannot be written.
    """
    left_out: set[str] = set()
    _write(path, _format_frames(evaluations, left_out))
    return sorted(left_out)


def _format_frames(evaluations: Mapping[str, Evaluation], left_out: set[str]) -> Iterable[str]:
    for name, evaluation in evaluations.items():
        dataset = evaluation.dataset
        for i, (frame, prediction) in enumerate(zip(dataset.frames, evaluation.predictions, strict=True)):
            columns, info = _collect_values(frame, prediction)
            info |= {"data_set": quote(name), "origin": quote(dataset.origin(i))}
            annotations, arrays, lost = format_annotations(dataset.annotations[i], _OWN, len(frame[fields.POSITIONS]))
            left_out.update(lost)
            numbers = {key: value.reshape(len(value), -1).numpy() for key, value in columns.items()}
            yield format_frame(
                frame, numbers | arrays, info | {format_key(key): text for key, text in annotations.items()}
            )


def _collect_values(frame: Graph, prediction: Graph) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Values per atom, and values of the structure as text, under the names in the file."""
    columns: dict[str, Tensor] = {}
    info: dict[str, str] = {}
    for prefix, graph in (("", frame), (PREDICTED, prediction)):
        for label, ase_name in ASE_NAMES.items():
            if label not in graph or bool(graph[label].isnan().all()):
                continue
            if fields.field(label).owner == "node":
                columns[prefix + ase_name] = graph[label]
            else:
                info[prefix + ase_name] = format_numbers(graph[label])
    if fields.ENERGY_UNCERTAINTY in prediction:
        info[fields.ENERGY_UNCERTAINTY] = format_numbers(prediction[fields.ENERGY_UNCERTAINTY])
    if fields.FORCES_UNCERTAINTY in prediction:
        columns[fields.FORCES_UNCERTAINTY] = prediction[fields.FORCES_UNCERTAINTY]
    return columns, info


def _write(path: str | Path, parts: Iterable[str]) -> None:
    with written_whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(parts)

"""Files of a test: ``metrics.json`` and ``predictions.extxyz``."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.inference.evaluation import Evaluation
from nequip_like.report.comment_line import column_type, format_annotations, format_column, quote
from nequip_like.whole_files import written_whole

PREDICTED = "predicted_"
_ASE_NAMES = {
    fields.TOTAL_ENERGY: "energy",
    fields.PER_ATOM_ENERGY: "energies",
    fields.FORCES: "forces",
    fields.STRESS: "stress",
}
_OWN = {"data_set", "origin", *_ASE_NAMES.values(), *(PREDICTED + name for name in _ASE_NAMES.values())}


def write_metrics(evaluations: Mapping[str, Evaluation], path: str | Path) -> None:
    """Write ``{data set: {metric: value}}`` as JSON, in eV and Angstrom. A value that is not finite is null.

    Where frames fall into groups, the data set has ``groups``, too:
    ``{key: {group: {frames: number, metric: value}}}``.

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
    _write(path, [json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"])


def _replace_infinite(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in metrics.items()}


def write_predictions(evaluations: Mapping[str, Evaluation], path: str | Path) -> list[str]:
    """Write all frames with labels and predictions, as extended XYZ that ``ase.io.read`` reads.

    Labels stand under ASE's names (``energy``, ``forces``, ``stress``), so ``atoms.get_potential_energy()`` gives the
    label. Predictions stand beside them: in ``atoms.info`` ``predicted_energy`` and ``predicted_stress`` (9 numbers,
    ``reshape(3, 3)`` makes the matrix; tension positive), in ``atoms.arrays`` ``predicted_forces`` and
    ``predicted_energies`` (of the atoms). ``data_set`` and ``origin`` in ``atoms.info`` tell where a frame comes from.
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
            yield _format_extxyz(
                frame, numbers | arrays, info | {_format_key(key): text for key, text in annotations.items()}
            )


def _collect_values(frame: Graph, prediction: Graph) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Values per atom, and values of the structure as text, under the names in the file."""
    columns: dict[str, Tensor] = {}
    info: dict[str, str] = {}
    for prefix, graph in (("", frame), (PREDICTED, prediction)):
        for label, ase_name in _ASE_NAMES.items():
            if label not in graph or bool(graph[label].isnan().all()):
                continue
            if fields.field(label).owner == "node":
                columns[prefix + ase_name] = graph[label]
            else:
                info[prefix + ase_name] = _format_numbers(graph[label])
    return columns, info


def _format_extxyz(frame: Graph, columns: Mapping[str, np.ndarray], info: Mapping[str, str]) -> str:
    """One frame. A 3 x 3 matrix is read back by columns, which only matters for the lattice: its rows are vectors."""
    types = [f"{name}:{column_type(column)}:{column.shape[1]}" for name, column in columns.items()]
    comment = [f"Properties={':'.join(['species:S:1', 'pos:R:3', *types])}"]
    comment += [f"{name}={text}" for name, text in info.items()]
    comment.append(f'pbc="{" ".join("FT"[int(axis)] for axis in frame[fields.PBC][0])}"')
    if bool(frame[fields.CELL].any()):
        comment.insert(0, f"Lattice={_format_numbers(frame[fields.CELL])}")
    cells = [format_column(column) for column in (frame[fields.POSITIONS].numpy(), *columns.values())]
    lines = [str(len(frame[fields.POSITIONS])), " ".join(comment)]
    for number, *row in zip(frame[fields.ATOMIC_NUMBERS].tolist(), *cells, strict=True):
        lines.append(" ".join([chemical_symbols[number], *(cell for column in row for cell in column)]))
    return "\n".join(lines) + "\n"


def _format_numbers(value: Tensor) -> str:
    text = " ".join(repr(x) for x in value.flatten().tolist())
    return text if value.numel() == 1 else f'"{text}"'


def _format_key(name: str) -> str:
    """A name of the comment line, in quotes where it is more than a word."""
    return name if re.fullmatch(r"[\w.+-]+", name) else quote(name)


def _write(path: str | Path, parts: Iterable[str]) -> None:
    with written_whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(parts)

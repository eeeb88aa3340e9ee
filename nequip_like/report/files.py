"""Files of a test: ``metrics.json`` and ``predictions.extxyz``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from ase.data import chemical_symbols
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.inference.evaluation import Evaluation
from nequip_like.whole_files import written_whole

PREDICTED = "predicted_"
_ASE_NAMES = {
    fields.TOTAL_ENERGY: "energy",
    fields.PER_ATOM_ENERGY: "energies",
    fields.FORCES: "forces",
    fields.STRESS: "stress",
}


def write_metrics(evaluations: Mapping[str, Evaluation], path: str | Path) -> None:
    """Write ``{data set: {metric: value}}`` as JSON, in eV and Angstrom. A value that is not finite is null.

    Raises:
        OutputError: If the file cannot be written.
    """
    values = {
        name: {key: value if math.isfinite(value) else None for key, value in evaluation.metrics.items()}
        for name, evaluation in evaluations.items()
    }
    _write(path, [json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"])


def write_predictions(evaluations: Mapping[str, Evaluation], path: str | Path) -> None:
    """Write all frames with labels and predictions, as extended XYZ that ``ase.io.read`` reads.

    Labels stand under ASE's names (``energy``, ``forces``, ``stress``), so ``atoms.get_potential_energy()`` gives the
    label. Predictions stand beside them: in ``atoms.info`` ``predicted_energy`` and ``predicted_stress`` (9 numbers,
    ``reshape(3, 3)`` makes the matrix; tension positive), in ``atoms.arrays`` ``predicted_forces`` and
    ``predicted_energies`` (of the atoms). ``data_set`` and ``origin`` in ``atoms.info`` tell where a frame comes from.
    Units are eV and Angstrom. Numbers have all their digits, which ASE's own writer cuts to eight decimals.

    A label or stress that a frame does not have is left out; forces that some of its atoms lack are ``nan``.

    Raises:
        OutputError: If the file cannot be written.
    """
    _write(path, _frames(evaluations))


def _frames(evaluations: Mapping[str, Evaluation]) -> Iterable[str]:
    for name, evaluation in evaluations.items():
        for i, (frame, prediction) in enumerate(zip(evaluation.dataset.frames, evaluation.predictions, strict=True)):
            columns, info = _values(frame, prediction)
            origin = evaluation.dataset.origin(i)
            yield _extxyz(frame, columns, info | {"data_set": _quoted(name), "origin": _quoted(origin)})


def _values(frame: Graph, prediction: Graph) -> tuple[dict[str, Tensor], dict[str, str]]:
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
                info[prefix + ase_name] = _numbers(graph[label])
    return columns, info


def _extxyz(frame: Graph, columns: Mapping[str, Tensor], info: Mapping[str, str]) -> str:
    """One frame. A 3 x 3 matrix is read back by columns, which only matters for the lattice: its rows are vectors."""
    properties = ["species:S:1", "pos:R:3", *(f"{name}:R:{value[0].numel()}" for name, value in columns.items())]
    comment = [f"Properties={':'.join(properties)}", *(f"{name}={text}" for name, text in info.items())]
    comment.append(f'pbc="{" ".join("FT"[int(axis)] for axis in frame[fields.PBC][0])}"')
    if bool(frame[fields.CELL].any()):
        comment.insert(0, f"Lattice={_numbers(frame[fields.CELL])}")
    rows = [
        tensor.reshape(len(frame[fields.POSITIONS]), -1).tolist()
        for tensor in (frame[fields.POSITIONS], *columns.values())
    ]
    lines = [str(len(frame[fields.POSITIONS])), " ".join(comment)]
    for number, *values in zip(frame[fields.ATOMIC_NUMBERS].tolist(), *rows, strict=True):
        lines.append(" ".join([chemical_symbols[number], *(repr(x) for row in values for x in row)]))
    return "\n".join(lines) + "\n"


def _numbers(value: Tensor) -> str:
    text = " ".join(repr(x) for x in value.flatten().tolist())
    return text if value.numel() == 1 else f'"{text}"'


def _quoted(text: str) -> str:
    """A string as the comment line of an extended XYZ file takes it: quoted, so that it stays a string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


def _write(path: str | Path, parts: Iterable[str]) -> None:
    with written_whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.writelines(parts)

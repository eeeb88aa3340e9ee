"""Frames for NequIP: read, chosen and checked as for a training of ours, and written as extended XYZ that it reads.

So names and units of labels, subsets and splits mean the same for both trainers, and both see the same frames.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ase.data import chemical_symbols

from nequip_like.data import fields
from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.sources import FileSource, held_out_sources
from nequip_like.data.statistics import check_not_zero
from nequip_like.errors import ConfigError, DataError, naming_arguments
from nequip_like.report.extxyz_frame import ASE_NAMES, format_frame, format_numbers
from nequip_like.whole_files import written_whole
from nequip_like.workflow.runner import keys
from nequip_like.workflow.runner.built_in.evaluation import list_evaluated
from nequip_like.workflow.runner.built_in.training_config import select_set_frames
from nequip_like.workflow.runner.requests import RunRequest

SETS = ("train", "val", "test")
_LABELS = {"energy": fields.TOTAL_ENERGY, "forces": fields.FORCES}
_WRITTEN = (fields.TOTAL_ENERGY, fields.FORCES, fields.STRESS)
# Keys of the section data that say which frames there are; the others say how our trainer draws and batches them.
_OF_FRAMES = (
    "key_mapping", "units", "reference_energies", "split_seed", "filters", "repair", "cache_dir", "cache_size",
)  # fmt: skip
_CHOOSING = ("train_indices", "val_indices", "test_indices", "indices", "indices_path", "trust_pickle")
_EVALUATED = (*keys.EVALUATED, "indices", "indices_path", "test_indices", "trust_pickle", "batch_size", *SETS)
_ANY_CUTOFF = 1.0  # Angstrom: nobody asks for neighbours


@dataclass(frozen=True)
class TrainingFrames:
    """What was written for a training.

    Attributes:
        files: Extended XYZ files of ``train``, ``val`` and ``test``.
        labels: ``energy`` and ``forces`` as far as the training frames have them; true where some frame of any set
            lacks them.
        species: Their chemical symbols.
        statistics: Arguments of a new model that the training frames say: scales, shifts, number of neighbours.
        counts: Frames of each set.
    """

    files: Mapping[str, Sequence[Path]]
    labels: Mapping[str, bool]
    species: Sequence[str]
    statistics: Mapping[str, Any]
    counts: Mapping[str, int]


def choose_training_frames(request: RunRequest) -> tuple[dict[str, Any], list[str]]:
    """Arguments of the data module that reads the frames of a training; and what has no effect.

    Raises:
        ConfigError: If a key has no equal in NequIP.
    """
    data = request.section("data")
    arguments: dict[str, Any] = {"val": 0.1}
    notes: list[str] = []
    for key, value in data.items():
        if key not in (*SETS, *_OF_FRAMES, *_CHOOSING, "batch_size") and value is not None:
            raise ConfigError(f"data.{key} has no equal in NequIP", "leave it out")
    of_train = {"indices": data.get("indices"), "indices_path": data.get("indices_path")}
    for name in SETS:
        subset, remarks = select_set_frames(data, name, of_train if name == "train" else {})
        notes += remarks
        source = data.get(name)
        if subset and not isinstance(source, str | list):
            raise ConfigError(f"data.{name}_indices is given, but data.{name} names no file", "name its file, too")
        if isinstance(source, str | list) and data.get("trust_pickle"):
            subset = {**subset, "trust_pickle": True}
        if name in data:
            arguments[name] = {"file": source, **subset} if subset else source
    return arguments | {key: data[key] for key in _OF_FRAMES if data.get(key) is not None}, notes


def write_training_frames(arguments: Mapping[str, Any], cutoff: float, folder: Path) -> TrainingFrames:
    """Read the sets of a training and write them.

    Args:
        arguments: What :func:`choose_training_frames` gave.
        cutoff: Within which neighbours are counted, Angstrom.
        folder: Where files are written.

    Raises:
        ConfigError: If the data section cannot mean what was written.
        DataError: If the data cannot be used, or have nothing to train on.
        OutputError: If a file cannot be written.
    """
    with naming_arguments("data", (*arguments, "train", "val", "test")):
        data = DataModule(**arguments, cutoff_radius=cutoff).prepare()
    sets = {"train": [data.train_set], "val": list(data.val_sets.values()), "test": list(data.test_sets.values())}
    if not sets["val"]:
        raise ConfigError("data.val is null, but NequIP needs validation frames", "give a file, or a part: val: 0.1")
    labels = {
        name: any(part.labels.get(label, 0) < len(part) for parts in sets.values() for part in parts)
        for name, label in _LABELS.items()
        if label in data.train_set.labels
    }
    if "energy" not in labels:
        raise DataError("no training frame has an energy, and NequIP trains on energies", "name it: data.key_mapping")
    files = {
        name: [folder / (f"{name}.xyz" if len(parts) == 1 else f"{name}_{i}.xyz") for i in range(len(parts))]
        for name, parts in sets.items()
    }
    for name, parts in sets.items():
        for part, file in zip(parts, files[name], strict=True):
            write_nequip_frames(part.frames, [label for label in _WRITTEN if label in data.train_set.labels], file)
    counts = {name: sum(map(len, parts)) for name, parts in sets.items()}
    return TrainingFrames(files, labels, data.type_names, _collect_statistics(data), counts)


def _collect_statistics(data: DataModule) -> dict[str, Any]:
    """Scales, shifts and number of neighbours as a training of ours would take them."""
    statistics = data.statistics
    check_not_zero("num_neighbors_mean", statistics["num_neighbors_mean"])
    shifts = statistics.get("reference_energies", dict.fromkeys(data.type_names, 0.0))
    scale = statistics.get("forces_rms") or statistics.get("per_atom_energy_std") or 1.0
    return {
        "avg_num_neighbors": _make_plain(statistics["num_neighbors_mean"], data.type_names),
        "per_type_energy_scales": _make_plain(scale, data.type_names),
        "per_type_energy_shifts": _make_plain(shifts, data.type_names),
    }


def _make_plain(value: Any, species: Sequence[str]) -> Any:
    """A statistic as a number, or as numbers by species."""
    if isinstance(value, Mapping):
        return {name: float(value[name]) for name in species}
    if isinstance(value, Sequence):
        return {name: float(number) for name, number in zip(species, value, strict=True)}
    return float(value)


def write_nequip_frames(frames: Iterable[Graph], labels: Collection[str], file: Path) -> None:
    """Write frames, all with the same labels: NaN where one has none, which NequIP leaves out of its errors.

    Args:
        frames: The frames.
        labels: Labels of all of them.
        file: The file.

    Raises:
        OutputError: If it cannot be written.
    """
    with written_whole(file) as partial, partial.open("w", encoding="utf-8") as stream:
        for frame in frames:
            columns, info = {}, {}
            for label in labels:
                name, per_atom = ASE_NAMES[label], fields.field(label).owner == "node"
                shape = (len(frame[fields.POSITIONS]), 3) if per_atom else (9 if label == fields.STRESS else 1,)
                value = frame.get(label, torch.full(shape, torch.nan, dtype=torch.float64))
                if per_atom:
                    columns[name] = value.reshape(shape).numpy()
                else:
                    info[name] = format_numbers(value)
            stream.write(format_frame(frame, columns, info))


def check_evaluated_keys(request: RunRequest) -> None:
    """Refuse keys of the section data that an evaluation by NequIP has no use for.

    Raises:
        ConfigError: Naming the key.
    """
    for key, value in request.section("data").items():
        if key not in (*_EVALUATED, "key_mapping", "units") and value is not None:
            raise ConfigError(f"data.{key} has no equal in NequIP", "leave it out")


def choose_evaluated(request: RunRequest) -> tuple[FileSource, list[str]]:
    """What evaluate and infer read; and what has no effect.

    Raises:
        ConfigError: If the section cannot mean what was written.
    """
    data = request.section("data")
    selection = {"indices": data.get("indices"), "indices_path": data.get("indices_path")}
    subset, notes = select_set_frames(data, "test", selection)
    entry = {"file": list_evaluated(data), **subset}
    if data.get("trust_pickle"):
        entry["trust_pickle"] = True
    with naming_arguments("data", ("test",)):
        source = held_out_sources({"data": entry}, "test", data.get("key_mapping"), data.get("units"))["data"]
    assert isinstance(source, FileSource)
    return source, notes


def read_evaluated(source: FileSource) -> GraphDataset:
    """Read what is evaluated or predicted.

    Raises:
        DataError: If it cannot be read.
    """
    reading = source.read()
    numbers = sorted({int(number) for frame in reading.frames for number in frame[fields.ATOMIC_NUMBERS].unique()})
    return GraphDataset(reading, _ANY_CUTOFF, [chemical_symbols[number] for number in numbers], name="data")

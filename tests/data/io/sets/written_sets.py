"""Writes structures with their labels as other programs do: LMDB of ASE, NequIP and fairchem, HDF5 of MACE."""

from __future__ import annotations

import pickle
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import lmdb
import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db.row import AtomsRow
from ase.io.jsonio import encode

SHAPES = {"energy": (1, 1), "stress": (1, 3, 3)}
VOIGT = [0, 5, 4, 5, 1, 3, 4, 3, 2]


def make_frames(number: int = 4, seed: int = 0) -> list[Atoms]:
    """Molecules, with energy and forces, and crystals, with stress, too."""
    rng = np.random.default_rng(seed)
    frames = []
    for i in range(number):
        atoms = bulk("NaCl", "rocksalt", a=5.6) if i % 2 else molecule("CH3OH")
        atoms.rattle(0.05, rng=rng)
        labels: dict[str, Any] = {"energy": -5.0 + rng.normal(), "forces": rng.normal(size=(len(atoms), 3))}
        if i % 2:
            labels["stress"] = 0.01 * rng.normal(size=6)
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


def write_entries(path: Path, entries: Mapping[bytes, bytes]) -> None:
    """An LMDB file."""
    path.unlink(missing_ok=True)
    environment = lmdb.open(str(path), subdir=False, map_size=1 << 28, lock=False)
    with environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key, value)
    environment.close()


def pack(value: Any) -> bytes:
    return zlib.compress(encode(value).encode())


def describe_row(atoms: Atoms, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A row as ``ase-db-backends`` keeps it."""
    row = AtomsRow(atoms)
    values = {name: getattr(row, name) for name in row}
    values.update(mtime=26.9, ctime=26.9, user="ann", key_value_pairs={}, data=dict(data or {}))
    if atoms.constraints:
        values["constraints"] = [constraint.todict() for constraint in atoms.constraints]
    values["cell"] = np.asarray(values["cell"])
    return values


def write_aselmdb(
    path: Path, frames: Sequence[Atoms], deleted: Sequence[int] = (), metadata: Mapping[str, Any] | None = None
) -> Path:
    """An ASE database; without the rows that are deleted, counted from 1."""
    entries = {
        str(i).encode(): pack(describe_row(atoms, {**atoms.info, **extra_arrays(atoms)}))
        for i, atoms in enumerate(frames, 1)
        if i not in deleted
    }
    entries[b"nextid"] = pack(len(frames) + 1)
    entries[b"deleted_ids"] = pack(list(deleted))
    if metadata is not None:
        entries[b"metadata"] = pack(metadata)
    write_entries(path, entries)
    return path


def extra_arrays(atoms: Atoms) -> dict[str, np.ndarray]:
    return {name: array for name, array in atoms.arrays.items() if name not in ("numbers", "positions")}


def labels_of(atoms: Atoms) -> dict[str, Any]:
    """Labels of a calculator, in ``info`` and in ``arrays``, stress as (3, 3)."""
    results = {} if atoms.calc is None else dict(atoms.calc.results)
    labels = {name: results[name] for name in ("energy", "forces", "stress") if name in results}
    labels |= {name: value for name, value in {**atoms.info, **extra_arrays(atoms)}.items() if is_numeric(value)}
    if np.shape(labels.get("stress")) == (6,):
        labels["stress"] = labels["stress"][VOIGT].reshape(3, 3)
    return labels


def is_numeric(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "if"


def write_nequip(path: Path, frames: Sequence[Atoms], protocol: int = 5) -> Path:
    """What ``NequIPLMDBDataset.save_from_iterator`` writes."""
    entries = {}
    for i, atoms in enumerate(frames):
        values = {
            "pos": atoms.positions,
            "cell": atoms.cell[:][None],
            "pbc": atoms.pbc[None],
            "atomic_numbers": atoms.numbers,
        }
        for name, value in labels_of(atoms).items():
            values["total_energy" if name == "energy" else name] = np.reshape(value, SHAPES.get(name, np.shape(value)))
        tensors = {name: torch.tensor(np.asarray(value)) for name, value in values.items()}
        entries[str(i).encode()] = pickle.dumps(tensors, protocol)
    metadata = {
        "num_atoms_per_entry": np.array([len(atoms) for atoms in frames]),
        "num_edges_per_entry": np.array([None for _ in frames]),
        "num_frames": len(frames),
    }
    entries[b"__metadata__"] = pickle.dumps(metadata, protocol)
    write_entries(path, entries)
    return path


class Plain:
    """An object whose class is called as one of PyTorch Geometric."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


@contextmanager
def geometric() -> Iterator[dict[str, type]]:
    """Classes with the names of PyTorch Geometric's, as far as its pickles name them."""
    names = {"data": ("Data", "DataEdgeAttr", "DataTensorAttr"), "storage": ("GlobalStorage",)}
    modules = {title: ModuleType(title) for title in ("torch_geometric", "torch_geometric.data")}
    classes = {}
    for module, members in names.items():
        title = f"torch_geometric.data.{module}"
        modules[title] = ModuleType(title)
        for name in members:
            classes[name] = type(name, (Plain,), {"__module__": title})
            setattr(modules[title], name, classes[name])
    with mock.patch.dict(sys.modules, modules):
        yield classes


def write_fairchem(path: Path, frames: Sequence[Atoms], version: int = 2) -> Path:
    """What fairchem's ``preprocess_ef`` writes with PyTorch Geometric 1 or 2; free atoms are the last one."""
    entries = {}
    with geometric() as classes:
        for i, atoms in enumerate(frames):
            labels = labels_of(atoms)
            attributes = {
                "pos": torch.tensor(atoms.positions),
                "cell": torch.tensor(atoms.cell[:][None]),
                "atomic_numbers": torch.tensor(atoms.numbers, dtype=torch.float32),
                "natoms": len(atoms),
                "tags": torch.arange(len(atoms)),
                "fixed": torch.tensor([1.0] * (len(atoms) - 1) + [0.0]),
                "y": labels["energy"],
                "force": torch.tensor(labels["forces"]),
                "sid": 17,
                "edge_index": torch.zeros(2, 5, dtype=torch.int64),
                "cell_offsets": torch.zeros(5, 3),
            }
            if version == 1:
                found = classes["Data"](x=None, **attributes)
            else:
                found = classes["Data"](
                    _edge_attr_cls=classes["DataEdgeAttr"], _tensor_attr_cls=classes["DataTensorAttr"], _store=None
                )
                found._store = classes["GlobalStorage"](_mapping=attributes, _parent=found)
            entries[str(i).encode()] = pickle.dumps(found, -1)
    entries[b"length"] = pickle.dumps(len(frames), -1)
    write_entries(path, entries)
    return path


def write_mace(path: Path, frames: Sequence[Atoms], older: bool = False, **weights: float) -> Path:
    """What ``mace_prepare_data`` writes, or what it wrote before version 0.3.11."""
    import h5py

    def or_none(value: Any) -> Any:
        return "None" if value is None else value

    names = ("energy", "forces", "stress", "virials", "dipole", "charges")
    with h5py.File(path, "w") as file:
        file.attrs["drop_last"] = False
        batch = file.create_group("config_batch_0")
        for i, atoms in enumerate(frames):
            labels = labels_of(atoms)
            properties = {name: labels.get(name) for name in names}
            property_weights = {name: weights.get(name, 1.0) if name in labels else 0.0 for name in names}
            group = batch.create_group(f"config_{i}")
            structure = {
                "atomic_numbers": atoms.numbers,
                "positions": atoms.positions,
                "cell": atoms.cell[:],
                "pbc": tuple(map(bool, atoms.pbc)),
                "weight": weights.get("weight", 1.0),
                "config_type": atoms.info.get("config_type", "Default"),
            }
            if older:
                structure |= properties
                structure |= {f"{name}_weight": property_weights[name] for name in names[:4]}
            for name, value in structure.items():
                group[name] = or_none(value)
            for title, values in {"properties": properties, "property_weights": property_weights}.items():
                if not older:
                    inner = group.create_group(title)
                    for name, value in values.items():
                        inner[name] = or_none(value)
    return path


def check_same(one: Sequence[dict], other: Sequence[dict], leave_out: Sequence[str] = ("frame_index",)) -> None:
    """Graphs are the same to the last digit; what one lacks the other lacks, too."""
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert set(a) - set(leave_out) == set(b) - set(leave_out)
        for name in set(a) - set(leave_out):
            np.testing.assert_array_equal(a[name].numpy(), b[name].numpy(), err_msg=name)


WRITERS: dict[str, Callable[..., Path]] = {
    "a.aselmdb": write_aselmdb,
    "nequip.lmdb": write_nequip,
    "fairchem.lmdb": write_fairchem,
    "a.h5": write_mace,
}

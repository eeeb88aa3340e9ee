"""HDF5 files of MACE (``mace_prepare_data``): a group of arrays for each structure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from nequip_like.data.io.sets.frame_sets import FrameSet
from nequip_like.data.io.sets.written_frames import build_atoms
from nequip_like.errors import DataError

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_BATCH, _CONFIG = "config_batch_", "config_"
_STRUCTURE = ("atomic_numbers", "positions", "cell", "pbc")
_PROPERTIES, _WEIGHTS, _WEIGHT = "properties", "property_weights", "weight"
_OF_AENET = "entries/structures"
_LARGEST_VALUE = 1 << 30  # bytes


@contextmanager
def open_mace_hdf5(path: Path) -> Iterator[FrameSet]:
    """The structures of one file, with their labels under MACE's names, and the weights as its XYZ files have them.

    Raises:
        DataError: If the package ``h5py`` is not there, the file is damaged, or it is not MACE's.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            f"{path.absolute()} is an HDF5 file, and the package h5py is not installed",
            "pip install 'nequip-like[hdf5]'",
        ) from error
    _check_single(path)
    with h5py.File(path, "r", locking=False) as file:
        if _OF_AENET in file:
            raise DataError(
                f"{path.absolute()} is an HDF5 file of aenet, whose structures are pickles: these can run code",
                "give the XSF files that it was made of",
            )
        batches = _list_groups(file, _BATCH)
        if not batches:
            raise DataError(
                f"{path.absolute()} is not an HDF5 file of MACE: it has no group '{_BATCH}0'",
                "write the structures as extended XYZ; of HDF5 files, those of mace_prepare_data are read",
            )
        counts = [len(_list_groups(_get_group(file, batch, str(path.absolute())), _CONFIG)) for batch in batches]
        yield FrameSet(sum(counts), partial(_read_groups, file, path, batches, counts))


def _read_groups(
    file: Any, path: Path, batches: Sequence[str], counts: Sequence[int], frames: range
) -> Iterator[Atoms]:
    first = 0
    for batch, count in zip(batches, counts, strict=True):
        for number in range(max(frames.start - first, 0), min(frames.stop - first, count)):
            name = f"{_CONFIG}{number}"
            origin = f"{path.absolute()} {batch}/{name}"
            yield _build_frame(_get_group(file[batch], name, origin), origin)
        first += count


def _check_single(path: Path) -> None:
    """Refuse two files that were joined: the library reads the first of them, and says nothing."""
    with path.open("rb") as file:
        head = file.read(64)
        # Of HDF5's file format, section II.A: the end of the file stands behind the base address, which is 0.
        place = 40 if head[8:9] in (b"\0", b"\1") else 28
        end = int.from_bytes(head[place + 4 * (head[8:9] == b"\1") :][:8], "little")
        file.seek(min(end, 1 << 62))
        is_joined = end > 0 and file.read(len(_SIGNATURE)) == _SIGNATURE
    if is_joined:
        raise DataError(
            f"{path.absolute()} holds two HDF5 files, of which only the first can be read", "give each as its own file"
        )


def _build_frame(group: Any, origin: str) -> Atoms:
    stored = _read_values(group, origin)
    numbers, positions, cell, pbc = (stored.pop(name, None) for name in _STRUCTURE)
    weights = {name.removesuffix("_weight"): value for name, value in stored.items() if name.endswith("_weight")}
    values = {name: value for name, value in stored.items() if not name.endswith("_weight")}
    if _PROPERTIES in group:  # since MACE 0.3.11; before, they stood beside the positions
        values |= _read_values(_get_group(group, _PROPERTIES, origin), origin)
        if _WEIGHTS not in group:
            raise DataError(f"{origin} has no '{_WEIGHTS}'", "write the file again")
        weights = _read_values(_get_group(group, _WEIGHTS, origin), origin)
    if _WEIGHT in values:
        values["config_weight"] = values.pop(_WEIGHT)
    # A property that a structure lacks has a weight all the same.
    values |= {f"config_{name}_weight": value for name, value in weights.items() if values.get(name) is not None}
    return build_atoms(numbers, positions, cell, pbc, values, origin)


def _list_groups(parent: Any, prefix: str) -> list[str]:
    """Members ``prefix0``, ``prefix1``, ... by number.

    Raises:
        DataError: If a number is missing: the file was not written to its end.
    """
    numbers = sorted(int(match[1]) for name in parent if (match := re.fullmatch(rf"{prefix}(\d{{1,18}})", name)))
    if numbers != list(range(len(numbers))):
        raise DataError(
            f"{parent.file.filename}: its groups '{prefix}...' are not numbered from 0 to {len(numbers) - 1}",
            "write the file again",
        )
    return [f"{prefix}{number}" for number in numbers]


def _get_group(parent: Any, name: str, origin: str) -> Any:
    import h5py

    member = _get_member(parent, name, origin)
    if not isinstance(member, h5py.Group):
        raise DataError(f"{origin}: '{name}' is no group", "write the file again")
    return member


def _get_member(parent: Any, name: str, origin: str) -> Any:
    """A member that stands in the file itself: links lead to other files."""
    import h5py

    if parent.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise DataError(f"{origin}: '{name}' is a link to somewhere else", "write the file again")
    return parent[name]


def _read_values(group: Any, origin: str) -> dict[str, Any]:
    import h5py

    members = {name: _get_member(group, name, origin) for name in group}
    return {
        name: _read_value(member, f"{origin}: '{name}'")
        for name, member in members.items()
        if isinstance(member, h5py.Dataset)
    }


def _read_value(dataset: Any, subject: str) -> Any:
    """A number, a text or an array; None for what MACE writes as the text ``None``."""
    import h5py

    dtype, how = dataset.dtype, dataset.id.get_create_plist()
    is_text = h5py.check_string_dtype(dtype) is not None
    if not is_text and dtype.kind not in "biuf":
        raise DataError(f"{subject} is neither numbers nor text", "write the file again")
    if how.get_external_count() or how.get_layout() == h5py.h5d.VIRTUAL:
        raise DataError(f"{subject} stands in another file", "write the file again")
    if dataset.size is None or dataset.size * dtype.itemsize > _LARGEST_VALUE:
        raise DataError(f"{subject} has the shape {dataset.shape}", "write the file again")
    value = dataset[()]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
        return None if value == "None" else value
    return value.item() if np.ndim(value) == 0 and not isinstance(value, str) else value

"""A data set: frames with atom types and neighbour lists, made once and kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from nequip_like.data import fields
from nequip_like.data.batches.packed_frames import PackedFrames
from nequip_like.data.fields import Graph
from nequip_like.data.graph import arrays_of, fill_missing_labels, graphs_of
from nequip_like.data.io.given import Index
from nequip_like.data.io.readers import Source, read
from nequip_like.data.io.reading import Reading
from nequip_like.data.neighbors import add_neighbors
from nequip_like.data.prepared.frames import PreparedFrames, list_keys
from nequip_like.data.prepared.sets import check_cutoff
from nequip_like.data.species import atom_types, checked_species, explain_unknown_species, type_table
from nequip_like.data.tables.frame_table import FrameTable, tabulate
from nequip_like.errors import DataError
from nequip_like.summaries import Summarized

COLLISION = 0.1  # Angstrom; even two protons repel each other with 144 eV there


class GraphDataset(Summarized, Dataset[Graph]):
    """Frames ready to be batched: with atom types, neighbour lists, and the same labels in each.

    Frames of a prepared set stay in its file, and are read when they are asked for.

    Args:
        frames: Graphs of single structures, without edges; or what was read from files, which knows its origins,
            units and notes.
        cutoff: Cutoff radius of the neighbour lists, Angstrom.
        type_names: Chemical symbols; the position of a symbol is its atom type.
        origins: File and frame that each graph comes from, for messages; a reading has its own.
        name: Name of the data set, for messages and tables.
        keys: Hash of each structure (frames, 2), where they are known already.
        closest: Atoms that are closer are refused, Angstrom; 0 lets all through, to look at what is wrong with them.

    Attributes:
        labels: ``{label: number of frames that have it}``, only labels that some frame has.
        units: Units that the labels were read in, for tables.
        read_from: ``{label: names in the files}``, for tables.
        notes: Remarks of the reader, for tables.
        annotations: What each frame holds beside its structure and labels.
        repaired: How many frames a file of repairs left out or changed, for tables.
        numbers: Position of each frame in what it was chosen from (frames,); None where nothing was chosen.

    Raises:
        ConfigError: If a type name is no chemical symbol, or the cutoff is not positive.
        DataError: If there are no frames, a frame has a species without a type, or two atoms collide.

    Example:
        A label that a frame lacks is NaN there, and the order of the names is that of the types:

        >>> from ase import Atoms
        >>> from nequip_like.data.io.structures import graph_from_atoms
        >>> water = graph_from_atoms(Atoms("OH2", [[0, 0, 0], [0, 0.76, 0.59], [0, -0.76, 0.59]]))
        >>> dataset = GraphDataset([{**water, "total_energy": torch.tensor([[-14.2]])}, water], 3.0, ["H", "O"])
        >>> dataset.labels, dataset[1]["total_energy"].item(), dataset[0]["atom_types"].tolist()
        ({'total_energy': 1}, nan, [1, 0, 0])
    """

    _packed: PackedFrames | None = None

    def __init__(
        self,
        frames: Sequence[Graph] | Reading,
        cutoff: float,
        type_names: Sequence[str],
        *,
        origins: Sequence[str] | None = None,
        name: str = "data",
        keys: np.ndarray | None = None,
        closest: float = COLLISION,
    ) -> None:
        if isinstance(frames, Reading):
            reading = frames
        else:
            origins = [f"{name} frame {i}" for i in range(len(frames))] if origins is None else origins
            reading = Reading.of(fill_missing_labels(frames), origins)
        if not reading.frames:
            raise DataError(f"the data set '{name}' has no frames", "give a file with structures")
        self.cutoff = float(cutoff)
        self.type_names = checked_species(type_names)
        self.name = name
        self.units = reading.units
        self.read_from = reading.read_from
        self.notes = list(reading.notes)
        self.annotations = reading.annotations
        self.numbers = reading.numbers
        self.repaired = ""
        self._keys = keys
        self._origins = reading.origins
        if len(self._origins) != len(reading.frames):
            raise DataError(
                f"{len(reading.frames)} frames but {len(self._origins)} origins", "give one origin per frame"
            )
        self.frames: Sequence[Graph] = self._complete(reading.frames, closest)
        self.labels = self.table.count_labels()

    def _complete(self, frames: Sequence[Graph], closest: float) -> Sequence[Graph]:
        """The frames with their types, index and neighbours."""
        types = type_table(self.type_names)
        if isinstance(frames, PreparedFrames):
            check_cutoff(frames, self.cutoff)
            table = frames.table
            unknown = types.numpy()[table.number] < 0
            if unknown.any():
                first = int(table.frame_of[int(unknown.argmax())])
                raise explain_unknown_species(frames[first], types, self._origins[first], self.type_names)
            return frames.with_types(types)
        completed = []
        for i, frame in enumerate(frames):
            own_types = atom_types(frame, types, self._origins[i], self.type_names)
            typed = {**frame, fields.ATOM_TYPES: own_types, fields.FRAME_INDEX: torch.tensor([i])}
            completed.append(add_neighbors(typed, self.cutoff, origin=self._origins[i], closest=closest))
        return completed

    @cached_property
    def table(self) -> FrameTable:
        """What statistics ask of each frame."""
        return tabulate(self.frames)

    @property
    def keys(self) -> np.ndarray:
        """Hash of each structure (frames, 2), as :func:`~nequip_like.data.prepared.frames.list_keys` makes it.

        It is made when first asked for.
        """
        if self._keys is None:
            self._keys = list_keys(self.frames)
        return self._keys

    def __getstate__(self) -> dict[str, Any]:
        """Frames as arrays: torch would send each of the many small tensors to another process as an open file."""
        if isinstance(self.frames, PreparedFrames):
            return self.__dict__
        return {**self.__dict__, "frames": arrays_of(self.frames), "_packed": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        frames = state["frames"]
        self.__dict__.update(state, frames=frames if isinstance(frames, PreparedFrames) else graphs_of(frames))

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frames)

    def __getitem__(self, index: int) -> Graph:
        """One frame; a new dictionary with shared tensors."""
        return dict(self.frames[index])

    def __getitems__(self, indices: Sequence[int]) -> list[Graph]:
        """Frames of a batch, which :func:`nequip_like.data.graph.collate` joins; torch's loaders ask for them so."""
        if isinstance(self.frames, PreparedFrames):
            return self.frames.read_batch(indices)
        return [dict(self.frames[i]) for i in indices]

    def pack_frames(self, per_batch: float) -> PackedFrames | None:
        """The frames in a form of which small batches are joined quickly; they are packed when first asked for.

        Args:
            per_batch: How many of them a batch has, on average.

        Returns:
            None where that would not help, or cannot be done: see
            :meth:`nequip_like.data.batches.packed_frames.PackedFrames.of`.
        """
        if self._packed is None or self._packed.frames is not self.frames:
            self._packed = PackedFrames.of(self.frames, per_batch)
        return self._packed

    def origin(self, index: int) -> str:
        """File and frame that a graph comes from, such as ``train.xyz frame 12``.

        Args:
            index: Position in the data set, which is also the graph's ``frame_index``.
        """
        return self._origins[index]

    def summary(self) -> dict[str, Any]:
        """Name, size, labels, and what model it was made for."""
        return {
            "name": self.name,
            "frames": len(self),
            "atoms": int(self.table.atoms.sum()),
            "labels": self.labels,
            "species": " ".join(self.type_names),
            "cutoff": f"{self.cutoff:g} Å",
        }


def load_dataset(
    path: Source,
    type_names: Sequence[str],
    cutoff: float,
    key_mapping: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    *,
    index: Index = ":",
    name: str | None = None,
    trust_pickle: bool = False,
) -> GraphDataset:
    """Read files or structures into a data set for a given model.

    Args:
        path: File, glob pattern, or several of these; ``Atoms`` or graphs, one or many.
        type_names: The model's type names.
        cutoff: The model's cutoff radius, Angstrom.
        key_mapping: ``{name in the file: label}``.
        units: ``{"energy": ..., "length": ..., "forces": ...}``, see :class:`nequip_like.data.labels.units.Units`.
        index: Which frames of each file, or of the structures, as ASE writes it.
        name: Name of the data set; by default the stem of its first file, or ``structures``.
        trust_pickle: Read files of pickles, too.

    Raises:
        ConfigError: As :func:`nequip_like.data.io.readers.read`.
        DataError: As :func:`nequip_like.data.io.readers.read` and :class:`GraphDataset`.

    Example:
        >>> from ase import Atoms
        >>> load_dataset([Atoms("H2", [[0, 0, 0], [0, 0, 0.74]])], ["H"], cutoff=2.0)
        GraphDataset(name=structures, frames=1, atoms=2, labels={}, species=H, cutoff=2 Å)
    """
    reading = read(path, index=index, key_mapping=key_mapping, units=units, trust_pickle=trust_pickle)
    name = name or (reading.files[0].stem if reading.files else "structures")
    return GraphDataset(reading, cutoff, type_names, name=name)

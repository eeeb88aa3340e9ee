"""Graphs and batches of graphs: joining them, taking them apart, and checking them against the table of fields."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.errors import DataError
from nequip_like.summaries import Summarized


class Graphs(Summarized, list[Graph]):
    """A list of structures that does not print its tensors."""

    def summary(self) -> dict[str, Any]:
        """Number of structures and atoms, and the fields of the first."""
        atoms = sum(int(graph[fields.NUM_ATOMS].sum()) for graph in self)
        return {"graphs": len(self), "atoms": atoms, "fields": " ".join(self[0]) if self else "none"}


def num_graphs(graph: Graph) -> int:
    """Number of structures in a graph or batch."""
    return int(graph[fields.NUM_ATOMS].shape[0])


def batch_index(graph: Graph) -> torch.Tensor:
    """Graph index of each atom, shape (atoms,). A single structure need not carry the ``batch`` field."""
    if fields.BATCH in graph:
        return graph[fields.BATCH]
    return torch.zeros(len(graph[fields.POSITIONS]), dtype=torch.int64, device=graph[fields.POSITIONS].device)


def arrays_of(graphs: Sequence[Graph]) -> list[dict[str, np.ndarray]]:
    """Graphs on the CPU as they are sent to another process: NumPy's arrays go by value."""
    return [{key: value.numpy() for key, value in graph.items()} for graph in graphs]


def graphs_of(arrays: Sequence[dict[str, np.ndarray]]) -> list[Graph]:
    """The graphs that :func:`arrays_of` was given."""
    return [{key: torch.from_numpy(value) for key, value in graph.items()} for graph in arrays]


def collate(graphs: Sequence[Graph]) -> Graph:
    """Join structures (or batches) into one batch.

    Rows of each field are concatenated along the field's owner; atom indices in ``edge_index`` are offset.

    Args:
        graphs: One or more graphs that have the same keys.

    Returns:
        One graph that holds all structures, in order, with ``batch`` and ``num_atoms``.

    Raises:
        DataError: If ``graphs`` is empty, if keys differ between graphs, or if a key is not in the table of fields.

    Example:
        Atom indices of the second molecule begin behind the first; a bond of two atoms is two edges.

        >>> from ase import Atoms
        >>> from nequip_like.data.io.structures import graph_from_atoms
        >>> from nequip_like.data.neighbors import add_neighbors
        >>> frames = [Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), Atoms("CO", [[0, 0, 0], [0, 0, 1.13]])]
        >>> batch = collate([add_neighbors(graph_from_atoms(atoms), 2.0) for atoms in frames])
        >>> batch["edge_index"].tolist(), batch["batch"].tolist(), batch["num_atoms"].tolist()
        ([[0, 1, 2, 3], [1, 0, 3, 2]], [0, 0, 1, 1], [2, 2])
    """
    if not graphs:
        raise DataError("cannot make a batch of no structures")
    if len(graphs) == 1 and fields.BATCH in graphs[0]:
        return dict(graphs[0])  # joined before
    names = graphs[0].keys()
    for i, graph in enumerate(graphs):
        # Nearly always the keys are the same, which takes no new sets to see.
        if graph.keys() != names and (difference := (names ^ graph.keys()) - {fields.BATCH}):
            raise DataError(
                f"structures 0 and {i} of a batch have different fields: {', '.join(sorted(difference))}",
                "a missing label is NaN in its frame, never an absent key",
            )
    batch: Graph = {}
    for key in sorted(names - {fields.BATCH}):
        fields.field(key)
        parts = [graph[key] for graph in graphs]
        if key == fields.EDGE_INDEX:
            offsets = accumulate((len(graph[fields.POSITIONS]) for graph in graphs[:-1]), initial=0)
            parts = [part + offset if offset else part for part, offset in zip(parts, offsets, strict=True)]
            batch[key] = torch.cat(parts, dim=1)
        else:
            batch[key] = torch.cat(parts)
    counts = batch[fields.NUM_ATOMS]
    # By numpy, which takes a tenth of torch's time for a few structures.
    batch[fields.BATCH] = torch.from_numpy(np.arange(len(counts)).repeat(counts.cpu().numpy())).to(counts.device)
    return batch


def split(batch: Graph) -> list[Graph]:
    """Take a batch apart into its structures: the inverse of :func:`collate`.

    Example:
        >>> energies = torch.tensor([[-1.0], [-7.0]])
        >>> batch = {"pos": torch.zeros(3, 3), "num_atoms": torch.tensor([1, 2]), "total_energy": energies}
        >>> [(len(graph["pos"]), graph["total_energy"].item()) for graph in split(batch)]
        [(1, -1.0), (2, -7.0)]
    """
    counts = batch[fields.NUM_ATOMS].tolist()
    starts = [0]
    for count in counts:
        starts.append(starts[-1] + count)
    owner_of_edge = batch_index(batch)[batch[fields.EDGE_INDEX][0]] if fields.EDGE_INDEX in batch else None
    graphs = []
    for i, (start, stop) in enumerate(pairwise(starts)):
        graph: Graph = {}
        for key, value in batch.items():
            owner = fields.field(key).owner
            if key == fields.EDGE_INDEX:
                graph[key] = value[:, owner_of_edge == i] - start
            elif owner == "edge":
                graph[key] = value[owner_of_edge == i]
            elif owner == "node":
                graph[key] = value[start:stop]
            else:
                graph[key] = value[i : i + 1]
        if fields.BATCH in graph:
            graph[fields.BATCH] = torch.zeros_like(graph[fields.BATCH])
        graphs.append(graph)
    return graphs


def edge_vectors(graph: Graph) -> torch.Tensor:
    """Vectors from centre to neighbour, ``pos_j - pos_i + S_ij @ cell``, shape (edges, 3), Angstrom.

    Example:
        From the centre to the neighbour's image in the next cell: 0 - 0.5 + 1 * 3 along x.

        >>> graph = {
        ...     "pos": torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        ...     "cell": 3.0 * torch.eye(3).unsqueeze(0),
        ...     "edge_index": torch.tensor([[0], [1]]),
        ...     "edge_cell_shift": torch.tensor([[1.0, 0.0, 0.0]]),
        ... }
        >>> edge_vectors(graph).tolist()
        [[2.5, 0.0, 0.0]]
    """
    centre, neighbour = graph[fields.EDGE_INDEX]
    positions = graph[fields.POSITIONS]
    vectors = positions.index_select(0, neighbour) - positions.index_select(0, centre)
    if fields.EDGE_CELL_SHIFT not in graph:
        return vectors
    shifts, cells = graph[fields.EDGE_CELL_SHIFT], graph[fields.CELL]
    if len(cells) == 1:  # no copy of the cell for each edge
        return vectors + shifts @ cells[0]
    return vectors + torch.einsum("ek,ekx->ex", shifts, cells[batch_index(graph)[centre]])


def volumes(graph: Graph) -> torch.Tensor:
    """Cell volumes, shape (graphs,), Angstrom^3; zero for structures without a cell.

    Example:
        >>> volumes({"cell": torch.stack([2.0 * torch.eye(3), torch.zeros(3, 3)])}).tolist()
        [8.0, 0.0]
    """
    return torch.linalg.det(graph[fields.CELL]).abs()


def to_device(graph: Graph, device: torch.device | str) -> Graph:
    """Copy a graph to a device."""
    return {key: value.to(device) for key, value in graph.items()}


_OPTIONAL = (*fields.LABELS, *fields.WEIGHTS)


def fill_missing_labels(frames: Sequence[Graph]) -> list[Graph]:
    """Give all frames the same keys: a label that one frame has is NaN in those that lack it, a weight is 1.

    Args:
        frames: Graphs of single structures.

    Returns:
        New graphs (the tensors are shared) that all hold every label and weight that any of them holds.

    Example:
        A label that one frame has is NaN in the others, and a weight is 1:

        >>> labelled = {"pos": torch.zeros(1, 3), "forces": torch.zeros(1, 3), "frame_weight": torch.tensor([[2.0]])}
        >>> _, bare = fill_missing_labels([labelled, {"pos": torch.zeros(1, 3)}])
        >>> bare["forces"].tolist(), bare["frame_weight"].tolist()
        ([[nan, nan, nan]], [[1.0]])
    """
    names = find_optional_fields(frames)
    return [add_missing_labels(frame, names) for frame in frames]


def find_optional_fields(frames: Sequence[Graph]) -> list[str]:
    """The labels and weights that any of some frames holds."""
    return [name for name in _OPTIONAL if any(name in frame for frame in frames)]


def add_missing_labels(frame: Graph, names: Sequence[str]) -> Graph:
    """A frame with each of some labels and weights: a label that it lacks is NaN, a weight 1."""
    graph = dict(frame)
    for name in names:
        if name not in graph:
            row = fields.field(name)
            rows = len(graph[fields.POSITIONS]) if row.owner == "node" else 1
            value = 1.0 if name in fields.WEIGHTS else torch.nan
            graph[name] = torch.full((rows, *row.shape), value, dtype=row.dtype)
    return graph


def remove_labels(frame: Graph) -> Graph:
    """A frame whose labels are missing, all of them; a new dictionary with shared tensors.

    Example:
        >>> remove_labels({"pos": torch.zeros(1, 3), "total_energy": torch.zeros(1, 1)})["total_energy"].tolist()
        [[nan]]
    """
    return {
        name: torch.full_like(value, torch.nan) if name in fields.LABELS else value for name, value in frame.items()
    }


def has_label(frame: Graph, name: str) -> bool:
    """Whether a frame holds at least one value of a label that is not NaN."""
    return name in frame and not bool(torch.isnan(frame[name]).all())


_DECIMALS = 5  # positions that agree to 1e-5 Angstrom are the same frame


def frame_key(frame: Graph) -> str:
    """Hash of a structure: species, positions, and its cell as far as it is periodic, to 1e-5 Angstrom.

    Example:
        Positions that agree to 1e-5 Angstrom are the same structure; a rotated one is another:

        >>> from ase import Atoms
        >>> from nequip_like.data.io.structures import graph_from_atoms
        >>> ends = ([0, 0, 1], [0, 1e-6, 1], [0, 1, 0])
        >>> keys = [frame_key(graph_from_atoms(Atoms("H2", [[0, 0, 0], end]))) for end in ends]
        >>> keys[0] == keys[1], keys[0] == keys[2]
        (True, False)
    """
    pbc = frame[fields.PBC].numpy()
    cell = np.where(pbc[..., None], frame[fields.CELL].numpy(), 0.0)
    digest = hashlib.sha256()
    digest.update(frame[fields.ATOMIC_NUMBERS].numpy().tobytes())
    digest.update(pbc.tobytes())
    for lengths in (frame[fields.POSITIONS].numpy(), cell):
        digest.update(np.rint(lengths * 10**_DECIMALS).astype(np.int64).tobytes())
    return digest.hexdigest()[:32]  # 128 bits tell any number of frames apart

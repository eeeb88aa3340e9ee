"""What descriptors make of a frame, kept while a potential is trained: positions of training frames do not change.

Frames are recognised by their content, not by an index, so a frame that was moved is another frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import edge_vectors, split

# The six entries of a symmetric strain, and the nine entries of the matrix that they make.
_ROWS, _COLUMNS = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)
_FULL = (0, 3, 4, 3, 1, 5, 4, 5, 2)
_DENSE = 1.5  # a matrix may have so many times the entries of its blocks before blocks are kept instead


class PairBlocks(NamedTuple):
    """Derivatives of the features of each atom with respect to the position of each atom that it sees.

    Attributes:
        centre: Atom whose features they are, shape (pairs,).
        moved_atom: Atom that is moved, shape (pairs,).
        blocks: Shape (pairs, features, 3).
        strain: Derivatives with respect to the six entries of a strain, shape (atoms, features, 6).
    """

    centre: Tensor
    moved_atom: Tensor
    blocks: Tensor
    strain: Tensor


class KnownFrame(NamedTuple):
    """A frame as the networks need it.

    Attributes:
        features: Normalised, shape (atoms, features).
        has_neighbours: Whether an atom has any, shape (atoms,).
        jacobian: Derivatives of all features with respect to all positions and the six entries of a strain: one matrix
            (atoms * features, 3 * atoms + 6), or blocks of pairs where most of it would be zeros.
    """

    features: Tensor
    has_neighbours: Tensor
    jacobian: Tensor | PairBlocks | None

    @property
    def bytes(self) -> int:
        """Size in memory."""
        jacobian: Sequence[Tensor] = ()
        if self.jacobian is not None:
            jacobian = (self.jacobian,) if isinstance(self.jacobian, Tensor) else self.jacobian
        return sum(part.numel() * part.element_size() for part in (self.features, self.has_neighbours, *jacobian))


def make_known_frame(
    features: Tensor, has_neighbours: Tensor, edge_jacobian: Tensor | None, edge_index: Tensor, vectors: Tensor
) -> KnownFrame:
    """Gather what is kept of a frame.

    Args:
        features: Normalised, shape (atoms, features); their type is that of what is kept.
        has_neighbours: Shape (atoms,).
        edge_jacobian: Derivatives of the features of each edge's centre with respect to the edge, shape
            (edges, features, 3); None if they are not needed.
        edge_index: Centre and neighbour of each edge, shape (2, edges).
        vectors: The edges, shape (edges, 3).
    """
    if edge_jacobian is None:
        return KnownFrame(features, has_neighbours, None)
    atoms, size = features.shape
    centre, neighbour = edge_index
    places, inverse = torch.unique(centre * atoms + neighbour, return_inverse=True)
    diagonal = torch.arange(atoms) * (atoms + 1)  # an atom that moves changes all of its own edges
    pairs = torch.unique(torch.cat([places, diagonal]))
    blocks = edge_jacobian.new_zeros(len(pairs), size, 3)
    blocks.index_add_(0, torch.searchsorted(pairs, places)[inverse], edge_jacobian)
    blocks.index_add_(0, torch.searchsorted(pairs, diagonal)[centre], -edge_jacobian)
    # A strain e moves the end of an edge by e r; its derivative is symmetric in the sum over all.
    product, transposed = (
        edge_jacobian[:, :, row] * vectors[:, column].unsqueeze(1)
        for row, column in ((_ROWS, _COLUMNS), (_COLUMNS, _ROWS))
    )
    symmetric = 0.5 * (product + transposed)
    strain = edge_jacobian.new_zeros(atoms, size, 6).index_add_(0, centre, symmetric)
    centres, moved_atoms = pairs // atoms, pairs % atoms
    dtype = features.dtype
    if atoms * atoms > _DENSE * len(pairs):
        return KnownFrame(
            features, has_neighbours, PairBlocks(centres, moved_atoms, blocks.to(dtype), strain.to(dtype))
        )
    matrix = features.new_zeros(atoms, size, 3 * atoms + 6)
    matrix.view(atoms, size, -1)[:, :, 3 * atoms :] = strain.to(dtype)
    positions = matrix[:, :, : 3 * atoms].unflatten(2, (atoms, 3))
    positions[centres, :, moved_atoms] = blocks.to(dtype)
    return KnownFrame(features, has_neighbours, matrix.view(atoms * size, -1))


class _Contraction(torch.autograd.Function):
    """Gradients times Jacobians of all frames, as one node of autograd's graph."""

    @staticmethod
    def forward(ctx: Any, gradients: Tensor, jacobians: Sequence[Tensor | PairBlocks], counts: list[int]) -> Any:
        ctx.jacobians, ctx.counts, ctx.size = jacobians, counts, gradients.shape[1]
        forces, strains = [], []
        for part, jacobian in zip(gradients.detach().split(counts), jacobians, strict=True):
            moves, strain = _multiply(part, jacobian)
            forces.append(moves)
            strains.append(strain)
        return -torch.cat(forces), torch.stack(strains)

    @staticmethod
    def backward(ctx: Any, *along: Any) -> Any:
        forces, strains = along
        parts = [
            _multiply_back(force, strain, jacobian, ctx.size)
            for force, strain, jacobian in zip((-forces).split(ctx.counts), strains, ctx.jacobians, strict=True)
        ]
        return torch.cat(parts), None, None


def _multiply(gradient: Tensor, jacobian: Tensor | PairBlocks) -> tuple[Tensor, Tensor]:
    """dE/dpositions (atoms, 3) and dE/dstrain (6,) from dE/dfeatures (atoms, features)."""
    atoms = len(gradient)
    if isinstance(jacobian, Tensor):
        product = gradient.reshape(-1) @ jacobian
        return product[: 3 * atoms].view(atoms, 3), product[3 * atoms :]
    of_pairs = torch.bmm(gradient[jacobian.centre].unsqueeze(1), jacobian.blocks).squeeze(1)
    moves = gradient.new_zeros(atoms, 3).index_add_(0, jacobian.moved_atom, of_pairs)
    return moves, gradient.reshape(-1) @ jacobian.strain.view(-1, 6)


def _multiply_back(force: Tensor, strain: Tensor, jacobian: Tensor | PairBlocks, size: int) -> Tensor:
    """The transpose of :func:`_multiply`, shape (atoms, features)."""
    if isinstance(jacobian, Tensor):
        return (jacobian @ torch.cat([force.reshape(-1), strain])).view(len(force), size)
    of_pairs = torch.bmm(jacobian.blocks, force[jacobian.moved_atom].unsqueeze(2)).squeeze(2)
    return (jacobian.strain @ strain).index_add_(0, jacobian.centre, of_pairs)


def contract(gradients: Tensor, jacobians: Sequence[Tensor | PairBlocks | None]) -> tuple[Tensor, Tensor]:
    """Forces and derivatives with respect to strain, of derivatives of energies with respect to features.

    Args:
        gradients: Of the atoms of all frames, shape (atoms, features).
        jacobians: Of each frame, in order.

    Returns:
        Forces (atoms, 3), eV/Angstrom, and symmetric derivatives with respect to strain (frames, 3, 3), eV.
    """
    available = [jacobian for jacobian in jacobians if jacobian is not None]
    counts = [
        len(jacobian.strain) if isinstance(jacobian, PairBlocks) else (jacobian.shape[1] - 6) // 3
        for jacobian in available
    ]
    forces, strains = _Contraction.apply(gradients, available, counts)
    return forces, strains[:, _FULL].view(-1, 3, 3)


Know = Callable[[Mapping[str, Tensor], Tensor, bool], KnownFrame]


class FrameStore:
    """Known frames by their content, up to a number of bytes; what comes later is made anew each time.

    Nothing is thrown out for a new frame: epochs come in another order each time, so that would only make all of them
    anew. A copy of a model, such as its average, shares the store; what is sent to another process begins an empty one.

    Args:
        limit: Bytes that may be kept.

    Attributes:
        is_used: Whether frames are looked up: from the first step of a training on.
        bytes: Bytes that are kept.
        num_made: How often a frame was made.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.is_used = False
        self.bytes = 0
        self.num_made = 0
        self._frames: dict[bytes, KnownFrame] = {}

    def __len__(self) -> int:
        """Number of frames that are kept."""
        return len(self._frames)

    def __deepcopy__(self, memo: dict[int, Any]) -> FrameStore:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit, "is_used": False, "bytes": 0, "num_made": 0, "_frames": {}}

    def find(self, graph: Graph, derivatives: bool, know: Know) -> list[KnownFrame]:
        """What is known of each structure of a batch.

        Args:
            graph: The batch, on the CPU.
            derivatives: Whether Jacobians are needed.
            know: Makes what is not known yet, of a structure and its edge vectors.
        """
        keys = list_content_keys(graph)
        frames = [self._frames.get(key) for key in keys]
        missing = [i for i, frame in enumerate(frames) if frame is None or (derivatives and frame.jacobian is None)]
        if missing:
            structures = split({name: graph[name] for name in _NEEDED if name in graph})
            for i in missing:
                frame = know(structures[i], edge_vectors(structures[i]), derivatives)
                self._keep(keys[i], frame)
                frames[i] = frame
        return [frame for frame in frames if frame is not None]

    def _keep(self, key: bytes, frame: KnownFrame) -> None:
        self.num_made += 1
        replaced = self._frames.get(key)
        grown = self.bytes + frame.bytes - (0 if replaced is None else replaced.bytes)
        if grown <= self.limit:
            self._frames[key] = frame
            self.bytes = grown


_NEEDED = (
    fields.POSITIONS,
    fields.CELL,
    fields.ATOM_TYPES,
    fields.NUM_ATOMS,
    fields.BATCH,
    fields.EDGE_INDEX,
    fields.EDGE_CELL_SHIFT,
)


def list_content_keys(graph: Graph) -> list[bytes]:
    """A hash of each structure of a batch on the CPU: types, positions, cell and directions of periodicity.

    Neighbours are not part of it, because they follow from these and the model's cutoff.
    """
    counts = graph[fields.NUM_ATOMS].tolist()
    positions, types = graph[fields.POSITIONS].detach().numpy(), graph[fields.ATOM_TYPES].numpy()
    frames = [graph[name].numpy() for name in (fields.CELL, fields.PBC) if name in graph]
    keys = []
    for i, (stop, count) in enumerate(zip(accumulate(counts), counts, strict=True)):
        digest = hashlib.blake2b(types[stop - count : stop].tobytes(), digest_size=16)
        digest.update(positions[stop - count : stop].tobytes())
        for values in frames:
            digest.update(values[i].tobytes())
        keys.append(digest.digest())
    return keys

"""Words for a batch that did not fit into memory: what was in it, its largest frame, and what to change."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable

import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import batch_index
from nequip_like.errors import OutOfMemoryError, first_line

# Of torch's allocators on CPUs, GPUs and Apple's chips, of C++ and of loader processes that the system has ended.
_WORDS = re.compile(
    r"can't allocate memory|cannot allocate memory|out of memory|bad_alloc|worker \(pid.*killed by signal: Killed",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was no more memory.

    Example:
        >>> is_out_of_memory(RuntimeError("CUDA error: out of memory")), is_out_of_memory(RuntimeError("bad shape"))
        (True, False)
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _WORDS.search(str(error)) is not None


def explain_out_of_memory(
    error: BaseException, doing: str, batch: Graph | None, origin: Callable[[int], str], size: str, advice: str
) -> OutOfMemoryError:
    """The package's own error for one that :func:`is_out_of_memory`.

    Args:
        error: The error.
        doing: What was done, such as "a training step".
        batch: The batch; None if there was none yet.
        origin: File and frame of a ``frame_index``.
        size: The setting of the batch size as it is now, such as "data.batch_size (5 frames)".
        advice: What else to change.
    """
    cause = first_line(error)
    if batch is None:
        return OutOfMemoryError(f"{doing} ran out of memory ({cause})", f"give a smaller {size}, or {advice}")
    frames = batch[fields.NUM_ATOMS].flatten().cpu()
    edges = torch.zeros(len(frames), dtype=torch.int64)
    if fields.EDGE_INDEX in batch:
        edges = torch.bincount(batch_index(batch)[batch[fields.EDGE_INDEX][0]].cpu(), minlength=len(frames))
    # By edges, which most of the memory is needed for.
    largest = max(range(len(frames)), key=lambda i: (int(edges[i]), int(frames[i])))
    index = int(batch[fields.FRAME_INDEX].flatten()[largest]) if fields.FRAME_INDEX in batch else largest
    alone = len(frames) == 1
    sizes = f"{int(frames.sum())} atoms, {int(edges.sum())} edges"
    name = origin(index)
    of_largest = f"of {name}" if alone else f"of {len(frames)} frames"
    message = f"{doing} ran out of memory with a batch {of_largest} ({sizes}; {cause})"
    if alone:
        # A smaller batch would be the same one.
        left_out = f"leave such frames out, data.filters={{max_atoms: {int(frames[0]) - 1}}}"
        return OutOfMemoryError(message, f"{left_out}, or {advice}")
    message += f"; the largest is {name} ({int(frames[largest])} atoms, {int(edges[largest])} edges)"
    return OutOfMemoryError(message, f"give a smaller {size}, or {advice}")

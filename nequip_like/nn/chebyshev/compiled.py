"""The descriptor by compiled code on CPUs: features, and from gradients of features those of edges."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from importlib.resources import files
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nequip_like.errors import ModelError
from nequip_like.nn.native.addresses import list_addresses, prepare_for_c
from nequip_like.nn.native.compiler import compile_or_warn

_FILE = "environments.c"


class DescriptorSizes(ctypes.Structure):
    """The structure ``Sizes`` of environments.c, field by field.

    Attributes:
        radial_order: Highest order of radial features.
        angular_order: Highest order of angular features.
        has_spins: Whether there is a second half.
        radial_cutoff: Angstrom.
        angular_cutoff: Angstrom.
        min_cutoff: Angstrom; 0 leaves nobody out.
    """

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("radial_order", "angular_order", "has_spins")),
        *((name, ctypes.c_double) for name in ("radial_cutoff", "angular_cutoff", "min_cutoff")),
    ]


class SortedEdges(NamedTuple):
    """What C reads of edges that are sorted by their centre.

    Attributes:
        starts: First edge of each atom, and the number of edges, shape (atoms + 1,).
        types: Type of each edge's neighbour, shape (edges,).
        spins: Of each type.
    """

    starts: Tensor
    types: Tensor
    spins: Tensor


def sort_out(centre: Tensor, types: Tensor, spins: Tensor, atoms: int) -> SortedEdges | None:
    """The edges as C reads them; None if they are not sorted by their centre, or not on the CPU.

    Args:
        centre: Atom that each edge begins at.
        types: Type of the atom that it ends at.
        spins: Of each type.
        atoms: Number of atoms.
    """
    if not centre.is_cpu or bool((centre[1:] < centre[:-1]).any()):
        return None
    starts = torch.searchsorted(centre, torch.arange(atoms + 1))
    return SortedEdges(starts, prepare_for_c(types, torch.int64), prepare_for_c(spins, torch.float64))


@functools.cache
def load_descriptor_code() -> ctypes.CDLL | None:
    """The compiled code, tried once; None without a compiler, or where it fails, which is warned of."""
    source = files(__package__).joinpath(_FILE).read_text(encoding="utf-8")
    return compile_or_warn([source], otherwise="descriptors are made by torch operations, which are slower")


class CompiledFeatures(torch.autograd.Function):
    """Features (atoms, size) of vectors (edges, 3), by C; the derivative is C as well, and a second one is torch's."""

    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        edges: SortedEdges,
        sizes: DescriptorSizes,
        size: int,
        by_torch: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Features.

        Args:
            ctx: Autograd's.
            vectors: From centre to neighbour, float64.
            edges: Where they belong.
            sizes: Of the descriptor.
            size: Number of features.
            by_torch: The same by torch, for derivatives that are to be differentiated.
        """
        ctx.save_for_backward(vectors)
        ctx.edges, ctx.sizes, ctx.by_torch = edges, sizes, by_torch
        features = vectors.new_empty(len(edges.starts) - 1, size)
        _call("describe_environments", sizes, edges, prepare_for_c(vectors, torch.float64), features)
        return features

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """Gradient with respect to the vectors."""
        (vectors,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # it will be differentiated
            with torch.enable_grad():
                features = ctx.by_torch(vectors)
                (pulls,) = torch.autograd.grad(features, vectors, gradients[0], create_graph=True)
        else:
            pulls = torch.empty_like(vectors, memory_format=torch.contiguous_format)
            contiguous = [prepare_for_c(part, torch.float64) for part in (vectors, gradients[0])]
            _call("pull_back", ctx.sizes, ctx.edges, *contiguous, pulls)
        return pulls, None, None, None, None


def _call(name: str, sizes: DescriptorSizes, edges: SortedEdges, vectors: Tensor, *arrays: Tensor) -> None:
    library = load_descriptor_code()
    if library is None:
        raise ModelError("the compiled descriptor is not there", "write model.kernel=reference")
    function = getattr(library, name)
    function.restype = ctypes.c_int64
    tensors = (edges.starts, vectors, edges.types, edges.spins, *arrays)
    addresses = [ctypes.c_void_p(address) for address in list_addresses(tensors)]
    atoms, threads = ctypes.c_int64(len(edges.starts) - 1), ctypes.c_int64(torch.get_num_threads())
    if function(ctypes.byref(sizes), atoms, *addresses, threads):
        raise MemoryError("no memory for the neighbours of an atom")

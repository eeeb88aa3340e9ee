"""Angular descriptors by their definition, a sum over triplets: what the faster form is held against."""

from __future__ import annotations

import torch
from torch import Tensor

from nequip_like.nn.chebyshev.polynomials import chebyshev_polynomials, cosine_cutoff
from nequip_like.nn.scatter import sum_rows


def list_triplets(centre: Tensor, atoms: int) -> tuple[Tensor, Tensor]:
    """Each pair of different edges with the same centre, once.

    Args:
        centre: Atom that each edge begins at, in any order.
        atoms: Number of atoms.

    Returns:
        First and second edge of each pair, shape (triplets,) each.

    Example:
        Three neighbours of one atom are three pairs, two of another are one:

        >>> first, second = list_triplets(torch.tensor([0, 1, 0, 0, 1]), atoms=2)
        >>> list(zip(first.tolist(), second.tolist()))
        [(0, 2), (0, 3), (2, 3), (1, 4)]
    """
    order = torch.argsort(centre, stable=True)
    counts = torch.bincount(centre, minlength=atoms)
    ends = counts.cumsum(0)[centre[order]]
    # Row-compressed: behind each edge stand its partners, the edges of the same atom that follow it.
    place = torch.arange(len(order), device=centre.device)
    partners = ends - place - 1
    first = place.repeat_interleave(partners)
    starts = partners.cumsum(0) - partners
    step = torch.arange(len(first), device=centre.device) - starts[first]
    return order[first], order[first + 1 + step]


def sum_over_triplets(
    vectors: Tensor, centre: Tensor, atoms: int, order: int, radius: float, weights: Tensor
) -> Tensor:
    """``sum_{j<k} w_j w_k T_n(cos(theta_jik)) f(d_ij) f(d_ik)`` of each atom i, shape (atoms, order + 1).

    Args:
        vectors: From centre to neighbour, shape (edges, 3), float64, Angstrom; none of length zero.
        centre: Atom that each edge begins at.
        atoms: Number of atoms.
        order: Highest order n.
        radius: Cutoff radius, Angstrom.
        weights: Weight of each edge's neighbour, shape (edges,).
    """
    lengths = torch.linalg.vector_norm(vectors, dim=1)
    near = (lengths < radius).nonzero().squeeze(1)
    vectors, centre, weights, lengths = vectors[near], centre[near], weights[near], lengths[near]
    first, second = list_triplets(centre, atoms)
    directions = vectors / lengths.unsqueeze(1)
    factors = weights * cosine_cutoff(lengths, radius)
    cosines = (directions[first] * directions[second]).sum(dim=1)
    terms = chebyshev_polynomials(cosines, order) * (factors[first] * factors[second]).unsqueeze(1)
    return sum_rows(terms, centre[first], atoms)

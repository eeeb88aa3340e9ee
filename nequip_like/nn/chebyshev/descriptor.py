"""The Chebyshev descriptor (Artrith, Urban and Ceder, Physical Review B 96, 014112, 2017).

Of atom i with neighbours j, where ``T_n`` are Chebyshev polynomials and f is the cosine cutoff:

- radial: ``sum_j T_n(2 d_ij / R - 1) f(d_ij; R)``
- angular: ``sum_{j<k} T_n(cos theta_jik) f(d_ij; A) f(d_ik; A)``

and, with more than one species, the same once more with a factor ``s_j`` (radial) or ``s_j s_k`` (angular): a spin that
stands for the neighbour's species. So the number of features does not grow with the number of species.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nequip_like.errors import ConfigError
from nequip_like.nn.chebyshev.compiled import CompiledFeatures, DescriptorSizes, load_descriptor_code, sort_out
from nequip_like.nn.chebyshev.polynomials import (
    chebyshev_in_legendre,
    chebyshev_polynomials,
    chebyshev_slopes,
    cosine_cutoff,
    cosine_cutoff_slope,
)
from nequip_like.nn.scatter import sum_rows
from nequip_like.nn.spherical_harmonics import SphericalHarmonics

LARGEST_ANGULAR_ORDER = 11  # of the harmonics that e3nn has coupling coefficients for


def type_spins(species: int) -> list[int]:
    """Spins of the species, in their order: whole numbers around zero, without zero for an even number of species.

    Example:
        >>> type_spins(2), type_spins(3), type_spins(4)
        ([-1, 1], [-1, 0, 1], [-2, -1, 1, 2])
    """
    half = species // 2
    return [*range(-half, 0), *([0] if species % 2 else []), *range(1, half + 1)]


class Environments(NamedTuple):
    """Edges as the descriptor reads them.

    Attributes:
        vectors: From centre to neighbour, shape (edges, 3), Angstrom, float64.
        centre: Atom that each edge begins at, shape (edges,).
        neighbour_types: Type of the atom that it ends at, shape (edges,).
        atoms: Number of atoms.
    """

    vectors: Tensor
    centre: Tensor
    neighbour_types: Tensor
    atoms: int


class ChebyshevDescriptor(nn.Module):
    """Features of atoms, in the order radial, angular, radial with spins, angular with spins; all in float64.

    The angular sum runs over pairs of neighbours, but is not computed so: ``T_n`` is a sum of Legendre polynomials,
    and by the addition theorem a sum of ``P_l(cos theta_jik)`` over all j and k is the square of one sum over j, of
    spherical harmonics. So the cost grows with the number of neighbours and not with its square. The terms with j = k
    are taken off and the rest is halved.

    Args:
        species: Number of species; their order decides the spins.
        radial_order: Highest n of the radial features.
        radial_cutoff: Their cutoff radius, Angstrom.
        angular_order: Highest n of the angular features.
        angular_cutoff: Their cutoff radius, Angstrom.
        min_cutoff: Neighbours that are not farther than this are left out, Angstrom.
        compiled: Let compiled code make the features on CPUs, where there is a compiler and edges are sorted.

    Raises:
        ConfigError: If the angular order is beyond what there are harmonics for.

    Example:
        Two neighbours at a right angle, T_0 = 1 and T_1 = cos = 0, each with a cutoff function of 1/2:

        >>> descriptor = ChebyshevDescriptor(1, 0, 4.0, 1, 4.0)
        >>> vectors = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]], dtype=torch.float64)
        >>> pair = Environments(vectors, torch.tensor([0, 0]), torch.tensor([0, 0]), atoms=1)
        >>> [round(value, 12) + 0.0 for value in descriptor(pair)[0].tolist()]
        [1.0, 0.25, 0.0]
    """

    spins: Tensor
    mixing: Tensor

    def __init__(
        self,
        species: int,
        radial_order: int,
        radial_cutoff: float,
        angular_order: int,
        angular_cutoff: float,
        min_cutoff: float = 0.0,
        compiled: bool = True,
    ) -> None:
        super().__init__()
        if angular_order > LARGEST_ANGULAR_ORDER:
            raise ConfigError(
                f"angular_order is {angular_order}", f"angular orders up to {LARGEST_ANGULAR_ORDER} are supported"
            )
        self.radial_order, self.radial_cutoff = radial_order, float(radial_cutoff)
        self.angular_order, self.angular_cutoff = angular_order, float(angular_cutoff)
        self.min_cutoff = float(min_cutoff)
        self.harmonics = SphericalHarmonics(angular_order)
        degrees = torch.arange(angular_order + 1)
        # Harmonics are normalised to |Y_l|^2 = 2l + 1, so that P_l(u.v) = Y_l(u).Y_l(v) / (2l + 1).
        per_degree = chebyshev_in_legendre(angular_order) / (2.0 * degrees + 1.0)
        # All of this follows from the arguments, so it is not part of a checkpoint.
        self.register_buffer("mixing", per_degree.repeat_interleave(2 * degrees + 1, dim=1).T, persistent=False)
        self.register_buffer("spins", torch.tensor(type_spins(species), dtype=torch.float64), persistent=False)
        self.has_spins = species > 1
        self.compiled = compiled

    @property
    def size(self) -> int:
        """Number of features of an atom."""
        return (self.radial_order + self.angular_order + 2) * (2 if self.has_spins else 1)

    def forward(self, environments: Environments) -> Tensor:
        """Features, shape (atoms, size)."""
        vectors, centre, types, atoms = environments
        if self.compiled and vectors.is_cpu and load_descriptor_code() is not None:
            edges = sort_out(centre, types, self.spins, atoms)
            if edges is not None:
                by_torch = self._make_by_torch(centre, types, atoms)
                features: Tensor = CompiledFeatures.apply(vectors, edges, self._sizes, self.size, by_torch)
                return features
        return self.describe(environments)

    def _make_by_torch(self, centre: Tensor, types: Tensor, atoms: int) -> Callable[[Tensor], Tensor]:
        return lambda vectors: self.describe(Environments(vectors, centre, types, atoms))

    @property
    def _sizes(self) -> DescriptorSizes:
        cutoffs = (self.radial_cutoff, self.angular_cutoff, self.min_cutoff)
        return DescriptorSizes(self.radial_order, self.angular_order, int(self.has_spins), *cutoffs)

    def describe(self, environments: Environments) -> Tensor:
        """The same by torch operations, on any device; they can be differentiated any number of times."""
        vectors, centre, types, atoms = self._leave_out_closest(environments)
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        near = (lengths < self.angular_cutoff).nonzero().squeeze(1)
        radial = self._expand_lengths(lengths)
        factors, waves = self._expand_directions(vectors[near])
        near_centre = centre[near]
        ones = torch.ones_like(lengths)
        parts = []
        for weights in (ones, self.spins[types]) if self.has_spins else (ones,):
            near_weights = weights[near]
            moments = sum_rows(waves * near_weights.unsqueeze(1), near_centre, atoms)
            alone = sum_rows((near_weights * factors).square(), near_centre, atoms)
            parts.append(sum_rows(radial * weights.unsqueeze(1), centre, atoms))
            parts.append(0.5 * (moments.square() @ self.mixing - alone.unsqueeze(1)))
        return torch.cat(parts, dim=1)

    def differentiate(self, environments: Environments) -> tuple[Tensor, Tensor]:
        """Derivatives of the features of each edge's centre with respect to the edge.

        Returns:
            The features (atoms, size), and ``dG_n(i) / dr_ij`` of each edge ij, shape (edges, size, 3), float64; a
            vector ``r_ij`` enters features of its centre i only.
        """
        kept, places = self._leave_out_closest(environments), None
        vectors, centre, types, atoms = kept
        if len(vectors) < len(environments.vectors):
            places = self._find_kept(environments.vectors)
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        near = (lengths < self.angular_cutoff).nonzero().squeeze(1)
        near_centre = centre[near]
        directions = vectors / lengths.unsqueeze(1)
        radial = self._differentiate_lengths(lengths).unsqueeze(2) * directions.unsqueeze(1)
        factors, waves, factor_slopes, wave_slopes = self._differentiate_directions(lengths[near], directions[near])

        ones = torch.ones_like(lengths)
        jacobian = vectors.new_zeros(len(vectors), self.size, 3)
        first, second = self.radial_order + 1, self.radial_order + self.angular_order + 2
        for part, weights in enumerate((ones, self.spins[types]) if self.has_spins else (ones,)):
            near_weights = weights[near].unsqueeze(1)
            moments = sum_rows(waves * near_weights, near_centre, atoms)
            # Half of the derivative of a square, moment times its slope, for each order.
            mixed = moments[near_centre].unsqueeze(1) * self.mixing.T
            angular = mixed @ wave_slopes - (near_weights * factors.unsqueeze(1) * factor_slopes).unsqueeze(1)
            begin = part * second
            jacobian[:, begin : begin + first] = radial * weights.view(-1, 1, 1)
            jacobian[near, begin + first : begin + second] = angular * near_weights.unsqueeze(2)
        if places is not None:
            jacobian = jacobian.new_zeros(len(environments.vectors), self.size, 3).index_copy(0, places, jacobian)
        return self(environments), jacobian

    def _find_kept(self, vectors: Tensor) -> Tensor:
        return (torch.linalg.vector_norm(vectors, dim=1) > self.min_cutoff).nonzero().squeeze(1)

    def _leave_out_closest(self, environments: Environments) -> Environments:
        if self.min_cutoff == 0.0:
            return environments
        vectors, centre, types, atoms = environments
        kept = self._find_kept(vectors.detach())
        return Environments(vectors[kept], centre[kept], types[kept], atoms)

    def _expand_lengths(self, lengths: Tensor) -> Tensor:
        """Radial functions, shape (edges, radial_order + 1); 0 beyond the cutoff."""
        scaled = 2.0 / self.radial_cutoff * lengths - 1.0
        factors = cosine_cutoff(lengths, self.radial_cutoff)
        # Beyond the cutoff, where a neighbour list with skin reaches, polynomials of high order grow without bound.
        inside = torch.where(lengths < self.radial_cutoff, scaled, torch.ones_like(scaled))
        return chebyshev_polynomials(inside, self.radial_order) * factors.unsqueeze(1)

    def _expand_directions(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Cutoff function (edges,), and times it the harmonics of directions (edges, (angular_order + 1)^2)."""
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        factors = cosine_cutoff(lengths, self.angular_cutoff)
        return factors, self.harmonics(vectors / lengths.unsqueeze(1)) * factors.unsqueeze(1)

    def _differentiate_lengths(self, lengths: Tensor) -> Tensor:
        """Derivatives of radial functions with respect to lengths, shape (edges, radial_order + 1)."""
        radius = self.radial_cutoff
        inside = torch.where(lengths < radius, 2.0 / radius * lengths - 1.0, torch.ones_like(lengths))
        values, slopes = (function(inside, self.radial_order) for function in (chebyshev_polynomials, chebyshev_slopes))
        factors, factor_slopes = cosine_cutoff(lengths, radius), cosine_cutoff_slope(lengths, radius)
        return 2.0 / radius * slopes * factors.unsqueeze(1) + values * factor_slopes.unsqueeze(1)

    def _differentiate_directions(self, lengths: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The functions of :meth:`_expand_directions`, and their derivatives with respect to vectors.

        Returns:
            Cutoff function (edges,), its product with the harmonics (edges, harmonics), and the derivatives of both,
            shapes (edges, 3) and (edges, harmonics, 3).
        """
        factors = cosine_cutoff(lengths, self.angular_cutoff)
        factor_slopes = cosine_cutoff_slope(lengths, self.angular_cutoff).unsqueeze(1) * directions
        harmonics, slopes = self.harmonics.differentiate(directions)
        # The harmonics depend on the direction only: what leads along it is taken off.
        across = slopes - (slopes @ directions.unsqueeze(2)) * directions.unsqueeze(1)
        wave_slopes = across * (factors / lengths).view(-1, 1, 1) + harmonics.unsqueeze(2) * factor_slopes.unsqueeze(1)
        return factors, harmonics * factors.unsqueeze(1), factor_slopes, wave_slopes

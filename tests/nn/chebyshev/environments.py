"""Random environments of atoms, for tests of descriptors."""

import torch
from ase import Atoms
from ase.neighborlist import neighbor_list

from nequip_like.nn.chebyshev.descriptor import Environments


def environments_of(atoms: Atoms, species: list[str], cutoff: float) -> Environments:
    """Edges of a structure, with neighbour lists of ASE."""
    centre, neighbour, vectors = neighbor_list("ijD", atoms, cutoff)
    types = torch.tensor([species.index(symbol) for symbol in atoms.get_chemical_symbols()])
    centre, neighbour = torch.from_numpy(centre).long(), torch.from_numpy(neighbour).long()
    return Environments(torch.from_numpy(vectors), centre, types[neighbour], len(atoms))


def scattered(atoms: int = 4, neighbours: int = 7, species: int = 3, seed: int = 0) -> Environments:
    """Neighbours at distances from 0.6 to 4.2 Angstrom, in no order."""
    random = torch.Generator().manual_seed(seed)
    edges = atoms * neighbours
    directions = torch.randn(edges, 3, generator=random, dtype=torch.float64)
    lengths = 0.6 + 3.6 * torch.rand(edges, 1, generator=random, dtype=torch.float64)
    vectors = directions / directions.norm(dim=1, keepdim=True) * lengths
    centre = torch.arange(edges)[torch.randperm(edges, generator=random)] % atoms
    return Environments(vectors, centre, torch.randint(species, (edges,), generator=random), atoms)

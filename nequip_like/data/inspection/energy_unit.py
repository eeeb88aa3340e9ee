"""Energies that are those of the free atoms in Hartree: the unit of most molecular programs, read as eV."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from nequip_like.data.inspection.measure import FrameFacts

# Energies of free atoms with all their electrons, Hartree, hydrogen to argon: the limit without relativity of
# S. J. Chakravorty et al., Phys. Rev. A 47, 3649 (1993). Hartree-Fock and density functionals: within half a percent.
_FREE_ATOMS = torch.tensor(
    (
        *(0.5, 2.9037, 7.4781, 14.6674, 24.6539, 37.8450, 54.5892, 75.0673, 99.7339, 128.9376),
        *(162.2546, 200.053, 242.346, 289.359, 341.259, 398.110, 460.148, 527.540),
    ),
    dtype=torch.float64,
)
_LIGHTEST = 3  # hydrogen and helium alone are bound by too large a part of their energy
_RATIOS = (0.985, 1.03)  # from a poor method to the strongest bonds of the lightest atoms
_FEWEST_FRAMES = 3


def find_energies_in_hartree(facts: FrameFacts) -> Iterator[str]:
    """One sentence if the energies are, within a few percent, what the free atoms have in Hartree.

    In eV all electrons bind 27 times as strongly, and energies of pseudopotentials have other ratios from element to
    element. Only frames of elements up to argon are looked at.

    Args:
        facts: What was measured.
    """
    sums = torch.zeros_like(facts.energy)
    is_light = facts.numbers <= len(_FREE_ATOMS)
    free = torch.where(is_light, _FREE_ATOMS[(facts.numbers - 1).clamp(max=len(_FREE_ATOMS) - 1)], torch.nan)
    sums.index_add_(0, facts.frame_of, free)  # NaN in frames with a heavier element
    heaviest = torch.zeros_like(facts.atoms).scatter_reduce_(0, facts.frame_of, facts.numbers, "amax")
    ratios = (-facts.energy / sums)[heaviest >= _LIGHTEST]
    ratios = ratios[~torch.isnan(ratios)]
    if len(ratios) < _FEWEST_FRAMES or not bool(((ratios > _RATIOS[0]) & (ratios < _RATIOS[1])).all()):
        return
    yield (
        f"energies are {float(ratios.median()):.3f} times those of the free atoms in Hartree; are they in Hartree? "
        "Declare it: 'data.units={energy: Hartree, forces: Hartree/Bohr}'"
    )

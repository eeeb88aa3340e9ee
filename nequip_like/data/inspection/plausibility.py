"""Values that look wrong: distances, energies, forces and stress of a size that nature does not have, and cells.

Each limit stands beside the reason for it. Nothing here is certain, so nothing here is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from nequip_like.data.inspection.measure import FrameFacts

_SHORT = 0.5  # Angstrom; no two nuclei of a sensible structure come closer
# Nearest neighbours over the sum of covalent radii: 0.8 to 1.1 in molecules, oxides and metals. A length in Bohr that
# is read as Angstrom makes it 1.9 times as large, the opposite mistake 0.53 times.
_BOND_RATIOS = (0.62, 1.5)
_NOBLE = (2, 10, 18, 36, 54, 86)  # bound by dispersion, at nearly twice their covalent radii
_LARGE_FORCE = 50.0  # eV/Angstrom; structures from molecular dynamics and relaxations stay below
_LARGE_FORCES_RMS = 20.0  # eV/Angstrom; sets at thousands of Kelvin have 2 to 4
_LARGE_STRESS = 3.0  # eV/Angstrom^3 = 480 GPa, more than in the middle of the Earth
_NET_FORCE = 0.02  # eV/Angstrom and atom; grids and fitted densities leave up to 0.003
_NET_FORCE_SHARE = 0.02  # of the rms force; below it the rest is numerical noise
# Thomas-Fermi: an atom's electrons bind with at most 20.9 eV Z^(7/3), and less in truth; 1.5 for relativity and H.
_ELECTRON_BINDING = 1.5 * 20.9
_LARGEST_SPREAD = 30.0  # eV/atom between frames of one composition; the strongest bonds bind with 10 eV/atom
_EQUAL_ENERGIES = 3  # frames; two may be the same by symmetry

Origin = Callable[[int], str]


def find_implausible_values(facts: FrameFacts, origin: Origin) -> list[str]:
    """One sentence, with file and frame, for each kind of value that looks wrong.

    Args:
        facts: What was measured.
        origin: File and frame of a frame's index.
    """
    return [
        *_find_implausible_distances(facts, origin),
        *_find_implausible_energies(facts, origin),
        *_find_implausible_forces(facts, origin),
        *_find_implausible_cells(facts, origin),
    ]


def _find_implausible_distances(facts: FrameFacts, origin: Origin) -> Iterator[str]:
    shortest = int(facts.shortest.argmin())
    if facts.shortest[shortest] < _SHORT:
        yield f"two atoms are only {float(facts.shortest[shortest]):.3f} Angstrom apart: {origin(shortest)}"
    bonded = facts.bond_ratio.isfinite() & ~torch.isin(facts.numbers, torch.tensor(_NOBLE))
    if not bool(bonded.any()):
        return
    ratios = facts.bond_ratio[bonded].sort().values
    typical, quarter = float(ratios[len(ratios) // 2]), float(ratios[len(ratios) // 4])
    if typical < _BOND_RATIOS[0]:
        yield f"nearest neighbours are {typical:.2f} times as far apart as bonds are long; is the length unit right?"
    if quarter > _BOND_RATIOS[1]:
        yield (
            f"nearest neighbours are {quarter:.2f} times as far apart as bonds are long; is the length unit Bohr? "
            "Declare it: 'data.units={length: Bohr}', with the unit of the forces"
        )


def _find_implausible_energies(facts: FrameFacts, origin: Origin) -> Iterator[str]:
    has_energy = ~torch.isnan(facts.energy)
    if not bool(has_energy.any()):
        return
    excess = torch.where(has_energy, facts.energy.abs() / (_ELECTRON_BINDING * facts.charges), 0.0)
    if float(excess.max()) > 1:
        frame = int(excess.argmax())
        energy = float(facts.energy[frame] / facts.atoms[frame])
        yield (
            f"an energy of {energy:.4g} eV/atom is more than all electrons of the atoms bind with; is it in kcal/mol "
            f"or kJ/mol? Declare it, 'data.units={{energy: kcal/mol, forces: kcal/mol/Angstrom}}': {origin(frame)}"
        )
    energies = facts.energy[has_energy]
    if len(energies) >= _EQUAL_ENERGIES and bool((energies == energies[0]).all()):
        yield f"all {len(energies)} energies are equal, {float(energies[0]):g} eV"
    yield from _find_implausible_spread(facts, has_energy, origin)


def _find_implausible_spread(facts: FrameFacts, has_energy: torch.Tensor, origin: Origin) -> Iterator[str]:
    """Frames of one composition (told by the sum of Z^(7/3), which no two small ones share) lie close together."""
    per_atom = facts.energy / facts.atoms
    _, group = torch.stack([facts.charges.round(decimals=3), facts.atoms.double()]).unique(dim=1, return_inverse=True)
    worst, frame = 0.0, -1
    for member in range(int(group.max()) + 1):
        alike_frames = torch.nonzero((group == member) & has_energy).flatten()
        if len(alike_frames) > 1:
            distance = (per_atom[alike_frames] - per_atom[alike_frames].median()).abs()
            if float(distance.max()) > worst:
                worst, frame = float(distance.max()), int(alike_frames[distance.argmax()])
    if worst > _LARGEST_SPREAD:
        yield f"an energy lies {worst:.4g} eV/atom from those of the same composition: {origin(frame)}"


def _find_implausible_forces(facts: FrameFacts, origin: Origin) -> Iterator[str]:
    total = float(facts.force_counts.sum())
    if total == 0:
        return
    rms = (float(facts.force_squares.sum()) / total) ** 0.5
    largest = int(facts.largest_force.argmax())
    if rms == 0 and len(facts.atoms) > 1:
        yield "all forces are zero"
    if facts.largest_force[largest] > _LARGE_FORCE:
        yield f"a force of {float(facts.largest_force[largest]):.1f} eV/Angstrom: {origin(largest)}"
    if rms > _LARGE_FORCES_RMS:
        yield f"forces are {rms:.4g} eV/Angstrom rms; is the unit right?"
    alone = (facts.atoms == 1) & (facts.net_force > _NET_FORCE) & ~facts.shortest.isfinite()
    if bool(alone.any()):
        frame = int(torch.nonzero(alone)[0])
        yield f"a force of {float(facts.net_force[frame]):.3g} eV/Angstrom on an atom that is alone: {origin(frame)}"
    net = torch.where(alone | torch.isnan(facts.net_force), 0.0, facts.net_force)
    unbalanced = net > max(_NET_FORCE, _NET_FORCE_SHARE * rms)
    if bool(unbalanced.any()):
        frame = int(net.argmax())
        yield (
            f"forces do not add up to zero in {int(unbalanced.sum())} frames, at most by {float(net[frame]):.3g} "
            f"eV/Angstrom per atom: {origin(frame)}"
        )


def _find_implausible_cells(facts: FrameFacts, origin: Origin) -> Iterator[str]:
    labelled = facts.stress[~torch.isnan(facts.stress)]
    if len(labelled) > 1 and bool((labelled == 0).all()):
        yield f"the stress of all {len(labelled)} frames that have one is zero"
    leftover = facts.has_cell & (facts.periodic == 0)
    mixed = (facts.periodic > 0) & (facts.periodic < 3) & ~torch.isnan(facts.stress)
    left_handed = facts.left_handed & (facts.periodic == 3)
    stressed = facts.stress.nan_to_num(0.0) > _LARGE_STRESS
    for mask, text in (
        (leftover, "have a cell but are not periodic (pbc F F F), so the cell is not used"),
        (mixed, "have a stress but are periodic in one or two directions only; it refers to the whole cell"),
        (left_handed, "have left-handed cell vectors"),
        (stressed, f"have a stress above {_LARGE_STRESS:g} eV/Angstrom^3; is it in GPa or kbar, or a virial?"),
    ):
        if bool(mask.any()):
            yield f"{int(mask.sum())} frames {text}; first: {origin(int(torch.nonzero(mask)[0]))}"

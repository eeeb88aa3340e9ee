"""Values that look wrong: distances, energies, forces and stress of a size that nature does not have, and cells.

Each limit stands beside the reason for it. Nothing here is certain, so nothing here is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from nequip_like.data.inspection.checks.findings import Finding
from nequip_like.data.inspection.measure import FrameFacts

SHORT = 0.5  # Angstrom; no two nuclei of a sensible structure come closer
# Nearest neighbours over the sum of covalent radii: 0.8 to 1.1 in molecules, oxides and metals. A length in Bohr that
# is read as Angstrom makes it 1.9 times as large, the opposite mistake 0.53 times.
_BOND_RATIOS = (0.62, 1.5)
FUSED = 0.35  # of the sum of covalent radii; sets of hot or random structures come to 0.44
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


def find_implausible_distances(facts: FrameFacts, origin: Origin) -> Iterator[Finding]:
    """Atoms that lie on each other, and distances in another unit of length.

    Args:
        facts: What was measured.
        origin: File and frame of a frame's index.
    """
    near = _sort_below(facts.shortest, SHORT)
    if near:
        text = f"two atoms are only {float(facts.shortest[near[0]]):.3f} Angstrom apart: {origin(near[0])}"
        yield Finding("wrong", text, near)
    closest = torch.full_like(facts.shortest, torch.inf)
    closest = closest.scatter_reduce(0, facts.frame_of, facts.bond_ratio, "amin")
    fused = [frame for frame in _sort_below(closest, FUSED) if frame not in near]
    bonded = facts.bond_ratio.isfinite() & ~torch.isin(facts.numbers, torch.tensor(_NOBLE))
    ratios = facts.bond_ratio[bonded].sort().values
    typical, quarter = (float(ratios[len(ratios) // part]) if len(ratios) else torch.nan for part in (2, 4))
    if fused and not typical < _BOND_RATIOS[0]:
        ratio = float(closest[fused[0]])
        text = f"two atoms are {ratio:.2f} times as far apart as a bond of theirs is long: {origin(fused[0])}"
        yield Finding("wrong", text, fused)
    if typical < _BOND_RATIOS[0]:
        yield Finding(
            "wrong",
            f"nearest neighbours are {typical:.2f} times as far apart as bonds are long; is the length unit right?",
        )
    if quarter > _BOND_RATIOS[1]:
        yield Finding(
            "wrong",
            f"nearest neighbours are {quarter:.2f} times as far apart as bonds are long; is the length unit Bohr? "
            "Declare it: 'data.units={length: Bohr}', with the unit of the forces",
        )


def _sort_below(values: torch.Tensor, limit: float) -> list[int]:
    """Indices of values below a limit, the smallest first."""
    order = values.argsort(stable=True)
    return [int(i) for i in order[: int((values < limit).sum())]]


def find_implausible_energies(facts: FrameFacts, origin: Origin) -> Iterator[Finding]:
    """Energies that no electrons have, that are all the same, or far from those of the same atoms.

    Args:
        facts: What was measured.
        origin: File and frame of a frame's index.
    """
    has_energy = ~torch.isnan(facts.energy)
    if not bool(has_energy.any()):
        return
    excess = torch.where(has_energy, facts.energy.abs() / (_ELECTRON_BINDING * facts.charges), 0.0)
    if float(excess.max()) > 1:
        frame = int(excess.argmax())
        energy = float(facts.energy[frame] / facts.atoms[frame])
        yield Finding(
            "wrong",
            f"an energy of {energy:.4g} eV/atom is more than all electrons of the atoms bind with; is it in kcal/mol "
            f"or kJ/mol? Declare it, 'data.units={{energy: kcal/mol, forces: kcal/mol/Angstrom}}': {origin(frame)}",
            _sort_below(-excess, -1.0),
        )
    energies = facts.energy[has_energy]
    if len(energies) >= _EQUAL_ENERGIES and bool((energies == energies[0]).all()):
        yield Finding("wrong", f"all {len(energies)} energies are equal, {float(energies[0]):g} eV")
    yield from _find_implausible_spread(facts, has_energy, origin)


def _find_implausible_spread(facts: FrameFacts, has_energy: torch.Tensor, origin: Origin) -> Iterator[Finding]:
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
        text = f"an energy lies {worst:.4g} eV/atom from those of the same composition: {origin(frame)}"
        yield Finding("wrong", text, [frame])


def find_implausible_forces(facts: FrameFacts, origin: Origin) -> Iterator[Finding]:
    """Forces that are large, all zero, or do not add up to zero.

    Args:
        facts: What was measured.
        origin: File and frame of a frame's index.
    """
    total = float(facts.force_counts.sum())
    if total == 0:
        return
    rms = (float(facts.force_squares.sum()) / total) ** 0.5
    if rms == 0 and len(facts.atoms) > 1:
        yield Finding("wrong", "all forces are zero")
    if large := _sort_below(-facts.largest_force, -_LARGE_FORCE):
        force = float(facts.largest_force[large[0]])
        yield Finding("look", f"a force of {force:.1f} eV/Angstrom: {origin(large[0])}", large)
    if rms > _LARGE_FORCES_RMS:
        yield Finding("wrong", f"forces are {rms:.4g} eV/Angstrom rms; is the unit right?")
    alone = (facts.atoms == 1) & (facts.net_force > _NET_FORCE) & ~facts.shortest.isfinite()
    if bool(alone.any()):
        frame = int(torch.nonzero(alone)[0])
        force = float(facts.net_force[frame])
        text = f"a force of {force:.3g} eV/Angstrom on an atom that is alone: {origin(frame)}"
        yield Finding("look", text, [frame])
    net = torch.where(alone | torch.isnan(facts.net_force), 0.0, facts.net_force)
    if unbalanced := _sort_below(-net, -max(_NET_FORCE, _NET_FORCE_SHARE * rms)):
        frame = unbalanced[0]
        yield Finding(
            "look",
            f"forces do not add up to zero in {len(unbalanced)} frames, at most by {float(net[frame]):.3g} "
            f"eV/Angstrom per atom: {origin(frame)}",
            unbalanced,
        )


def find_implausible_cells(facts: FrameFacts, origin: Origin) -> Iterator[Finding]:
    """Cells that are not used or left-handed, and stress of a size that no matter has.

    Args:
        facts: What was measured.
        origin: File and frame of a frame's index.
    """
    labelled = facts.stress[~torch.isnan(facts.stress)]
    if len(labelled) > 1 and bool((labelled == 0).all()):
        yield Finding("wrong", f"the stress of all {len(labelled)} frames that have one is zero")
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
            frames = torch.nonzero(mask).flatten().tolist()
            yield Finding("look", f"{len(frames)} frames {text}; first: {origin(frames[0])}", frames)

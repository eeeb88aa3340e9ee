"""Atoms of frames: how close they are, how many neighbours they have, and how often each species is seen."""

from __future__ import annotations

from collections.abc import Iterator

from nequip_like.data.inspection.checks.findings import Finding, Subject, join_origins
from nequip_like.data.inspection.lonely_atoms import describe_lonely_atoms
from nequip_like.data.inspection.plausibility import FUSED, SHORT, find_implausible_cells, find_implausible_distances

_CLOSE = 0.65  # of the sum of covalent radii; bonds come to 0.8, and hot molecules to 0.7
_MANY_NEIGHBORS = 100.0
_FEW_FRAMES = 5


def find_distance_problems(subject: Subject) -> Iterator[Finding]:
    """Atoms that lie on each other, and lengths in another unit."""
    yield from find_implausible_distances(subject.facts, subject.origin)


def find_close_pairs(subject: Subject) -> Iterator[Finding]:
    """Pairs of species that come closer than bonds are long."""
    pairs = subject.closest_pairs
    close = [pair for pair in pairs if FUSED <= pair.ratio < _CLOSE and pair.distance >= SHORT]
    if close:
        names = ", ".join(f"{'-'.join(pair.species)} {pair.distance:.2f} Å ({pair.ratio:.2f})" for pair in close[:5])
        frames = [pair.frame for pair in close]
        text = f"closer than {_CLOSE} times the sum of their covalent radii: {names}; {join_origins(subject, frames)}"
        yield Finding("look", text, frames)
    if pairs:
        pair = pairs[0]
        text = f"the closest for their size, {'-'.join(pair.species)}, are {pair.distance:.2f} Å apart"
        yield Finding("ok", f"{text}, {pair.ratio:.2f} times the sum of their covalent radii")
    else:
        yield Finding("ok", "no two atoms are within the cutoff radius")


def find_cell_problems(subject: Subject) -> Iterator[Finding]:
    """Cells that are not used or left-handed, and stress that no matter has."""
    yield from find_implausible_cells(subject.facts, subject.origin)
    periodic = int((subject.facts.periodic > 0).sum())
    yield Finding("ok", f"{periodic} of {len(subject)} frames are periodic")


def find_lonely_atoms(subject: Subject) -> Iterator[Finding]:
    """Atoms that have no neighbour within the cutoff radius."""
    if lonely := describe_lonely_atoms(subject.dataset):
        yield Finding("look", lonely)


def find_many_neighbors(subject: Subject) -> Iterator[Finding]:
    """So many neighbours that training is slow."""
    mean, cutoff = float(subject.facts.neighbors.double().mean()), subject.dataset.cutoff
    text = f"an atom has {mean:.1f} neighbours within {cutoff:g} Å on average"
    yield Finding("look" if mean > _MANY_NEIGHBORS else "ok", text)


def find_rare_species(subject: Subject) -> Iterator[Finding]:
    """Species that are in few frames, of which little is learned."""
    coverage = subject.coverage
    rare = [species for species in coverage if species.frames < _FEW_FRAMES <= len(subject)]
    if rare:
        names = ", ".join(f"{species.symbol} {species.frames}" for species in rare)
        yield Finding("look", f"{len(rare)} species are in fewer than {_FEW_FRAMES} frames: {names}")
    least = min(coverage, key=lambda species: species.frames)
    yield Finding("ok", f"each species is in {least.frames} frames or more ({least.symbol})")

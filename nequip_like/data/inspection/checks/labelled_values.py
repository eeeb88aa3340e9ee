"""Energies and forces by themselves: their sizes, units and sums, and what is far from the others."""

from __future__ import annotations

from collections.abc import Iterator

from nequip_like.data.inspection.checks.findings import Finding, Subject
from nequip_like.data.inspection.energy_unit import find_energies_in_hartree
from nequip_like.data.inspection.outliers import STATISTIC, find_outliers
from nequip_like.data.inspection.plausibility import find_implausible_energies, find_implausible_forces

_NAMED = 3  # outliers in the sentence
_LARGEST_BINDING = 15.0  # eV/atom; the strongest solids and molecules are bound by less than 10


def find_energy_problems(subject: Subject) -> Iterator[Finding]:
    """Energies of a size that no atoms have, or that are all equal."""
    yield from find_implausible_energies(subject.facts, subject.origin)
    per_atom = (subject.facts.energy / subject.facts.atoms)[~subject.facts.energy.isnan()]
    if len(per_atom):
        yield Finding("ok", f"{float(per_atom.min()):.4g} to {float(per_atom.max()):.4g} eV/atom")
    else:
        yield Finding("ok", "no frame has an energy")


def find_energy_unit_problems(subject: Subject) -> Iterator[Finding]:
    """Energies that are those of the free atoms in Hartree."""
    for text in find_energies_in_hartree(subject.facts):
        yield Finding("wrong", text)
    yield Finding("ok", "energies are not those of atoms in Hartree, nor more than electrons bind with")


def find_force_problems(subject: Subject) -> Iterator[Finding]:
    """Forces that are large, all zero, or do not add up to zero."""
    yield from find_implausible_forces(subject.facts, subject.origin)
    total = float(subject.facts.force_counts.sum())
    if total == 0:
        yield Finding("ok", "no frame has forces")
        return
    rms, net = (float(subject.facts.force_squares.sum()) / total) ** 0.5, subject.facts.net_force
    text = f"{rms:.4g} eV/Å rms; they add up to {float(net[~net.isnan()].max()):.2g} eV/Å per atom at most"
    yield Finding("ok", text)


def find_reference_problems(subject: Subject) -> Iterator[Finding]:
    """Energies of species that the compositions do not tell, or that leave more than any bonds are worth."""
    fit = subject.references
    if fit is None:
        yield Finding("ok", "no energies to fit them to")
        return
    reference = fit.reference
    if reference.warning:
        yield Finding("look", reference.warning)
    if (reference.residual_rms or 0.0) > _LARGEST_BINDING:
        yield Finding("look", f"energies lie {reference.residual_rms:.4g} eV/atom (rms) from any sums over species")
    energies = ", ".join(f"{name} {energy:.4g}" for name, energy in reference.energies.items())
    how = (
        "least squares" if reference.rule == "least_squares" else "the mean, for compositions do not tell species apart"
    )
    yield Finding("ok", f"by {how}, {reference.residual_rms:.4g} eV/atom rms are left; eV: {energies}")


def find_outlying_frames(subject: Subject) -> Iterator[Finding]:
    """Values far from those of the other frames."""
    residuals = None if subject.references is None else subject.references.residuals
    outliers = find_outliers(subject.facts, residuals)
    if outliers:
        names = "; ".join(
            f"{outlier.quantity} {outlier.value:.4g} ({outlier.score:.0f}), {subject.origin(outlier.frame)}"
            for outlier in outliers[:_NAMED]
        )
        frames = list(dict.fromkeys(outlier.frame for outlier in outliers))
        yield Finding("look", f"{len(frames)} frames by {STATISTIC}; farthest: {names}", frames)
    yield Finding("ok", f"none by {STATISTIC}")

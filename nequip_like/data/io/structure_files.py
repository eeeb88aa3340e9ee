"""Corrections where ASE's readers pass something over, or take it otherwise than it is meant.

POSCAR without its species, gen files that are cut off, CIF with sites that are occupied in part, XSF of aenet, CASTEP
with a dispersion correction, Gaussian's axes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.formula import Formula
from ase.units import Hartree

from nequip_like.data.io.file_formats import FORMATS
from nequip_like.errors import DataError

_FORMULA_SUM = re.compile(rb"^_chemical_formula_sum[ \t]+(?:'([^'\n]*)'|\"([^\"\n]*)\"|(\S+))", re.MULTILINE)
# aenet's files give the energy in a comment, and forces in eV/Angstrom where the format's own are in Hartree/Angstrom.
_AENET = re.compile(rb"^[ \t]*#[ \t]*total energy[ \t]*=[ \t]*(\S+)[ \t]*eV", re.MULTILINE | re.IGNORECASE)


def check_species_line(content: bytes, path: Path) -> None:
    """Refuse a POSCAR that does not name its species: ASE would take words of the comment, or look in other files.

    Raises:
        DataError: Saying which line is missing.
    """
    start = FORMATS["vasp"].start
    if start is not None and not start.match(content):
        raise DataError(
            f"{path} does not name its species, as VASP 5 and newer do",
            "line 6 must hold the symbols, and line 7 how many of each: 'O H' above '1 2'",
        )


def fix_structure(atoms: Atoms, content: bytes, name: str, origin: str) -> None:
    """Check one structure against the text that it was read from, and put right what was read otherwise than meant.

    Args:
        atoms: The structure; its labels may change.
        content: The text.
        name: ASE's name of the format.
        origin: File and frame, for messages.

    Raises:
        DataError: If the text says something else, naming the frame.
    """
    if check := _CHECKS.get(name):
        check(atoms, content, origin)


def _check_count(atoms: Atoms, content: bytes, origin: str) -> None:
    declared = int(content.split(maxsplit=1)[0])
    if declared != len(atoms):
        raise DataError(f"{origin} is cut off: it says {declared} atoms, but has {len(atoms)}", "copy the file again")


def _check_crystal(atoms: Atoms, content: bytes, origin: str) -> None:
    for site in atoms.info.get("occupancy", {}).values():
        if any(abs(part - 1.0) > 1e-6 for part in site.values()):
            raise DataError(
                f"{origin}: a site is occupied in part ({', '.join(f'{key}: {part:g}' for key, part in site.items())})",
                "give a structure of whole atoms",
            )
    sums = _FORMULA_SUM.findall(content)
    if len(sums) != 1:  # none, or several structures
        return
    text = b"".join(sums[0]).decode("ascii", "replace").replace(" ", "")
    try:
        declared = Formula(text).reduce()[0]
    except ValueError:  # deuterium, fractions, a question mark
        return
    composition = atoms.symbols.formula.reduce()[0]
    if declared.count() != composition.count():
        raise DataError(
            f"{origin}: its _chemical_formula_sum is {text}, but its atoms are {composition:hill}",
            "complete the file: atoms are missing, such as hydrogen, or it is cut off",
        )


def _convert_from_aenet(atoms: Atoms, content: bytes, origin: str) -> None:
    energies = _AENET.findall(content)
    if len(energies) != 1:
        return
    try:
        results = {"energy": float(energies[0])}
    except ValueError:
        raise DataError(f"{origin}: its total energy is no number", "repair the comment") from None
    if atoms.calc is not None:
        results["forces"] = atoms.calc.results["forces"] / Hartree
    atoms.calc = SinglePointCalculator(atoms, **results)


def _take_energies_with_dispersion(atoms: Atoms, content: bytes, origin: str) -> None:
    """Take the energies with the dispersion correction, as forces and stress have it.

    ASE's reader (3.29) keeps them under a name (correlation) that is none of those it looks for (correction).
    """
    results = {} if atoms.calc is None else atoms.calc.results
    suffix = "_with_dispersion_correlation"
    free = results.get("free_energy" + suffix, results.get("energy" + suffix))
    zero = results.get("energy_zero" + suffix, results.get("energy" + suffix))
    if free is not None and zero is not None:
        results.update(energy=zero, free_energy=free)


def _check_axes(atoms: Atoms, content: bytes, origin: str) -> None:
    if atoms.calc is None or "forces" not in atoms.calc.results:
        return
    if b"Standard orientation:" in content and not re.search(rb"(?:Input|Z-Matrix) orientation:", content):
        raise DataError(
            f"{origin}: its forces are along the axes of the input, but its positions stand in Gaussian's standard "
            "orientation only",
            "run Gaussian with 'nosymm', or with '#p', which prints the input orientation, too",
        )


_CHECKS: dict[str, Callable[[Atoms, bytes, str], None]] = {
    "gen": _check_count,
    "cif": _check_crystal,
    "gaussian-out": _check_axes,
    "castep-castep": _take_energies_with_dispersion,
    "xsf": _convert_from_aenet,
}

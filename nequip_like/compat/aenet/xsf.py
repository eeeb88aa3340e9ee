"""XSF files as aenet has them: the total energy in a comment, forces beside the positions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from nequip_like.errors import DataError
from nequip_like.whole_files import output_errors, path_of, written_whole


def write_xsf(structures: Atoms | Sequence[Atoms], path: str | Path) -> list[Path]:
    """Write structures with their energies and forces; aenet keeps one in each file.

    Labels are those of the structures' calculators: total energies in eV, and forces in eV/Angstrom without regard to
    constraints. A structure without an energy has no comment, one without forces has three columns.

    Args:
        structures: One or many.
        path: The file of one structure; of many, a folder, which gets ``structure-001.xsf`` and so on.

    Returns:
        The files that were written.

    Raises:
        DataError: If a structure is periodic in some directions only, which aenet does not know.
        OutputError: If a file cannot be written.

    Example:
        >>> _ = write_xsf(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]), "h2.xsf")
        >>> print(Path("h2.xsf").read_text().rstrip())
        ATOMS
        H      0.00000000     0.00000000     0.00000000
        H      0.00000000     0.00000000     0.74000000
    """
    target = path_of(path)
    if isinstance(structures, Atoms):
        files = {target: structures}
    else:
        digits = max(3, len(str(len(structures))))
        files = {target / f"structure-{number:0{digits}d}.xsf": atoms for number, atoms in enumerate(structures, 1)}
    texts = {file: _format_structure(atoms, file) for file, atoms in files.items()}
    for file, text in texts.items():
        with output_errors(file), written_whole(file) as temporary:
            temporary.write_text(text)
    return list(texts)


def _format_structure(atoms: Atoms, file: Path) -> str:
    periodic = int(atoms.pbc.sum())
    if periodic not in (0, 3):
        raise DataError(
            f"{file}: the structure is periodic in {periodic} of 3 directions",
            "set pbc to all or none; aenet knows crystals and molecules only",
        )
    results = {} if atoms.calc is None else atoms.calc.results
    lines = [f"# total energy = {float(results['energy']):.8f} eV", ""] if "energy" in results else []
    if periodic:
        lines += ["CRYSTAL", "PRIMVEC", *(_format_row(vector) for vector in atoms.cell.array)]
        lines += ["PRIMCOORD", f"{len(atoms)} 1"]
    else:
        lines.append("ATOMS")
    forces = results.get("forces")
    for index, symbol in enumerate(atoms.get_chemical_symbols()):
        numbers = [*atoms.positions[index], *(() if forces is None else forces[index])]
        lines.append(f"{symbol:<2} {_format_row(numbers)}")
    return "\n".join(lines) + "\n"


def _format_row(numbers: Sequence[float]) -> str:
    return " ".join(f"{float(number):14.8f}" for number in numbers)

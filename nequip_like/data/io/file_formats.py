"""The one table of file formats: what is read, what each format can hold, and where its structures begin.

ASE's readers fill in what a file lacks (an energy of zero for a LAMMPS dump) and read the header of an output once,
however many outputs were joined to one file. This table says what can be believed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from nequip_like.data import fields

_ENERGIES = ("energy", "free_energy")


@dataclass(frozen=True)
class Format:
    """One row of the table.

    Attributes:
        name: ASE's name of the format, where ASE reads it.
        title: What its users call it.
        labels: Results of ASE's reader that stand in such a file; others are filled in and are not taken. None: the
            file names its labels itself.
        start: Where an output begins. A second one in a file begins a part that is read by itself, with its own
            species. None: each structure of the format says everything anew.
        structure: The line with which a structure begins, to count them. None: the reader refuses a damaged file.
        species: The line that names the species; it stands once in each part.
        end: What stands at the end of an output that was not cut off; then nothing is missing.
        output: Whether a program wrote it while it ran: the last structure may be unfinished, and one without any
            label is none.
        unconverged: What it says of a calculation that did not converge.
        names: Names that stand for a label in this format alone: ``{name: label}``.
        remark: What a user should know of each file that is read.
    """

    name: str
    title: str
    labels: tuple[str, ...] | None = ()
    start: re.Pattern[bytes] | None = None
    structure: re.Pattern[bytes] | None = None
    species: re.Pattern[bytes] | None = None
    end: re.Pattern[bytes] | None = None
    output: bool = False
    unconverged: re.Pattern[bytes] | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""


def _compile_line(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode(), re.MULTILINE)


_NUMBER = r"[-+.\deEdD]+"
_SYMBOL = r"[A-Z][a-z]?(?:[_./]\S*)?"
# Comment, one or three scales, three lattice vectors and, since VASP 5, the species and how many of each.
_POSCAR = (
    rf"^.*\n[ \t]*{_NUMBER}(?:[ \t]+{_NUMBER}[ \t]+{_NUMBER})?[ \t]*\n"
    rf"(?:[ \t]*{_NUMBER}[ \t]+{_NUMBER}[ \t]+{_NUMBER}.*\n){{3}}[ \t]*{_SYMBOL}(?:[ \t]+{_SYMBOL})*[ \t]*\n[ \t]*\d"
)
# The positions that a relaxation ends with are printed twice; the second ones have no results of their own.
_PW_POSITIONS = r"^ *Program PWSCF|^ATOMIC_POSITIONS.*\n(?:(?!End final).+\n)*+(?!End final)"
# Comments stand above the keyword; an animation has one of its own before.
_XSF = (
    r"^(?:[ \t]*(?:#.*)?\n)*[ \t]*"
    r"(?:ANIMSTEPS.*\n(?:[ \t]*(?:#.*)?\n)*[ \t]*[A-Z]+|CRYSTAL|SLAB|POLYMER|MOLECULE|ATOMS[ \t]*$)"
)

_ROWS = (
    Format("extxyz", "extended XYZ", None),
    Format("traj", "ASE trajectory", None, start=re.compile(rb"(?:- of Ulm|AFFormat)ASE-Trajectory")),
    Format("db", "ASE database (SQLite)", None),
    Format("aselmdb", "ASE database (LMDB), .aselmdb", None),
    Format("lmdb", "LMDB of NequIP or fairchem, .lmdb", None),
    Format("hdf5", "HDF5 of MACE, .h5, .hdf5", None),
    Format(
        "vasp-out",
        "VASP OUTCAR",
        (*_ENERGIES, "forces", "stress"),
        start=_compile_line(r"^ *vasp\.\d"),
        structure=_compile_line(r"Iteration +\d+\( +1\)"),
        species=_compile_line(r"^ *ions per type ="),
        end=_compile_line(r"^ *General timing and accounting"),
        output=True,
        unconverged=_compile_line(r"self-consistency was not achieved"),
    ),
    Format(
        "vasp-xml",
        "VASP vasprun.xml",
        (*_ENERGIES, "forces", "stress"),
        start=_compile_line(r"<\?xml"),
        structure=_compile_line(r"<calculation>"),
        end=_compile_line(r"^ *</modeling>"),
        output=True,
    ),
    Format(
        "espresso-out",
        "Quantum ESPRESSO pw.x output",
        (*_ENERGIES, "forces", "stress"),
        start=_compile_line(r"^ *Program PWSCF"),
        structure=_compile_line(_PW_POSITIONS),
        end=_compile_line(r"^ *JOB DONE"),
        output=True,
        unconverged=_compile_line(r"convergence NOT achieved"),
    ),
    Format(
        "aims-output",
        "FHI-aims output",
        (*_ENERGIES, "forces", "stress"),
        start=_compile_line(r"^ *Invoking FHI-aims"),
        output=True,
    ),
    Format(
        "castep-castep",
        "CASTEP .castep output",
        (*_ENERGIES, "forces", "stress"),
        start=_compile_line(r"^.*(?:Welcome|Materials Studio).*CASTEP"),
        output=True,
    ),
    Format(
        "gpaw-out",
        "GPAW text output",
        ("energy", "forces", "stress"),
        start=_compile_line(r"^ +___ ___ ___ _ _ _ *$"),
        structure=_compile_line(r"^[Pp]ositions:$"),
        output=True,
    ),
    Format(
        "gaussian-out",
        "Gaussian output",
        (*_ENERGIES, "forces"),
        start=_compile_line(r"^ *Entering (?:Gaussian System|Link 1 )"),
        end=_compile_line(r"^ *Normal termination of Gaussian"),
        output=True,
        unconverged=_compile_line(r"Convergence criterion not met"),
    ),
    Format(
        "orca-output",
        "ORCA output",
        (*_ENERGIES, "forces"),
        start=_compile_line(r"^ *\* O   R   C   A \*"),
        structure=_compile_line(r"^CARTESIAN COORDINATES \(ANGSTROEM\)"),
        end=_compile_line(r"ORCA TERMINATED NORMALLY"),
        output=True,
    ),
    Format("lammps-dump-text", "LAMMPS dump, text", ("forces",)),
    Format("xsf", "XCrySDen XSF", ("energy", "forces"), start=_compile_line(_XSF)),
    Format("vasp", "VASP POSCAR, CONTCAR", start=_compile_line(_POSCAR)),
    Format("vasp-xdatcar", "VASP XDATCAR", structure=_compile_line(r"Direct configuration=")),
    Format("gen", "DFTB+ gen", start=_compile_line(r"^ *\d+ +[CFS] *$")),
    Format("cif", "CIF"),
    Format(
        "npz",
        "NumPy arrays, .npz (rMD17, sGDML)",
        None,
        names={"energies": fields.TOTAL_ENERGY, "E": fields.TOTAL_ENERGY, "F": fields.FORCES},
    ),
    Format("deepmd", "DeePMD system, a folder", ("energy", "forces", "virial")),
    Format(
        "runnerdata",
        "RuNNer and n2p2 input.data",
        ("energy", "forces"),
        remark="it was taken to be in Hartree and Bohr, as RuNNer writes it, and converted",
    ),
    Format("archive", "archive of such files, .tar, .tar.gz, .tgz, .zip", None),
)

# Formats of ASE that hold data only. ASE's JSON is left out: it may declare an array of any size, and netCDF, bundles,
# databases on servers and what needs other programs.
FORMATS: dict[str, Format] = {row.name: row for row in _ROWS}

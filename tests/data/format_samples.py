"""One small file for each format that is read: two calculations, as the program writes them, and their labels.

What stands in an output is written here in the program's own units; the labels that must come out are computed from
the conversion factors of CODATA 2014, which ASE uses, and of CODATA 2006, which it uses for Quantum ESPRESSO.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import ase.test
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import create_units

from tests.data.io.sets.written_sets import write_aselmdb, write_mace

HARTREE, BOHR = 27.211386024367243, 0.5291772105638411
RYDBERG, BOHR_OF_PW = (create_units("2006")[name] for name in ("Ry", "Bohr"))
KBAR = 0.1 * 0.006241509125883258  # eV/Angstrom^3
ASE_DATA = Path(ase.test.__file__).parent / "testdata"


@dataclass(frozen=True)
class Frame:
    """What one structure of a sample holds, in eV and Angstrom."""

    symbols: str
    energy: float | None = None
    forces: list[list[float]] | None = None
    stress: list[list[float]] | None = None


@dataclass(frozen=True)
class Sample:
    """Two files of one format.

    Attributes:
        format: ASE's name.
        file: A name that such a file has.
        first: Its content.
        second: The content of another.
        frames: What ``first`` holds.
        others: What ``second`` holds.
        cut: A piece of ``first``, where it is cut off.
        told: What is said of the file that is cut off: of an error, or of a note on what was left out.
        joined: What is said of ``first + second``, where that is refused.
    """

    format: str
    file: str
    first: bytes
    second: bytes
    frames: list[Frame]
    others: list[Frame]
    cut: bytes
    told: str
    joined: str = ""
    left: list[Frame] = field(default_factory=list)


CELL = [[5.0, 0.0, 0.0], [0.0, 6.0, 0.0], [0.0, 0.0, 7.0]]
POSITIONS = [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]
FORCES = [[0.125, -0.25, 0.5], [-0.0625, 0.375, -0.125], [-0.0625, -0.125, -0.375]]
MINUS = [[-value for value in row] for row in FORCES]


def rows(template: str, symbols: list[str], *columns: list[list[float]]) -> str:
    """A line for each atom: number, symbol, and the columns."""
    return "".join(
        template.format(i, i + 1, symbol, *(value for column in columns for value in column[i]))
        for i, symbol in enumerate(symbols)
    )


def scaled(values: list[list[float]], factor: float) -> list[list[float]]:
    return [[value * factor for value in row] for row in values]


def outcar(elements: tuple[str, str], steps: list[tuple[float, list[list[float]], list[float]]]) -> str:
    """Energies in eV, forces in eV/Angstrom, stress in kbar: xx yy zz xy yz zx, positive under compression."""
    text = " vasp.6.3.2 27Jun22 (build Nov 28 2026) complex\n\n INCAR:\n"
    for _ in range(2):
        text += "".join(f" POTCAR:    PAW_PBE {element} 08Apr2002\n" for element in elements)
    text += (
        "   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   number of bands    NBANDS=      8\n"
    )
    text += "   ions per type =               1   2\n   ISPIN  =      1    spin polarized calculation?\n"
    text += " k-points in reciprocal lattice and weights: Gamma\n   0.00000000  0.00000000  0.00000000       1.000\n\n"
    cell = "".join(("   " + "{:13.9f}" * 3 + "     0.2 0.2 0.2\n").format(*vector) for vector in CELL)
    for i, (energy, forces, stress) in enumerate(steps, start=1):
        for cycle in (1, 2):
            text += f"{40 * '-'} Iteration {i:4}({cycle:4})  {39 * '-'}\n"
        text += "  in kB " + "".join(f"{value:12.5f}" for value in stress) + "\n"
        text += f"      direct lattice vectors                 reciprocal lattice vectors\n{cell}\n"
        text += " POSITION                                       TOTAL-FORCE (eV/Angst)\n " + 83 * "-" + "\n"
        text += rows("{3:13.5f}{4:13.5f}{5:13.5f}  {6:14.6f}{7:14.6f}{8:14.6f}\n", [*"abc"], POSITIONS, forces)
        text += f" {83 * '-'}\n\n  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  {51 * '-'}\n"
        text += f"  free  energy   TOTEN  =     {energy - 0.25:14.8f} eV\n\n"
        text += f"  energy  without entropy=    {energy + 0.25:14.8f}  energy(sigma->0) =    {energy:14.8f}\n\n"
    return text + " General timing and accounting informations for this job:\n"


def vasprun(elements: tuple[str, str, str], steps: list[tuple[float, list[list[float]]]]) -> str:
    """As OUTCAR; positions are fractions of the cell, stress is in kbar, positive under compression."""

    def vectors(name: str, values: list[list[float]]) -> str:
        return (
            f'<varray name="{name}">' + "".join(f"<v>{a:.8f} {b:.8f} {c:.8f}</v>" for a, b, c in values) + "</varray>"
        )

    fractions = [[x / a[i] for i, (x, a) in enumerate(zip(row, CELL, strict=True))] for row in POSITIONS]
    place = f"<crystal>{vectors('basis', CELL)}</crystal>{vectors('positions', fractions)}"
    atoms = "".join(f"<rc><c>{element} </c><c>1</c></rc>" for element in elements)
    text = '<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n'
    text += (
        '<kpoints><varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>\n'
    )
    text += f'<atominfo><array name="atoms"><set>{atoms}</set></array></atominfo>\n'
    text += f'<structure name="initialpos">{place}</structure>\n'
    for energy, forces in steps:
        energies = f'<i name="e_fr_energy">{energy - 0.25:.8f}</i><i name="e_0_energy">{energy:.8f}</i>'
        text += f"<calculation>\n<scstep><energy>{energies}</energy></scstep>\n<structure>{place}</structure>\n"
        text += vectors("forces", forces) + "\n" + vectors("stress", [[1, 2, 3], [2, 4, 5], [3, 5, 6]]) + "\n"
        text += f"<energy>{energies}</energy>\n</calculation>\n"
    return text + "</modeling>\n"


def pwscf(elements: list[str], energy: float, forces: list[list[float]], second: float) -> str:
    """Two steps of a relaxation: Ry, Ry/Bohr, and stress in Ry/Bohr^3, positive under compression."""
    text = "\n     Program PWSCF v.7.2 starts on 28Nov2026 at 17:40:16\n\n"
    text += "     number of atoms/cell      =            3\n     number of atomic types    =            2\n\n"
    text += "     celldm(1)=   9.448631  celldm(2)=   1.200000  celldm(3)=   1.400000\n\n"
    text += "     crystal axes: (cart. coord. in units of alat)\n"
    text += "               a(1) = (   1.000000   0.000000   0.000000 )\n"
    text += "               a(2) = (   0.000000   1.200000   0.000000 )\n"
    text += "               a(3) = (   0.000000   0.000000   1.400000 )\n\n"
    text += "     site n.     atom                  positions (alat units)\n"
    places = scaled(POSITIONS, 0.2)
    text += rows("      {1:4}           {2:<3} tau({1:4}) = ({3:12.7f}{4:12.7f}{5:12.7f}  )\n", elements, places)
    text += "\n     number of k points=     1\n                       cart. coord. in units 2pi/alat\n"
    text += "        k(    1) = (   0.0000000   0.0000000   0.0000000), wk =   2.0000000\n"
    for step in (energy, second):
        text += "\n     Self-consistent Calculation\n\n     End of self-consistent calculation\n\n"
        text += "          k = 0.0000 0.0000 0.0000 (   100 PWs)   bands (ev):\n\n   -25.1   -13.2    -9.3    -7.2\n\n"
        text += f"!    total energy              ={step:17.8f} Ry\n\n"
        text += "     Forces acting on atoms (cartesian axes, Ry/au):\n\n"
        text += rows("     atom {1:4} type  1   force = {3:13.8f} {4:13.8f} {5:13.8f}\n", elements, forces)
        text += "\n     Total force =     0.1\n\n     Computing stress (Cartesian axis) and pressure\n\n"
        text += "          total   stress  (Ry/bohr**3)                   (kbar)     P=        1.00\n"
        text += "   0.00000100   0.00000200   0.00000300            0.15        0.29        0.44\n"
        text += "   0.00000200   0.00000400   0.00000500            0.29        0.59        0.74\n"
        text += "   0.00000300   0.00000500   0.00000600            0.44        0.74        0.88\n\n"
        if step == energy:
            text += "\nATOMIC_POSITIONS (angstrom)\n"
            text += rows("{2:<3} {3:16.10f} {4:15.10f} {5:15.10f}\n", elements, POSITIONS) + "\n"
    return text + "   JOB DONE.\n"


def gaussian(numbers: list[int], energy: float, forces: list[list[float]], axes: str = "Input") -> str:
    """Hartree and Hartree/Bohr."""
    line = " " + 69 * "-" + "\n"
    text = " Entering Gaussian System, Link 0=g16\n Initial command:\n /opt/g16/l1.exe\n"
    text += " Entering Link 1 = /opt/g16/l1.exe PID=   1234.\n\n"
    text += f"                          {axes} orientation:\n{line}"
    text += " Center     Atomic      Atomic             Coordinates (Angstroms)\n"
    text += f" Number     Number       Type             X           Y           Z\n{line}"
    text += rows("{1:7} {2:>10}           0     {3:12.6f}{4:12.6f}{5:12.6f}\n", list(map(str, numbers)), POSITIONS)
    text += f"{line}\n SCF Done:  E(RB3LYP) = {energy:15.10f}     A.U. after   10 cycles\n\n{line}"
    text += " Center     Atomic                   Forces (Hartrees/Bohr)\n"
    text += f" Number     Number              X              Y              Z\n{line}"
    text += rows("{1:7} {2:>8}       {3:15.9f}{4:15.9f}{5:15.9f}\n", list(map(str, numbers)), forces)
    return text + line + "\n 1\\1\\GINC-NODE\\Force\\RB3LYP\n\n Normal termination of Gaussian 16 at Sat Nov 28 2026.\n"


def orca(elements: list[str], energy: float, gradient: list[list[float]]) -> str:
    """Hartree and Hartree/Bohr; the gradient is minus the force."""
    text = "\n                                 *****************\n                                 * O   R   C   A *\n"
    text += "                                 *****************\n\n---------------------------------\n"
    text += "CARTESIAN COORDINATES (ANGSTROEM)\n---------------------------------\n"
    text += rows("  {2:<2} {3:13.6f} {4:11.6f} {5:11.6f}\n", elements, POSITIONS)
    text += "\nNumber of atoms                             ...      3\n\n"
    text += f"-------------------------   --------------------\nFINAL SINGLE POINT ENERGY     {energy:18.12f}\n"
    text += "-------------------------   --------------------\n\n------------------\nCARTESIAN GRADIENT\n"
    text += "------------------\n\n" + rows("{1:4}   {2:<2}  :{3:15.9f}{4:15.9f}{5:15.9f}\n", elements, gradient)
    return text + "\n                             ****ORCA TERMINATED NORMALLY****\n"


def gpaw(elements: list[str], energy: float, forces: list[list[float]]) -> str:
    """eV and eV/Angstrom."""
    text = "\n  ___ ___ ___ _ _ _  \n |   |   |_  | | | | \n | | | | | . | | | | \n |__ |  _|___|_____|  23.9.1\n"
    text += " |___|_|             \n\nPositions:\n"
    text += rows("{0:4} {2:<2} {3:13.6f}{4:12.6f}{5:12.6f}    ( 0.0000,  0.0000,  0.0000)\n", elements, POSITIONS)
    text += "\nUnit cell:\n           periodic     x           y           z      points  spacing\n"
    for i, (x, y, z) in enumerate(CELL, start=1):
        text += f"  {i}. axis:    yes  {x:11.6f} {y:11.6f} {z:11.6f}    28     0.2143\n"
    text += "\nEnergy contributions relative to reference atoms: (reference = -24.980324)\n\n"
    text += f"Kinetic:         +7.060775\n--------------------------\nFree energy:   {energy - 0.25:11.6f}\n"
    text += f"Extrapolated:  {energy:11.6f}\n\nForces in eV/Ang:\n"
    text += rows("{0:3} {2:<2} {3:10.5f} {4:10.5f} {5:10.5f}\n", elements, forces)
    return text + "\nTiming:                              incl.     excl.\n"


def dump(elements: list[str], forces: list[list[float]], columns: str = "id type element x y z fx fy fz") -> str:
    """LAMMPS in units metal; atoms in any order."""
    text = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n3\nITEM: BOX BOUNDS pp pp pp\n0.0 5.0\n0.0 6.0\n0.0 7.0\n"
    lines = rows("{1} 1 {2} {3} {4} {5} {6} {7} {8}\n", elements, POSITIONS, forces).splitlines(keepends=True)
    return text + f"ITEM: ATOMS {columns}\n" + lines[2] + lines[0] + lines[1]


def make_atoms(frame: Frame) -> Atoms:
    atoms = Atoms(frame.symbols, POSITIONS, cell=CELL, pbc=True)
    labels = {"energy": frame.energy, "forces": frame.forces, "stress": frame.stress}
    results = {name: np.array(value) for name, value in labels.items() if value is not None}
    if "stress" in results:
        results["stress"] = results["stress"].reshape(9)[[0, 4, 8, 5, 2, 1]]
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def written(form: str, *frames: Frame, **options: object) -> bytes:
    """What ASE's writer makes of frames."""
    images = [make_atoms(frame) for frame in frames]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        ase.io.write(path, images, format=form, **options)
        return path.read_bytes()


STRESS = scaled([[1, 2, 3], [2, 4, 5], [3, 5, 6]], -KBAR)
RY_STRESS = scaled([[1, 2, 3], [2, 4, 5], [3, 5, 6]], -1e-6 * RYDBERG / BOHR_OF_PW**3)
VASP_STRESS = [1, 4, 6, 2, 5, 3]  # xx yy zz xy yz zx
AIMS_FORCES = [
    [-4.78299830661005, -6.16960341437854, 1.62259424656531e-28],
    [6.92109878170016, -0.419925410034428, 0.0],
    [-2.13810047509011, 6.58952882441297, 2.43389136984796e-28],
]
CASTEP_FORCES = (
    [[0.0, 0.0, 0.0]] * 8,
    [
        [-0.04931, 0.05289, -0.00438], [0.04681, 0.00681, 0.00631], [-0.01446, -0.05835, -0.01755],
        [0.07449, -0.00738, 0.01115], [-0.01854, 0.02021, -0.01764], [0.03618, -0.03894, 0.02269],
        [-0.13181, -0.06014, -0.07122], [0.05664, 0.0849, 0.07065],
    ],
    [
        [-0.09963, 0.10729, -0.00665], [0.09339, 0.01482, 0.01147], [-0.02828, -0.11817, -0.03557],
        [0.14991, -0.01604, 0.02132], [-0.03495, 0.04016, -0.03526], [0.07136, -0.07883, 0.04578],
        [-0.2687, -0.12445, -0.14684], [0.1169, 0.17523, 0.14574],
    ],
)  # fmt: skip
CASTEP_STRESS = scaled(
    [[0.390672, -0.144025, -0.061901], [-0.144025, 0.388091, -0.276337], [-0.061901, -0.276337, 0.385978]], 10 * KBAR
)
CASTEP_ENERGIES = (-1351.300206072, -1351.298793468, -1351.294716003)


def castep(element: str) -> list[Frame]:
    stresses = (None, None, CASTEP_STRESS)
    return [
        Frame(f"{element}8", energy, forces, stress)
        for energy, forces, stress in zip(CASTEP_ENERGIES, CASTEP_FORCES, stresses, strict=True)
    ]


def _outputs() -> list[Sample]:
    """Outputs of programs that compute labels."""
    vasp = outcar(("O", "H"), [(-14.25, FORCES, VASP_STRESS), (-14.5, MINUS, VASP_STRESS)])
    xml = vasprun(("O", "H", "H"), [(-14.25, FORCES), (-14.5, MINUS)])
    relax = pwscf(["O", "H", "H"], -34.5, FORCES, -34.75)
    ry = scaled(FORCES, RYDBERG / BOHR_OF_PW)
    force, cut_force = gaussian([8, 1, 1], -76.25, FORCES), " Center     Atomic                   Forces"
    au = scaled(FORCES, HARTREE / BOHR)
    aims = b"\n          Invoking FHI-aims ...\n" + (ASE_DATA / "aims/singlepoint.out").read_bytes()
    md = (ASE_DATA / "castep/md.castep").read_bytes()
    return [
        Sample(
            "vasp-out", "OUTCAR", vasp.encode(), outcar(("S", "F"), [(-9.75, MINUS, VASP_STRESS)]).encode(),
            [Frame("OH2", -14.25, FORCES, STRESS), Frame("OH2", -14.5, MINUS, STRESS)],
            [Frame("SF2", -9.75, MINUS, STRESS)],
            b"energy(sigma->0) =      -14.5", "the last structure, which begins in line 35, is unfinished and left out",
            left=[Frame("OH2", -14.25, FORCES, STRESS)],
        ),
        Sample(
            "vasp-xml", "vasprun.xml", xml.encode(), vasprun(("S", "F", "F"), [(-9.75, MINUS)]).encode(),
            [Frame("OH2", -14.25, FORCES, STRESS), Frame("OH2", -14.5, MINUS, STRESS)],
            [Frame("SF2", -9.75, MINUS, STRESS)],
            b'</varray>\n<energy><i name="e_fr_energy">-14.7',
            "the last structure, which begins in line 13, is unfinished and left out",
            left=[Frame("OH2", -14.25, FORCES, STRESS)],
        ),
        Sample(
            "espresso-out", "pw.out", relax.encode(), pwscf(["S", "F", "F"], -20.0, MINUS, -21.0).encode(),
            [Frame("OH2", -34.5 * RYDBERG, ry, RY_STRESS), Frame("OH2", -34.75 * RYDBERG, ry, RY_STRESS)],
            [Frame("SF2", energy * RYDBERG, scaled(ry, -1.0), RY_STRESS) for energy in (-20.0, -21.0)],
            b"!    total energy              =     -34.75",
            "the last structure, which begins in line 49, is unfinished and left out",
            left=[Frame("OH2", -34.5 * RYDBERG, ry, RY_STRESS)],
        ),
        Sample(
            "gaussian-out", "a.log", force.encode(), gaussian([16, 9, 9], -597.5, MINUS).encode(),
            [Frame("OH2", -76.25 * HARTREE, au)], [Frame("SF2", -597.5 * HARTREE, scaled(au, -1.0))],
            cut_force.encode(), "the output that begins in line 4 has no end; its last structure may lack labels",
            left=[Frame("OH2", -76.25 * HARTREE)],
        ),
        Sample(
            "orca-output", "a.out", orca(["O", "H", "H"], -76.25, FORCES).encode(),
            orca(["S", "F", "F"], -597.5, MINUS).encode(),
            [Frame("OH2", -76.25 * HARTREE, scaled(au, -1.0))], [Frame("SF2", -597.5 * HARTREE, au)],
            b"CARTESIAN GRADIENT", "Calculation did not finish!",
        ),
        Sample(
            "gpaw-out", "gpaw.txt", gpaw(["O", "H", "H"], -14.25, FORCES).encode(),
            gpaw(["S", "F", "F"], -9.75, MINUS).encode(),
            [Frame("OH2", -14.25, FORCES)], [Frame("SF2", -9.75, MINUS)],
            b"Energy contributions", "holds no finished calculation; it was read as GPAW text output",
        ),
        Sample(
            "aims-output", "aims.out", aims,
            aims.replace(b"Species O ", b"Species S ").replace(b"Species H ", b"Species F "),
            [Frame("OH2", -2063.02072675943, AIMS_FORCES)], [Frame("SF2", -2063.02072675943, AIMS_FORCES)],
            b"          Have a nice day.", "The calculation did not complete successfully",
        ),
        Sample(
            "castep-castep", "md.castep", md, md.replace(b" Si ", b" Ge "), castep("Si"), castep("Ge"),
            b"Finalisation time", "No regular end found",
        ),
    ]  # fmt: skip


def _structures() -> list[Sample]:
    """Formats without labels, or with some of them."""
    plain, other = Frame("OH2"), Frame("SF2")
    poscar, xdatcar = written("vasp", plain), written("vasp-xdatcar", plain, plain)
    gen = written("gen", plain)
    aenet = "# total energy = -14.25 eV\n\nCRYSTAL\nPRIMVEC\n" + "".join("{} {} {}\n".format(*row) for row in CELL)
    aenet += "PRIMCOORD\n3 1\n" + rows("{2} {3} {4} {5} {6} {7} {8}\n", ["O", "H", "H"], POSITIONS, FORCES)
    return [
        Sample(
            "lammps-dump-text", "md.lammpstrj", dump(["O", "H", "H"], FORCES).encode(),
            dump(["S", "F", "F"], MINUS).encode(), [Frame("OH2", None, FORCES)], [Frame("SF2", None, MINUS)],
            b"1 1 O 0.0", "md.lammpstrj frame 0 is cut off or joined: it says 3 atoms, but has 1 whole rows",
        ),
        Sample(
            "xsf", "a.xsf", aenet.encode(), written("xsf", Frame("SF2", None, MINUS)),
            [Frame("OH2", -14.25, FORCES)], [Frame("SF2", None, MINUS)], b"H 0.96", "cannot read",
        ),
        Sample(
            "vasp", "POSCAR", poscar, written("vasp", other), [plain], [other],
            b"".join(poscar.splitlines(keepends=True)[8:10]), "cannot read",
        ),
        Sample(
            "vasp-xdatcar", "XDATCAR", xdatcar, written("vasp-xdatcar", other), [plain, plain], [other],
            b"".join(xdatcar.splitlines(keepends=True)[-3:-1]), "cannot read",
        ),
        Sample(
            "gen", "a.gen", gen, written("gen", other), [plain], [other],
            b"".join(gen.splitlines(keepends=True)[2:4]), "cannot read",
        ),
        Sample(
            "cif", "a.cif", written("cif", plain), written("cif", other), [plain], [other],
            b"  H   H1        1.0  0.192  0.0  0.0  1.0000\n",
            "its _chemical_formula_sum is O1H2, but its atoms are HO",
        ),
    ]  # fmt: skip


def _own() -> list[Sample]:
    """Formats that name their labels themselves."""
    labelled, other = Frame("OH2", -14.25, FORCES, STRESS), Frame("SF2", -9.75, MINUS, scaled(STRESS, 2.0))
    samples = []
    for form, file, cut, told, joined in (
        (
            "extxyz",
            "a.xyz",
            b"H  ",
            "a.xyz frame 0: the row of atom 2 (line 5) has 1 columns, but Properties names 7",
            "",
        ),
        ("traj", "a.traj", b"ASE-Trajectory", "buffer is smaller than requested size", ""),
        ("db", "a.db", b"CREATE TABLE keys", "malformed", "holds two databases, of which only the first can be read"),
    ):
        samples.append(
            Sample(form, file, written(form, labelled), written(form, other), [labelled], [other], cut, told, joined)
        )
    return samples


def runner_data(symbols: list[str], energy: float, forces: list[list[float]]) -> bytes:
    """One frame of an input.data, in Hartree and Bohr."""
    text = "begin\ncomment written by hand\n"
    text += "".join("lattice {!r} {!r} {!r}\n".format(*row) for row in scaled(CELL, 1 / BOHR))
    places, pulls = scaled(POSITIONS, 1 / BOHR), scaled(forces, BOHR / HARTREE)
    text += rows("atom {3!r} {4!r} {5!r} {2} 0.0 0.0 {6!r} {7!r} {8!r}\n", symbols, places, pulls)
    return f"{text}energy {energy / HARTREE!r}\ncharge 0.0\nend\n".encode()


def arrays(frame: Frame, numbers: list[int]) -> bytes:
    """One frame as a .npz file."""
    stream = io.BytesIO()
    np.savez(
        stream, positions=[POSITIONS], numbers=numbers, cell=CELL, energy=[frame.energy], forces=[frame.forces],
        stress=[frame.stress],
    )  # fmt: skip
    return stream.getvalue()


def library_file(name: str, write: Callable[..., Path], frame: Frame) -> bytes:
    """One frame in a file of a library."""
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder) / name, [make_atoms(frame)]).read_bytes()


def tar(name: str, content: bytes) -> bytes:
    """A tar file with one file in it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        header = tarfile.TarInfo(f"calculations/{name}")
        header.size = len(content)
        archive.addfile(header, io.BytesIO(content))
    return stream.getvalue()


def _sets() -> list[Sample]:
    """Files that other programs keep data sets in; DeePMD's systems are folders."""
    labelled, other = Frame("OH2", -14.25, FORCES, STRESS), Frame("SF2", -9.75, MINUS, scaled(STRESS, 2.0))
    return [
        Sample(
            "aselmdb", "a.aselmdb", library_file("a.aselmdb", write_aselmdb, labelled),
            library_file("a.aselmdb", write_aselmdb, other), [labelled], [other], b"nextid", "a.aselmdb: ",
            "a.aselmdb: it holds two databases, of which only the first can be read",
        ),
        Sample(
            "hdf5", "a.h5", library_file("a.h5", write_mace, labelled), library_file("a.h5", write_mace, other),
            [labelled], [other], b"property_weights", "a.h5",
            "a.h5 holds two HDF5 files, of which only the first can be read",
        ),
        Sample(
            "npz", "a.npz", arrays(labelled, [8, 1, 1]), arrays(other, [16, 9, 9]), [labelled], [other],
            b"PK\x05\x06", "File is not a zip file", "has something before its begin, as two zip files that were",
        ),
        Sample(
            "runnerdata", "input.data", runner_data(["O", "H", "H"], -14.25, FORCES),
            runner_data(["S", "F", "F"], -9.75, MINUS), [Frame("OH2", -14.25, FORCES)], [Frame("SF2", -9.75, MINUS)],
            b"energy", "input.data line 9 has 0 columns after 'energy', not 1",
        ),
        Sample(
            "archive", "a.tar", tar("a.xyz", written("extxyz", labelled)), tar("b.traj", written("traj", other)),
            [labelled], [other], b"Properties", "cannot read", "has more behind its end, as two archives that were",
        ),
    ]  # fmt: skip


SAMPLES = [*_own(), *_outputs(), *_structures(), *_sets()]

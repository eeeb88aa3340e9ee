"""Files of structures: what is put right, and what is refused."""

import ase.io
import numpy as np
import pytest
from ase import Atoms

from nequip_like.data.graph import has_label
from nequip_like.data.io.readers import read
from nequip_like.errors import DataError
from tests.data.format_samples import ASE_DATA, CASTEP_ENERGIES, Frame, written

POSCAR = written("vasp", Frame("OH2")).decode()


@pytest.mark.parametrize("comment", ["O H", "In the lab: Si O2", "ice"])
def test_poscar_without_species(write_text, comment):
    """ASE takes the species from the comment (indium!), or from a POTCAR or OUTCAR beside the file."""
    lines = POSCAR.splitlines(keepends=True)
    with pytest.raises(DataError, match="POSCAR does not name its species, as VASP 5 and newer do") as error:
        read(write_text("POSCAR", "".join([comment + "\n", *lines[1:5], *lines[6:]])))
    assert error.value.advice == "line 6 must hold the symbols, and line 7 how many of each: 'O H' above '1 2'"


def test_poscar_of_a_molecular_dynamics(write_text):
    """Velocities and the blocks of a thermostat are no second structure."""
    velocities = "\n  0.1 0.2 0.3\n  0.1 0.2 0.3\n  0.1 0.2 0.3\n"
    lattice = "Lattice velocities and vectors\n  1\n" + "  0.0 0.0 0.0\n" * 6
    for extra in (velocities, lattice + velocities):
        (graph,) = read(write_text("CONTCAR", POSCAR + extra)).frames
        assert graph["atomic_numbers"].tolist() == [8, 1, 1]


def test_poscar_with_three_scales_and_selective_dynamics(write_text):
    lines = POSCAR.splitlines(keepends=True)
    rows = [line.rstrip("\n") + "  T T F\n" for line in lines[8:11]]
    text = "".join([lines[0], "1.0 2.0 1.0\n", *lines[2:7], "Selective dynamics\n", lines[7], *rows])
    (graph,) = read(write_text("POSCAR", text)).frames
    assert np.diag(graph["cell"][0].numpy()).tolist() == [5.0, 12.0, 7.0]


def test_potcar_names_as_symbols(write_text):
    (graph,) = read(write_text("POSCAR", POSCAR.replace("O   H", "O_s H_GW"))).frames
    assert graph["atomic_numbers"].tolist() == [8, 1, 1]


def test_a_cluster_in_gen_that_is_cut_off(write_text):
    rows = "1 1 0.0 0.0 0.0\n2 2 0.96 0.0 0.0\n"
    with pytest.raises(DataError, match=r"is cut off: it says 3 atoms, but has 2"):
        read(write_text("a.gen", "3 C\nO H\n" + rows))


def test_site_that_is_occupied_in_part(tmp_path):
    text = written("cif", Frame("OH2")).decode()
    (tmp_path / "a.cif").write_text(text.replace("0.0  0.0  0.0  1.0000", "0.0  0.0  0.0  0.5000"))
    with pytest.raises(DataError, match=r"a site is occupied in part \(O: 0\.5\)"):
        read(tmp_path / "a.cif")


def test_formula_of_a_crystal_with_symmetry():
    """Symmetry makes more atoms than rows; the formula counts in any unit."""
    for file in sorted((ASE_DATA / "minerals").glob("*.cif")):
        assert len(read(file).frames) == 1


def test_xsf_of_xcrysden(tmp_path):
    """Forces in Hartree/Angstrom, no energy."""
    (tmp_path / "a.xsf").write_text("ATOMS\nO 0 0 0 0.5 0 0\nH 1 0 0 -0.5 0 0\n")
    (graph,) = read(tmp_path / "a.xsf").frames
    assert graph["forces"][0, 0].item() == pytest.approx(0.5 * 27.211386, rel=1e-7)
    assert not has_label(graph, "total_energy")


def test_xsf_animation(tmp_path):
    frames = [Atoms("OH", [[0, 0, 0], [1 + x, 0, 0]], cell=[5, 5, 5], pbc=True) for x in (0.0, 0.1)]
    for name, images in (("a", frames), ("b", [Atoms(a.symbols, a.positions) for a in frames])):
        ase.io.write(tmp_path / f"{name}.xsf", images)
        text = (tmp_path / f"{name}.xsf").read_text()
        (tmp_path / "joined.xsf").write_text(text + text)
        assert [f["pos"][1, 0].item() for f in read(tmp_path / "joined.xsf").frames] == pytest.approx([1.0, 1.1] * 2)


def test_castep_with_a_dispersion_correction(tmp_path):
    """Forces have the correction; ASE's energy has it not."""
    text = (ASE_DATA / "castep/md.castep").read_text()
    shown = "NB est. 0K energy (E-0.5TS)      =  -1351.294716003     eV\n"
    corrected = "Dispersion corrected final energy*, Ecor          =  -1352.500000000     eV\n"
    corrected += "Dispersion corrected final free energy* (Ecor-TS) =  -1352.750000000     eV\n"
    corrected += "NB dispersion corrected est. 0K energy* (Ecor-0.5TS) =  -1352.625000000     eV\n"
    (tmp_path / "a.castep").write_text(text.replace(shown, shown + corrected))
    energies = [frame["total_energy"].item() for frame in read(tmp_path / "a.castep").frames]
    assert energies == [*CASTEP_ENERGIES[:2], -1352.625]

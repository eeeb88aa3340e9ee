import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from nequip_like.data.dataset import load_dataset
from nequip_like.data.inspection.report import inspect
from nequip_like.data.io.readers import read
from nequip_like.data.labels.free_energies import measure_free_energy_gap

SMEARED = (
    "energy (sigma->0; free_energy, which the forces belong to, is up to {gap} meV/atom away), forces"  # what is told
)


def vasprun(energies):
    """A vasprun.xml of two copper atoms: for each step the energy without smearing and the free energy."""
    steps = "".join(
        f"""<calculation>
<scstep><energy><i name="e_fr_energy">{free}</i><i name="e_0_energy">{zero}</i></energy></scstep>
<structure><crystal><varray name="basis"><v>4 0 0</v><v>0 4 0</v><v>0 0 4</v></varray></crystal>
<varray name="positions"><v>0 0 0</v><v>0.5 0.5 0.5</v></varray></structure>
<varray name="forces"><v>0.1 0 0</v><v>-0.1 0 0</v></varray>
<energy><i name="e_fr_energy">{free}</i><i name="e_0_energy">{zero}</i></energy>
</calculation>"""
        for zero, free in energies
    )
    return f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling><generator><i name="program" type="string">vasp </i></generator>
<kpoints><varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>
<atominfo><array name="atoms"><set><rc><c>Cu</c><c>1</c></rc><rc><c>Cu</c><c>1</c></rc></set></array></atominfo>
<structure name="initialpos"><crystal><varray name="basis"><v>4 0 0</v><v>0 4 0</v><v>0 0 4</v></varray></crystal>
<varray name="positions"><v>0 0 0</v><v>0.5 0.5 0.5</v></varray></structure>
{steps}</modeling>"""


def test_vasprun_says_which_energy_is_read_and_leaves_the_choice(write_text):
    file = write_text("vasprun.xml", vasprun([(-7.50, -7.504), (-7.40, -7.403)]))
    reading = read(file)
    assert [frame["total_energy"].item() for frame in reading.frames] == pytest.approx([-7.50, -7.40], abs=1e-12)
    assert reading.free_energy_gap == pytest.approx(0.002, abs=1e-12)
    rows = dict(inspect(load_dataset(file, ["Cu"], 3.0)).rows())
    assert rows["read from"] == SMEARED.format(gap=2)
    chosen = {"free_energy": "total_energy"}
    reading = read(file, key_mapping=chosen)
    assert [frame["total_energy"].item() for frame in reading.frames] == [-7.504, -7.403]
    assert reading.free_energy_gap == 0.0
    rows = dict(inspect(load_dataset(file, ["Cu"], 3.0, chosen)).rows())
    assert rows["read from"] == "free_energy, forces"


@pytest.mark.parametrize("name", ["a.xyz", "a.traj", "a.db"])
def test_files_of_ase_with_both(tmp_path, labelled, name):
    frames = [labelled(bulk("Cu"), energy=-3.7, free_energy=-3.71, forces=np.zeros((1, 3))) for _ in range(2)]
    ase.io.write(tmp_path / name, frames)
    assert read(tmp_path / name).read_from["total_energy"] == SMEARED.format(gap=10).removesuffix(", forces")
    (first, _) = read(tmp_path / name, key_mapping={"free_energy": "total_energy"}).frames
    assert first["total_energy"].item() == -3.71


def test_the_gap_is_in_electronvolts(write_text):
    file = write_text("a.xyz", '1\nenergy=-1.0 free_energy=-1.001 pbc="F F F"\nCu 0 0 0\n')
    assert read(file, units={"energy": "Hartree"}).free_energy_gap == pytest.approx(0.0272113860, rel=1e-7)


def test_equal_energies_need_no_words(tmp_path, labelled):
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])
    ase.io.write(tmp_path / "a.xyz", labelled(atoms, energy=-31.0, free_energy=-31.0))
    assert read(tmp_path / "a.xyz").read_from == {"total_energy": "energy"}


@pytest.mark.parametrize(
    ("values", "name", "gap"),
    [
        ({"energy": -1.0, "free_energy": -1.5}, "energy", 0.25),
        ({"energy": -1.0, "free_energy": -1.5}, "free_energy", 0.0),
        ({"energy": -1.0}, "energy", 0.0),
        ({"energy": -1.0, "free_energy": "none"}, "energy", 0.0),
        ({"energy": -1.0, "free_energy": float("nan")}, "energy", 0.0),
        ({"energy": -1.0, "free_energy": np.zeros(2)}, "energy", 0.0),
        ({"free_energy": -1.5}, None, 0.0),
    ],
)
def test_gap(values, name, gap):
    assert measure_free_energy_gap(values, name, 2) == gap

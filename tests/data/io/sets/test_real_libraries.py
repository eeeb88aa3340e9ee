"""Published data sets, written as LMDB and HDF5 of other programs and read again: the same as from their own files."""

from pathlib import Path

import ase.io
import pytest

from nequip_like.data.io.readers import read
from tests.data.io.sets.written_sets import (
    check_same,
    write_aselmdb,
    write_fairchem,
    write_mace,
    write_nequip,
)

DATA = Path(__file__).parents[5] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")
FILES = [
    "key_zoo/Si_tiny.xyz",
    "co2_ni100/co2_ni100_300.xyz",
    "mlearn/Cu_train.xyz",
    "oc20_relax/random1447590.traj",
    "ec_emc/ECEMC.xyz",
    "3bpa/train_300K.xyz",
]
OF_OC20 = ["oc20_relax/random1447590.traj", "co2_ni100/co2_ni100_300.xyz"]
CALCULATED = ["mlearn/Cu_train.xyz", *OF_OC20]  # with labels of a calculator, which MACE's names are
CASES = [
    *[(file, write_aselmdb, "a.aselmdb") for file in FILES],
    *[(file, write_nequip, "a.lmdb") for file in FILES],
    *[(file, write_fairchem, "a.lmdb") for file in OF_OC20],
    *[(file, write_mace, "a.h5") for file in CALCULATED],
]
FRAMES = ":25"


QUICK = {"key_zoo/Si_tiny.xyz", "oc20_relax/random1447590.traj"}  # two files for each kind; of MACE and fairchem one


@pytest.mark.parametrize(
    ("file", "write", "name"),
    [
        pytest.param(
            file, *how, id=f"{Path(file).stem}-{how[0].__name__}", marks=[pytest.mark.slow] * (file not in QUICK)
        )
        for file, *how in CASES
    ],
)
def test_same_frames(tmp_path, file, write, name):
    path = write(tmp_path / name, ase.io.read(DATA / file, FRAMES))
    one, other = read(path, trust_pickle=True), read(DATA / file, index=FRAMES)
    leave_out = ["frame_index", *["frame_weight"] * (write is write_mace), *["stress"] * (write is write_fairchem)]
    check_same(one.frames, other.frames, leave_out)
    assert set(other.label_names) - {"stress"} <= set(one.label_names)

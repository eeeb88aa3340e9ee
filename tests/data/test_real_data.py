"""Data sets of others, each with the trap that it is good for. Left out where they are not at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import GraphDataset, load_dataset
from nequip_like.data.graph import has_label
from nequip_like.data.inspection.audit import audit
from nequip_like.data.inspection.report import inspect
from nequip_like.data.io.readers import read
from nequip_like.data.reference_energies import fit_least_squares
from nequip_like.data.species import species_of
from nequip_like.data.splits import duplicates
from nequip_like.errors import DataError
from tests.data.labelled_sets import ENERGY_MISTAKES, as_dataset, label_contradiction

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not here")


def test_label_names_of_gap_files():
    silicon = read(DATA / "key_zoo/Si_tiny.xyz")
    assert silicon.label_names == {
        "total_energy": ["dft_energy"],
        "forces": ["dft_force"],
        "virial": ["dft_virial"],
    }
    assert sum(has_label(frame, "stress") for frame in silicon.frames) == 52
    assert silicon.frames[0]["total_energy"].item() == -158.54496821
    alloy = read(DATA / "key_zoo/TiAl_tutorial.xyz")
    first = alloy.frames[0]
    volume = 2.614036117884091 * 2.6528336296738044 * 3.8250280122051756
    assert first["stress"][0, 0, 0].item() == pytest.approx(-5.072173561696366 / volume)


def test_mistyped_name_lists_what_there_is():
    with pytest.raises(DataError, match="dft_energy"):
        read(DATA / "key_zoo/Si_tiny.xyz", key_mapping={"dft_enrgy": "total_energy"})


def test_mixed_labels_and_periodic_isolated_atoms():
    data = DataModule(DATA / "ec_emc/ECEMC.xyz", val=20, cutoff_radius=4.0).prepare()
    assert data.reference.rule == "isolated_atoms"
    assert data.reference.energies["H"] == -12.353708076955
    assert len(data.train_set) == 180
    assert data.train_set.labels == {"total_energy": 180, "forces": 180, "stress": 180}


def test_forces_on_fixed_atoms():
    frames = read(DATA / "co2_ni100/co2_ni100_300.xyz").frames
    assert all(int((frame["forces"].abs().sum(dim=1) == 0).sum()) == 0 for frame in frames)
    assert max(float(frame["forces"].sum(dim=0).abs().max()) for frame in frames) < 0.2


def test_database():
    dataset = load_dataset(DATA / "oxide_polymorphs/oxides.db", ["O", "Ti", "V", "Ru", "Sn", "Ir"], 4.0)
    assert len(dataset) == 295
    assert dataset.labels["total_energy"] == 295


def test_the_same_trajectory_in_two_formats():
    xyz = read(DATA / "oc20_relax/oc20_random1447590.xyz").frames
    traj = read(DATA / "oc20_relax/random1447590.traj").frames
    for a, b in zip(xyz, traj, strict=True):
        torch.testing.assert_close(a["forces"], b["forces"], atol=1e-7, rtol=0)
        torch.testing.assert_close(a["total_energy"], b["total_energy"], atol=1e-6, rtol=0)


def test_copper_stress_is_noticed_and_molybdenum_is_not_accused():
    copper = inspect(load_dataset(DATA / "mlearn/Cu_train.xyz", ["Cu"], 4.0))
    assert any("stress lies 2.4 GPa" in warning for warning in copper.warnings)
    assert inspect(load_dataset(DATA / "mlearn/Mo_test.xyz", ["Mo"], 4.0)).warnings == []


def test_duplicate_of_titania():
    assert len(duplicates(read(DATA / "tio2_aenet/tio2.xyz").keys)) == 1


def test_declared_units_of_ethanol():
    energies = np.load(DATA / "rmd17_ethanol/rmd17_ethanol_train_01.npz")["energies"]
    frames = read(DATA / "rmd17_ethanol/ethanol_train_01.xyz", index=":3").frames
    factor = 0.0433641153
    assert frames[0]["total_energy"].item() == pytest.approx(energies[0] * factor, rel=1e-6)


def test_the_two_files_of_3bpa_overlap():
    with pytest.raises(DataError, match="the same structure is in train"):
        DataModule(DATA / "3bpa/train_300K.xyz", test=DATA / "3bpa/train_mixedT.xyz", cutoff_radius=3.0).prepare()


CLEAN = (
    "3bpa/iso_atoms.xyz", "co2_ni100/co2_ni100_300.xyz", "ec_emc/ECEMC.xyz", "key_zoo/Si_tiny.xyz",
    "key_zoo/TiAl_tutorial.xyz", "mlearn/Mo_train.xyz", "oc20_relax/random1447590.traj", "oxide_polymorphs/oxides.db",
    "rmd17_ethanol/ethanol_train_01.xyz", "water_pbe0/water_pbe0_64.xyz",
)  # fmt: skip


def warnings_of(name, cutoff=4.0):
    reading = read(DATA / name)
    names = species_of(reading.frames)
    return inspect(GraphDataset(reading, cutoff, names)).warnings


def all_but_slow(names, quick):
    """Names of sets as parameters: those that are not quick take minutes together."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name not in quick)) for name in names]


# Of the others, test_verdicts says the same: all is ok.
@pytest.mark.parametrize(
    "name", all_but_slow(CLEAN, ("mlearn/Mo_train.xyz", "key_zoo/TiAl_tutorial.xyz", "oc20_relax/random1447590.traj"))
)
def test_no_false_alarm(name):
    # Atoms of rubidium are up to 5.2 Angstrom apart, so a shorter cutoff is warned of.
    assert warnings_of(name, 6.0 if name.startswith("oc20") else 4.0) == []


def test_true_findings():
    (lonely,) = warnings_of("oc20_relax/random1447590.traj")
    assert lonely.startswith(
        "580 of 799 atoms have no neighbour within 4 Angstrom, in 47 frames; the nearest is 4.01 to 5.23"
    )
    (warning,) = warnings_of("3bpa/train_300K.xyz")
    assert warning.startswith("500 frames have a cell but are not periodic (pbc F F F), so the cell is not used")
    repeated, force = warnings_of("tio2_aenet/tio2.xyz")
    assert repeated.startswith("1 frames repeat an earlier one")
    assert force.startswith("a force of 71.0 eV/Angstrom")
    for name in ("Cu_train", "Cu_test"):
        (warning,) = warnings_of(f"mlearn/{name}.xyz")
        assert warning.startswith("stress lies 2.")


def test_rare_elements_of_many_are_held_near_to_the_others():
    """Without it, hafnium came to -57.6 eV; VASP's own crystal has -10.0 eV."""
    frames = read(DATA / "many_elements/materials_400.xyz").frames[:320]
    result = fit_least_squares(frames)
    assert "Hf (1), Os (1)" in result.warning
    assert result.energies["Hf"] == pytest.approx(-7.2, abs=0.1)
    assert result.residual_rms == pytest.approx(0.62, abs=0.01)
    assert min(result.energies.values()) > -16


# Sets of the CLEAN with close frames; the others have none, so that nothing can be said of their units.
CLOSE = (
    "3bpa/train_300K.xyz", "3bpa/train_mixedT.xyz", "co2_ni100/co2_ni100_300.xyz", "key_zoo/Si_tiny.xyz",
    "key_zoo/TiAl_tutorial.xyz", "mlearn/Mo_train.xyz", "oc20_relax/random1447590.traj",
    "rmd17_ethanol/ethanol_train_01.xyz", "tio2_aenet/tio2.xyz",
)  # fmt: skip


@pytest.mark.parametrize(
    "name", all_but_slow(CLOSE, ("key_zoo/Si_tiny.xyz", "co2_ni100/co2_ni100_300.xyz", "oc20_relax/random1447590.traj"))
)
def test_wrong_units_of_real_energies_and_forces_are_found(name):
    frames = read(DATA / name).frames
    assert label_contradiction(as_dataset(frames)) is None
    for mistake, changes in ENERGY_MISTAKES.items():
        if mistake != "per atom" or len(frames[0]["pos"]) > 2:
            assert (label_contradiction(as_dataset(frames, **changes)) or "").startswith("energies change"), mistake


# What the inspection command says of each set, beside ok; nothing is wrong but the stress of copper.
VERDICTS = {
    "3bpa/iso_atoms.xyz": {},
    "3bpa/train_300K.xyz": {"cells": "look"},
    "3bpa/train_mixedT.xyz": {"cells": "look"},
    "rmd17_ethanol/ethanol_train_01.xyz": {},
    "mlearn/Cu_train.xyz": {"stress": "wrong"},
    "mlearn/Mo_train.xyz": {"distances": "look"},
    "tio2_aenet/tio2.xyz": {"repeated frames": "look", "distances": "look", "forces": "look"},
    "water_pbe0/water_pbe0_64.xyz": {},
    "co2_ni100/co2_ni100_300.xyz": {},
    "oc20_relax/random1447590.traj": {"neighbours": "look"},
    "ec_emc/ECEMC.xyz": {},
    "key_zoo/Si_tiny.xyz": {},
    "key_zoo/TiAl_tutorial.xyz": {"distances": "look", "outliers": "look"},
    "oxide_polymorphs/oxides.db": {},
}


@pytest.mark.parametrize(
    "name",
    all_but_slow(
        VERDICTS,
        (
            *("3bpa/iso_atoms.xyz", "key_zoo/Si_tiny.xyz", "key_zoo/TiAl_tutorial.xyz", "tio2_aenet/tio2.xyz"),
            *("oc20_relax/random1447590.traj", "oxide_polymorphs/oxides.db"),
        ),
    ),
)
def test_verdicts(name):
    result = audit(DATA / name)
    assert {verdict.check: verdict.level for verdict in result.verdicts if verdict.level != "ok"} == VERDICTS[name]

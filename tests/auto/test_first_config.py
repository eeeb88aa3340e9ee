"""A first config says what the data are, and is one that can be trained with."""

import io
import os
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

import nequip_like as nl
from nequip_like.auto.first_config import write_first_config
from nequip_like.errors import DataError, OutputError
from nequip_like.workflow.config.check import check_config

DATA = Path(__file__).parents[2] / "tutorials" / "data"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a config for files, and read it back composed."""
    monkeypatch.chdir(tmp_path)

    def write(*files, **options):
        console = Console(file=io.StringIO())
        path = write_first_config(list(files), console=console, **options)
        config = nl.compose(path.name)
        assert check_config(config).tasks
        return config, path.read_text()

    return write


def test_crystals_with_stress(write):
    config, text = write(DATA / "mgo" / "train.xyz")
    assert config.data.train == str(DATA / "mgo" / "train.xyz")
    assert (config.data.val, config.data.test, config.data.batch_size) == (11, 11, 8)
    assert list(config.chemical_species) == ["O", "Mg"]
    assert (config.cutoff_radius, config.budget) == (5.0, None)
    assert config.training_module.loss._target_.endswith("EnergyForceStressLoss")
    assert config.data.reference_energies == "auto"
    assert "# Written by nequip-init for 110 frames of O Mg, 16 atoms each" in text
    assert "total_energy from 'energy'; forces from 'forces'; stress from 'stress'" in text
    assert "rule 'per_atom_energy_mean': O -73.2" in text


def test_molecules_beside_the_config(write, tmp_path):
    names = ["No.xyz", "${x} a.xyz"]  # which YAML and OmegaConf would read as something else
    frames = ase.io.read(DATA / "ethanol" / "train.xyz", ":63")
    for name, part in zip(names, (frames[:33], frames[33:]), strict=True):
        ase.io.write(tmp_path / name, part, format="extxyz")
    config, text = write(*names, test=[DATA / "ethanol" / "test_300K.xyz"])
    assert list(config.data.train) == names
    assert config.data.test == str(DATA / "ethanol" / "test_300K.xyz")
    assert config.data.val == 6
    assert "by rule 'isolated_atoms': H -13.568407" in text
    assert config.training_module.loss._target_.endswith("EnergyForceLoss")
    data = nl.DataModule(list(config.data.train), config.data.val, cutoff_radius=3.0, species=config.chemical_species)
    assert len(data.prepare().train_set) == 54


def test_names_and_units_of_labels(write, tmp_path):
    frames = ase.io.read(DATA / "mgo" / "train.xyz", ":12")
    for atoms in frames:
        atoms.info["e"] = atoms.calc.results["energy"] * 23.0605
        atoms.arrays["f"] = np.asarray(atoms.calc.results["forces"]) * 23.0605
        atoms.calc = None
    ase.io.write(tmp_path / "odd.xyz", frames, format="extxyz")
    names = {"e": "total_energy", "f": "forces"}
    config, text = write("odd.xyz", key_mapping=names, units={"energy": "kcal/mol"})
    assert dict(config.data.key_mapping) == names
    assert dict(config.data.units) == {"energy": "kcal/mol"}
    assert config.data.test is None
    assert "total_energy from 'e'" in text
    assert "O -73.2" in text


def test_many_species_train_with_a_robust_loss(write, tmp_path):
    frames = []
    for i, number in enumerate([*range(3, 25)] * 5):
        atoms = ase.Atoms([number, 8], [[0, 0, 0], [0, 0, 2.0 + 0.002 * i]])
        atoms.calc = SinglePointCalculator(atoms, energy=-5.0 - 0.1 * number, forces=np.zeros((2, 3)))
        frames.append(atoms)
    ase.io.write(tmp_path / "many.xyz", frames, format="extxyz")
    config, text = write("many.xyz")
    assert config.training_module.loss.function == "huber"
    assert "# Of 22 species a few strained frames" in text


def test_a_config_is_never_overwritten(tmp_path):
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(OutputError, match="is there already"):
        write_first_config([DATA / "mgo" / "train.xyz"], tmp_path / "config.yaml")
    assert (tmp_path / "config.yaml").read_text() == "mine"


def test_data_that_nobody_can_train_on(tmp_path):
    ase.io.write(tmp_path / "bare.xyz", [ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.01 * i]]) for i in range(9)])
    with pytest.raises(DataError, match="no frame has an energy or forces"):
        write_first_config([tmp_path / "bare.xyz"], tmp_path / "config.yaml")
    assert os.listdir(tmp_path) == ["bare.xyz"]

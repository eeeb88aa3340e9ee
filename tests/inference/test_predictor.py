"""Predictions do not depend on how structures are batched."""

import ase.io
import numpy as np
import pytest
import torch
from ase.calculators.calculator import PropertyNotImplementedError
from ase.constraints import FixAtoms

from nequip_like.data.dataset import load_dataset
from nequip_like.data.io.readers import read_frames
from nequip_like.errors import ConfigError, DataError, ModelError
from nequip_like.inference import save
from nequip_like.inference.predictor import Predictor
from nequip_like.integrations.ase import NequIPCalculator


@pytest.fixture
def dataset(tmp_path, write_labelled, make_potential):
    potential = make_potential()
    return load_dataset(write_labelled(tmp_path / "a.xyz"), potential.type_names, potential.cutoff)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batches_equal_single_structures(dataset, make_potential, batch_size):
    potential = make_potential()
    predictions = Predictor(potential, batch_size=batch_size).predict(dataset)
    assert len(predictions) == len(dataset)
    for frame, prediction in zip(dataset.frames, predictions, strict=True):
        alone = potential(frame)
        for key in potential.predicted_fields:
            torch.testing.assert_close(prediction[key], alone[key], rtol=1e-12, atol=1e-12, equal_nan=True)


def test_training_mode_is_left_as_it_was(dataset, make_potential):
    potential = make_potential().train()
    (prediction, *_) = Predictor(potential).predict(dataset)
    assert potential.training
    assert not any(value.requires_grad for value in prediction.values())


def test_energy_only(dataset, make_potential):
    (prediction, *_) = Predictor(make_potential(do_derivatives=False)).predict(dataset)
    assert set(prediction) == {"total_energy", "atomic_energy", "num_atoms"}


def test_nothing_to_predict(make_potential):
    assert Predictor(make_potential()).predict([]) == []


def test_batch_size_is_positive(make_potential):
    with pytest.raises(ConfigError, match="batch_size"):
        Predictor(make_potential(), batch_size=0)


# --- structures of ASE, and files


@pytest.fixture
def images(tmp_path, write_labelled):
    return ase.io.read(write_labelled(tmp_path / "many.xyz"), ":")


def test_atoms_one_and_many(images, make_potential, tmp_path):
    potential = make_potential()
    calculator = NequIPCalculator(potential)
    predictor = Predictor(potential, batch_size=3)
    many, graphs = predictor.predict(images), read_frames(images)
    for atoms, prediction in zip(images, many, strict=True):
        alone = predictor.predict(atoms)
        atoms.calc = calculator
        for found in (prediction, alone):
            assert set(found) == {*potential.predicted_fields, "num_atoms"}
            assert found["total_energy"].item() == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
            np.testing.assert_allclose(found["forces"], atoms.get_forces(), rtol=1e-12, atol=1e-12)
    for other in (tmp_path / "many.xyz", str(tmp_path / "m*.xyz"), graphs, iter(images)):
        for prediction, again in zip(many, predictor.predict(other), strict=True):
            torch.testing.assert_close(prediction, again, rtol=1e-12, atol=1e-12, equal_nan=True)
    assert predictor.predict(graphs[0])["total_energy"].item() == pytest.approx(
        many[0]["total_energy"].item(), rel=1e-12
    )


def test_a_molecule_has_no_stress(make_potential):
    """NaN of the same shape as that of a crystal, so that predictions can be put together; as Atoms it has none."""
    molecule = ase.Atoms("CO", [[0, 0, 0], [0, 0, 1.2]])
    predictor = Predictor(make_potential())
    alone, together = predictor.predict(molecule), predictor.predict([molecule, molecule])[1]
    for prediction in (alone, together):
        for name in ("stress", "virial"):
            assert prediction[name].shape == (1, 3, 3)
            assert bool(prediction[name].isnan().all())
    with pytest.raises(PropertyNotImplementedError):
        predictor.predict_atoms(molecule).get_stress()


def test_labels_do_not_matter(images, make_potential):
    """A choice between two labels is none of a prediction, nor are results of another structure."""
    atoms = images[0]
    atoms.info |= {"dft_energy": 1.0, "ref_energy": 2.0}
    atoms.positions += 0.1
    predictor = Predictor(make_potential())
    assert predictor.predict(atoms)["total_energy"].item() == pytest.approx(
        predictor.predict(ase.Atoms(atoms.symbols, atoms.positions))["total_energy"].item(), rel=1e-12
    )


def test_predictions_on_atoms(images, make_potential, tmp_path):
    images[1].info["config_type"] = "bulk"
    images[1].set_constraint(FixAtoms([0]))
    potential = make_potential()
    predictor = Predictor(potential)
    found = predictor.predict_atoms(images)
    assert [atoms is old for atoms, old in zip(found, images, strict=True)] == [False] * 7
    assert found[1].info == images[1].info
    for atoms, prediction in zip(found, predictor.predict(images), strict=True):
        assert atoms.get_potential_energy() == prediction["total_energy"].item()
        np.testing.assert_array_equal(atoms.get_forces(apply_constraint=False), prediction["forces"])
        np.testing.assert_array_equal(atoms.get_potential_energies(), prediction["atomic_energy"][:, 0])
        if atoms.pbc.any():
            np.testing.assert_array_equal(atoms.get_stress(voigt=False), prediction["stress"][0])
        else:
            assert "stress" not in atoms.calc.results
    one = predictor.predict_atoms(images[0])
    assert one.get_potential_energy() == pytest.approx(found[0].get_potential_energy(), rel=1e-12)
    ase.io.write(tmp_path / "predicted.traj", found)
    assert ase.io.read(tmp_path / "predicted.traj").get_potential_energy() == found[-1].get_potential_energy()


def test_model_by_its_file(images, make_potential, tmp_path):
    save(make_potential(), tmp_path / "model.safetensors")
    expected = Predictor(make_potential()).predict(images[0])
    torch.testing.assert_close(Predictor(tmp_path / "model.safetensors").predict(images[0]), expected, equal_nan=True)


def test_what_cannot_be_predicted(images, make_potential, tmp_path, write_labelled):
    predictor = Predictor(make_potential())
    with pytest.raises(DataError, match="Atoms 1 has S, which is not among the species H, C, O"):
        predictor.predict([images[0], ase.Atoms("S", [[0, 0, 0]])])
    with pytest.raises(ConfigError, match="entry 0 is Atoms and entry 1 is a file name"):
        predictor.predict([images[0], "a.xyz"])
    with pytest.raises(ConfigError, match="3 is no file and no structure"):
        predictor.predict(3)
    for other in (load_dataset(images, ["O", "C", "H"], 3.0), load_dataset(images, ["H", "C", "O"], 2.5)):
        with pytest.raises(ModelError, match="data set 'structures' was made for the species"):
            predictor.predict(other)


def test_graphs_of_another_model_are_not_mistaken(images, make_potential):
    """Types and neighbours of a graph may be those of another model; they are made anew."""
    predictor = Predictor(make_potential())
    expected = predictor.predict(images[0])
    other = load_dataset(images[0], ["O", "C", "H"], 1.5)[0]
    torch.testing.assert_close(predictor.predict(other), expected, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_predictions_do_not_inherit_stated_units(make_potential, tmp_path):
    """They are in eV, and a file of them can be read again."""
    molecule = ase.Atoms("CO", [[0, 0, 0], [0, 0, 1.2]])
    molecule.info |= {"energy_unit": "Hartree", "name": "first"}
    predicted = Predictor(make_potential()).predict_atoms(molecule)
    assert predicted.info["name"] == "first"
    assert "energy_unit" not in predicted.info
    assert molecule.info["energy_unit"] == "Hartree"
    ase.io.write(tmp_path / "predicted.xyz", predicted)
    (graph,) = read_frames(tmp_path / "predicted.xyz")
    assert float(graph["total_energy"]) == pytest.approx(predicted.get_potential_energy(), abs=1e-6)

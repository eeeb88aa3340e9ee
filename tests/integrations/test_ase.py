"""The ASE calculator: the predictor's numbers, those of finite differences, and clear errors."""

import pickle

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.constraints import FixAtoms
from ase.md.verlet import VelocityVerlet

from nequip_like.data.dataset import load_dataset
from nequip_like.data.graph import edge_vectors
from nequip_like.errors import ConfigError, ModelError, ModelFileError
from nequip_like.inference import Predictor, save
from nequip_like.integrations.ase import NequIPCalculator
from nequip_like.model.potential import Potential


@pytest.fixture
def potential(make_potential):
    return make_potential(l_max=2, r_max=3.5)


def molecule(seed=0):
    atoms = ase.build.molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=seed)
    return atoms


def crystal(seed=0):
    atoms = ase.build.bulk("CO", "zincblende", a=3.8).repeat((2, 1, 1))
    atoms.rattle(0.1, seed=seed)
    return atoms


def test_same_as_predictor(tmp_path, potential, write_labelled):
    path = write_labelled(tmp_path / "a.xyz")
    dataset = load_dataset(path, potential.type_names, potential.cutoff)
    calculator = NequIPCalculator(potential)
    for atoms, prediction in zip(ase.io.read(path, ":"), Predictor(potential).predict(dataset), strict=True):
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(prediction["total_energy"].item(), rel=1e-13)
        assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
        np.testing.assert_allclose(atoms.get_forces(), prediction["forces"].numpy(), rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            atoms.get_potential_energies(), prediction["atomic_energy"].numpy()[:, 0], rtol=0, atol=1e-12
        )
        if atoms.pbc.all():
            np.testing.assert_allclose(
                atoms.get_stress(voigt=False), prediction["stress"][0].numpy(), rtol=0, atol=1e-13
            )


@pytest.mark.parametrize("structure", [molecule, crystal])
def test_forces_are_finite_differences(potential, structure):
    atoms = structure()
    atoms.calc = NequIPCalculator(potential)
    forces = atoms.get_forces()
    step = 1e-4
    for atom, axis in [(0, 0), (1, 2), (len(atoms) - 1, 1)]:
        energy = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[atom, axis] += sign * step
            moved.calc = atoms.calc
            energy.append(moved.get_potential_energy())
        assert forces[atom, axis] == pytest.approx(-(energy[0] - energy[1]) / (2 * step), rel=1e-6, abs=1e-7)


def test_stress_is_a_finite_difference(potential):
    atoms = crystal()
    calculator = NequIPCalculator(potential)
    atoms.calc = calculator
    stress = atoms.get_stress(voigt=False)
    step = 1e-5
    for row, column in [(0, 0), (1, 1), (2, 2), (0, 1), (1, 2)]:
        energy = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[row, column] += sign * step / 2
            strain[column, row] += sign * step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell[:] @ strain, scale_atoms=True)
            strained.calc = calculator
            energy.append(strained.get_potential_energy())
        numeric = (energy[0] - energy[1]) / (2 * step) / atoms.get_volume()
        assert stress[row, column] == pytest.approx(numeric, rel=1e-5, abs=1e-8)
    assert calculator.neighbor_list.builds == 1  # so small strains leave the list valid


@pytest.mark.parametrize("structure", [molecule, crystal])
def test_skin_changes_no_number(potential, structure):
    kept, fresh = NequIPCalculator(potential, skin=0.5), NequIPCalculator(potential, skin=0.0)
    atoms = structure()
    random = np.random.default_rng(1)
    for _ in range(15):
        atoms.rattle(0.02, rng=random)
        results = []
        for calculator in (kept, fresh):
            atoms.calc = calculator
            results.append((atoms.get_potential_energy(), atoms.get_forces()))
        assert results[0][0] == results[1][0]
        np.testing.assert_array_equal(results[0][1], results[1][1])
    assert kept.neighbor_list.builds < fresh.neighbor_list.builds == 15


@pytest.mark.parametrize("structure", [molecule, crystal])
def test_energy_is_conserved(make_potential, structure):
    """Verlet's energy error is of second order in the time step, if the forces are those of the energy."""
    fluctuations = []
    for step in (0.4, 0.2):
        atoms = structure()
        atoms.calc = NequIPCalculator(make_potential(r_max=3.5, per_type_energy_scales=0.5))
        thermal = np.sqrt(300 * units.kB * atoms.get_masses())[:, None]
        atoms.set_momenta(thermal * np.random.default_rng(0).normal(size=(len(atoms), 3)))
        dynamics = VelocityVerlet(atoms, step * units.fs)
        energies = []
        for _ in range(20):
            dynamics.run(round(0.8 / step))
            energies.append(atoms.get_total_energy())
        assert atoms.calc.neighbor_list.builds < 10
        fluctuations.append(np.ptp(energies) / len(atoms))
    assert fluctuations[0] < 1e-3
    assert 3.5 < fluctuations[0] / fluctuations[1] < 4.5


def test_from_files(tmp_path, potential):
    save(potential, tmp_path / "model.safetensors")
    atoms = molecule()
    energies = []
    for model in (potential, tmp_path, str(tmp_path / "model.safetensors")):
        atoms.calc = NequIPCalculator(model)
        energies.append(atoms.get_potential_energy())
    assert energies[0] == energies[1] == energies[2]
    with pytest.raises(ModelFileError):
        NequIPCalculator(tmp_path / "nothing")


def test_isolated_atom(potential):
    atoms = Atoms("H", calculator=NequIPCalculator(potential))
    assert atoms.get_potential_energy() == -1.5
    np.testing.assert_array_equal(atoms.get_forces(), np.zeros((1, 3)))


def test_unknown_species(potential):
    atoms = Atoms("HNaCl", positions=np.eye(3) * 3, calculator=NequIPCalculator(potential))
    with pytest.raises(ModelError, match=r"does not know Na, Cl; it was trained on H, C, O") as error:
        atoms.get_potential_energy()
    assert "train" in error.value.advice


def test_periodic_without_a_cell(potential):
    atoms = molecule()
    atoms.calc = NequIPCalculator(potential)
    atoms.pbc = True
    with pytest.raises(ModelError, match="does not span"):
        atoms.get_forces()
    atoms.set_cell([10.0, 10.0, 0.0])
    with pytest.raises(ModelError, match="does not span"):
        atoms.get_forces()
    atoms.pbc = [True, True, False]
    assert np.isfinite(atoms.get_forces()).all()


def test_cell_too_small(potential):
    atoms = Atoms("H", cell=[0.3, 9.0, 9.0], pbc=True, calculator=NequIPCalculator(potential))
    with pytest.raises(ModelError, match=r"cell is too small: each atom is 0\.3 Angstrom"):
        atoms.get_potential_energy()


def test_positions_not_finite(potential):
    atoms = molecule()
    atoms.calc = NequIPCalculator(potential)
    atoms.positions[3, 1] = np.nan
    with pytest.raises(ModelError, match="position of atom 3"):
        atoms.get_forces()


def test_atoms_at_one_place(potential):
    atoms = Atoms("HH", positions=np.zeros((2, 3)), calculator=NequIPCalculator(potential))
    with pytest.raises(ModelError, match="same place"):
        atoms.get_forces()


def test_stress_of_a_molecule(potential):
    atoms = molecule()
    atoms.calc = NequIPCalculator(potential)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()
    assert np.isfinite(atoms.get_forces()).all()


def test_model_without_derivatives(make_potential):
    atoms = molecule()
    atoms.calc = NequIPCalculator(make_potential(do_derivatives=False))
    assert np.isfinite(atoms.get_potential_energy())
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_forces()


def test_bad_arguments(potential):
    with pytest.raises(ModelError, match="skin"):
        NequIPCalculator(potential, skin=-0.1)
    with pytest.raises(ConfigError, match="device"):
        NequIPCalculator(potential, device="cuda:77")


@pytest.mark.parametrize(
    ("name", "hint"), [("devise", "did you mean 'device'? "), ("family", "did you mean 'families'? "), ("xc", "")]
)
def test_unknown_arguments_are_refused(potential, name, hint):
    with pytest.raises(ConfigError) as caught:
        NequIPCalculator(potential, **{name: "cpu"})
    assert caught.value.message == f"NequIPCalculator has no argument '{name}'"
    assert caught.value.advice == (
        f"{hint}known: atoms, device, directory, families, ignore_bad_restart_file, label, model, restart, skin"
    )


def test_arguments_of_ase_are_taken(potential, tmp_path):
    atoms = molecule()
    calculator = NequIPCalculator(potential, label="water", directory=tmp_path, atoms=atoms, restart=None)
    assert (calculator.prefix, calculator.directory, atoms.calc) == ("water", str(tmp_path), calculator)
    assert np.isfinite(atoms.get_forces()).all()


def test_float32_model(make_potential):
    atoms = molecule()
    forces = []
    for dtype in ("float32", "float64"):
        atoms.calc = NequIPCalculator(make_potential(model_dtype=dtype))
        forces.append(atoms.get_forces())
        assert forces[-1].dtype == np.float64
    assert torch.get_default_dtype() == torch.float32


class Recording:
    """A potential's graphs, as they come."""

    def __init__(self, potential):
        self.graphs = []
        potential.register_forward_pre_hook(lambda _, arguments: self.graphs.append(arguments[0]))


@pytest.mark.parametrize("structure", [molecule, crystal])
@pytest.mark.parametrize("accepts_skin_edges", [False, True])
def test_what_is_kept_between_steps(potential, structure, accepts_skin_edges, monkeypatch):
    """All tensors but the positions, and the edges where the potential takes those in the skin; no number changes."""
    fresh = NequIPCalculator(potential, skin=0.0)
    atoms, results = structure(), []
    trajectory = [atoms.positions + shift for shift in (0.0, 0.01, np.linspace(0, 0.05, 3))]
    for positions in trajectory:
        atoms.positions = positions
        fresh.calculate(atoms)
        results.append(fresh.results)
    monkeypatch.setattr(Potential, "accepts_skin_edges", accepts_skin_edges)
    recording, calculator = Recording(potential), NequIPCalculator(potential, skin=0.5)
    for positions, expected in zip(trajectory, results, strict=True):
        atoms.positions = positions
        calculator.calculate(atoms)
        assert calculator.results.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(calculator.results[key], value, rtol=0, atol=1e-12)
    assert calculator.neighbor_list.builds == 1
    first, *others = recording.graphs
    constant = {"cell", "pbc", "atomic_numbers", "num_atoms", "frame_index", "atom_types", "batch"}
    constant |= {"edge_index", "edge_cell_shift"} if accepts_skin_edges else set()
    for graph in others:
        assert {key for key in graph if graph[key] is first[key]} == constant
        assert graph["pos"].data_ptr() != first["pos"].data_ptr()
    lengths = torch.linalg.vector_norm(edge_vectors(first), dim=1)
    assert (float(lengths.max()) > 3.5) == accepts_skin_edges


def test_every_change_of_the_structure_counts(potential):
    """One calculator, structure after structure: always the numbers of a calculator that has seen no other."""
    kept = NequIPCalculator(potential)
    atoms = crystal()

    def agree():
        atoms.calc = kept
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = NequIPCalculator(potential)
        assert energy == atoms.get_potential_energy()
        np.testing.assert_array_equal(forces, atoms.get_forces())
        return energy

    energies = [agree()]
    atoms.positions[0, 0] += 1e-9
    energies.append(agree())
    atoms.numbers[0], atoms.numbers[1] = atoms.numbers[1], atoms.numbers[0]
    energies.append(agree())
    atoms.cell[2] *= 1.001
    energies.append(agree())
    atoms.pbc = [True, True, False]
    energies.append(agree())
    atoms = atoms[:-1]
    energies.append(agree())
    assert len(set(energies)) == len(energies)


def test_what_is_the_same_structure(potential):
    """Charges, momenta and a copy give no new calculation; ASE would have calculated for charges."""
    atoms = crystal()
    recording = Recording(potential)
    atoms.calc = NequIPCalculator(potential)
    assert atoms.calc.check_state(atoms) == list(all_changes)
    atoms.get_forces()
    atoms.get_stress()
    atoms.set_initial_charges(np.ones(len(atoms)))
    atoms.set_momenta(np.ones((len(atoms), 3)))
    atoms.get_potential_energy()
    copy = atoms.copy()
    copy.calc = atoms.calc
    copy.get_forces()
    assert len(recording.graphs) == 1
    copy.positions[0] += 1e-3
    copy.cell[0, 0] += 1e-3
    assert atoms.calc.check_state(copy) == ["positions", "cell"]
    copy.numbers[0] = 1
    copy.pbc = False
    assert atoms.calc.check_state(copy) == ["positions", "numbers", "cell", "pbc"]
    assert atoms.calc.check_state(copy[1:]) == ["positions", "numbers", "cell", "pbc"]


def test_a_bad_position_after_good_ones(potential):
    """The short way from step to step refuses what the first step refuses, and goes on afterwards."""
    atoms = crystal()
    atoms.calc = NequIPCalculator(potential)
    energy = atoms.get_potential_energy()
    good = atoms.positions.copy()
    for bad, message in [(np.nan, "position of atom 2"), (np.inf, "position of atom 2"), (1e6, r"1e\+06 Angstrom")]:
        atoms.positions[2, 1] = bad
        with pytest.raises(ModelError, match=message):
            atoms.get_forces()
    atoms.positions = good
    assert atoms.get_potential_energy() == energy


def test_cell_that_shrinks_too_far(potential):
    """The check of images is made in each step, also where the list is kept."""
    atoms = Atoms("H", cell=[0.51, 30.0, 30.0], pbc=True, calculator=NequIPCalculator(potential, skin=0.5))
    atoms.get_potential_energy()
    atoms.set_cell([0.499, 30.0, 30.0])
    with pytest.raises(ModelError, match=r"0\.499 Angstrom"):
        atoms.get_potential_energy()
    assert atoms.calc.neighbor_list.builds == 1


def test_only_what_changed_goes_to_the_device(potential, monkeypatch):
    """torch's device without memory stands for a GPU; no computation is made."""
    monkeypatch.setattr(Potential, "accepts_skin_edges", False)
    calculator = NequIPCalculator(potential)
    calculator._predictor.device = torch.device("meta")
    atoms = crystal()
    graphs = []
    for _ in range(3):
        graphs.append(calculator._move_to_device(calculator._build_graph(atoms)))
        atoms.positions += 0.01
    atoms.cell[0] *= 1.001
    graphs.append(calculator._move_to_device(calculator._build_graph(atoms)))
    first, second, third, other_cell = graphs
    assert all(value.device.type == "meta" for value in first.values())
    for one, other in [(first, second), (second, third)]:
        assert {key for key in one if one[key] is not other[key]} == {"pos", "edge_index", "edge_cell_shift"}
    assert other_cell["cell"] is not third["cell"]


def test_the_last_structure_is_a_copy(potential):
    """As ASE's own calculators keep it: what is changed later, in arrays, cell, notes or constraints, is not in it."""
    atoms = crystal()
    atoms.set_constraint(FixAtoms([0]))
    atoms.info["name"] = "first"
    atoms.set_tags(1)
    atoms.calc = calculator = NequIPCalculator(potential)
    assert calculator.atoms is None
    atoms.get_potential_energy()
    expected = atoms.copy()
    atoms.positions += 0.1
    atoms.cell[0, 0] += 0.1
    atoms.pbc = [True, True, False]
    atoms.info["name"] = "second"
    atoms.set_tags(2)
    atoms.constraints[0].index[:] = 1
    first = calculator.atoms
    assert first is calculator.atoms
    assert first == expected
    assert (first.info, first.get_tags().tolist()) == ({"name": "first"}, [1] * len(first))
    assert first.constraints[0].index.tolist() == [0]
    assert calculator.get_property("energy") == calculator.results["energy"]  # without atoms: of the last ones
    atoms.pbc = True
    atoms.get_forces()
    assert calculator.atoms is not first  # whoever holds the first one keeps it
    assert first == expected
    assert calculator.atoms == atoms
    assert pickle.loads(pickle.dumps(calculator)).atoms == atoms
    calculator.reset()
    assert calculator.atoms is None

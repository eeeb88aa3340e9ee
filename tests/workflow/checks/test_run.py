"""Each planted fault is found by the check that names it; a sound model passes."""

import importlib.util
import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from nequip_like.errors import ConfigError, DataError, OutputError
from nequip_like.inference import save
from nequip_like.inference.predictor import Predictor
from nequip_like.workflow.checks import bonds, check_potential, elastic
from nequip_like.workflow.checks.dimers import _judge_pair
from nequip_like.workflow.checks.elastic import compute_elastic_constants
from nequip_like.workflow.checks.equation_of_state import find_equation
from nequip_like.workflow.checks.references import fit_shifts
from nequip_like.workflow.checks.subject import CheckedModel, NamedStructure
from tests.workflow.checks.models import FAMILIES, build_flickering, build_morse, build_signed, build_without_envelope

OF_THE_MODEL = ["references", "symmetry", "forces", "stress", "cutoff", "dimers"]
OF_LAYERS = ["symmetry", "forces", "stress", "cutoff", "bonds"]
NETWORK = {
    "type_names": ["H", "C", "O"],
    "r_max": 3.0,
    "num_features": 4,
    "num_layers": 2,
    "radial_mlp_width": 8,
    "avg_num_neighbors": 5.0,
    "per_type_energy_scales": 2.0,
}


@pytest.fixture(scope="module")
def copper():
    """Strained and rattled copper with the labels of the sound model."""
    rng = np.random.default_rng(0)
    made = []
    for factor in (0.98, 1.0, 1.02):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(factor * atoms.cell.array, scale_atoms=True)
        atoms.rattle(0.05, rng=rng)
        made.append(atoms)
    return Predictor(build_morse()).predict_atoms(made)


@pytest.fixture(scope="module")
def organic():
    """A molecule, and a crystal of all three species."""
    rng = np.random.default_rng(1)
    crystal = bulk("CO", "zincblende", a=3.6).repeat((2, 1, 1))
    crystal.symbols[3] = "H"
    structures = [molecule("CH3CH2OH"), crystal]
    for atoms in structures:
        atoms.rattle(0.05, rng=rng)
    return structures


@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        ({}, []),
        ({"dtype": "float32"}, []),
        ({"turned_stress": True}, ["stress"]),
        ({"shifts": [0.0]}, ["references"]),
    ],
    ids=["sound", "sound_float32", "stress", "shift"],
)
def test_a_fault_is_found_by_its_check_alone(copper, fault, failed):
    verdicts = check_potential(build_morse(**fault), copper, OF_THE_MODEL, frames=1)
    assert verdicts.failed == failed, verdicts
    assert all(verdict.advice for verdict in verdicts if verdict.level == "fail")
    assert verdicts.level == ("fail" if failed else "pass")


def test_a_missing_envelope_is_found_by_its_check_alone(copper):
    broken = build_morse(envelope=False)
    labelled = Predictor(broken).predict_atoms(copper)
    verdicts = check_potential(broken, labelled, OF_THE_MODEL, frames=1)
    assert verdicts.failed == ["cutoff"], verdicts


@pytest.mark.parametrize("model_dtype", ["float32", "float64"])
def test_a_sound_network_passes(organic, make_potential, model_dtype):
    potential = make_potential(**NETWORK, model_dtype=model_dtype, kernel="reference")
    verdicts = check_potential(potential, organic, OF_LAYERS)
    assert verdicts.level == "pass", verdicts


def test_signs_in_a_kernel_are_found(organic):
    verdicts = check_potential(build_signed(**NETWORK, model_dtype="float32"), organic, ["symmetry", "forces"])
    assert verdicts.failed == ["symmetry"]
    failed = [verdict.of for verdict in verdicts if verdict.level == "fail"]
    assert failed == ["rotation"]
    assert "treats x, y and z differently" in verdicts["symmetry"].advice


def test_signs_that_change_are_found(organic):
    verdicts = check_potential(build_flickering(**NETWORK, model_dtype="float32"), organic, ["symmetry"])
    assert verdicts.of_check("symmetry")[0].level == "fail"
    assert verdicts.of_check("symmetry")[0].of == "repeatability"


def test_a_network_without_envelope_is_found(organic):
    potential = build_without_envelope(**NETWORK, model_dtype="float32")
    verdicts = check_potential(potential, organic, ["symmetry", "forces", "stress", "cutoff"])
    assert verdicts.failed == ["cutoff"], verdicts


@pytest.mark.slow
def test_all_checks_of_a_sound_model(copper, tmp_path):
    verdicts = check_potential(build_morse(), copper, frames=1, picoseconds=0.1, output=tmp_path)
    assert verdicts.level == "pass", verdicts
    skipped = [] if importlib.util.find_spec("phonopy") else ["phonons"]
    assert [name for name, level in verdicts.levels.items() if level == "skipped"] == skipped
    assert {path.name for path in tmp_path.iterdir()} == {"check.html", "check.json", "check.png"}
    content = json.loads((tmp_path / "check.json").read_text())
    assert (content["level"], content["failed"]) == ("pass", [])
    assert len(content["verdicts"]) == len(verdicts)


def test_a_wrong_stress_leaves_cells_alone(copper):
    verdicts = check_potential(build_morse(turned_stress=True), copper, ["eos", "elastic", "phonons"], frames=1)
    assert set(verdicts.levels.values()) == {"skipped"}
    assert "see stress" in verdicts["eos"].text


def test_shifts_are_told_from_poor_models():
    counts = np.array([[2, 1], [4, 2], [1, 1], [2, 2], [0, 2], [3, 1]])
    shifted = fit_shifts(counts @ [0.5, -432.0], counts)
    assert (shifted.remaining < 1e-9, shifted.is_determined, shifted.is_certain) == (True, True, True)
    poor = fit_shifts(counts.sum(1) * np.array([0.1, -0.1, 0.1, -0.1, 0.1, -0.1]), counts)
    assert poor.explained < 3 * poor.remaining
    alike = fit_shifts(np.array([-2040.0, -2040.0]), np.array([[2, 1], [2, 1]]))
    assert (alike.explained, alike.is_determined, alike.is_certain) == (pytest.approx(680.0), False, False)


def test_elastic_constants_of_a_pair_potential():
    """Without stress its crystals have C12 = C44 (Cauchy), and the Voigt average is the bulk modulus."""
    named = NamedStructure("Cu", bulk("Cu"))
    model = CheckedModel(build_morse(), [named], [named])
    equation = find_equation(model, named)
    assert equation.at_minimum
    found, unsettled = compute_elastic_constants(model, equation.atoms)
    assert unsettled == 0
    constants = 160.21766 * found
    assert constants[0, 1] == pytest.approx(constants[3, 3], rel=0.01)
    assert constants[:3, :3].mean() == pytest.approx(equation.bulk_modulus, rel=0.05)
    assert constants[0, 0] == pytest.approx(constants[2, 2], rel=1e-3)
    assert constants[0, 3] == pytest.approx(0.0, abs=0.1)


def test_phonopy_is_optional(copper, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    verdicts = check_potential(build_morse(), copper, ["phonons"], frames=1)
    assert verdicts.level == "skipped"
    assert verdicts["phonons"].text == 'phonopy is not installed: pip install "nequip-like[phonopy]"'


def test_a_model_without_forces(organic, make_potential):
    potential = make_potential(**NETWORK, do_derivatives=False).train()
    verdicts = check_potential(potential, organic, ["symmetry", "forces", "stress", "cutoff", "bonds", "drift", "eos"])
    levels = verdicts.levels
    assert {name for name, level in levels.items() if level == "skipped"} == {
        "forces",
        "stress",
        "bonds",
        "drift",
        "eos",
    }
    assert levels["symmetry"] == levels["cutoff"] == "pass"
    assert potential.training


def test_without_data_structures_are_made():
    verdicts = check_potential(build_morse(), only=["references", "stress", "eos"])
    assert verdicts.levels == {"references": "skipped", "stress": "pass", "eos": "pass"}
    assert verdicts["eos"].of.startswith("made crystal Cu (fcc)")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"only": ["strees"]}, "only"),
        ({"only": "stress"}, r"only is the text 'stress'\n  -> give a list: \[stress\]"),
        ({"only": ["stress"], "skip": ["stress"]}, "no check is left"),
        ({"frames": 0}, "frames is 0"),
        ({"picoseconds": -1.0}, "picoseconds is -1.0"),
        ({"picoseconds": 0.001}, r"picoseconds is 0.001\n  -> give 0.01 or more"),
        ({"seed": -1}, "seed is -1"),
    ],
    ids=["unknown", "text", "none_left", "frames", "picoseconds", "too_short", "seed"],
)
def test_mistakes_are_refused(given, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        check_potential(build_morse(), **given)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_else(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"):
        check_potential(build_morse(), output=tmp_path / "file", progress=pytest.fail)


def test_differences_to_another_method_are_no_whole_energies(copper, tmp_path):
    path = tmp_path / "model.safetensors"
    save(build_morse(shifts=[0.0]), path, {"base": {"kind": "labels", "base": {"pbe": "total_energy"}}})
    verdicts = check_potential(path, copper, ["references", "dimers", "forces"], families=FAMILIES, frames=1)
    assert verdicts.levels == {"references": "skipped", "forces": "pass", "dimers": "skipped"}
    assert verdicts["references"].text == "the model predicts differences to the labels pbe, no whole energies"


def test_single_atoms_do_not_move():
    verdicts = check_potential(build_morse(), [Atoms("Cu")], ["drift"])
    assert verdicts["drift"].text == "all frames of the data are single atoms"


def test_pairs_of_the_data_are_looked_at(copper):
    verdicts = check_potential(build_morse(("Ag", "Cu")), copper, ["dimers"], frames=1)
    assert [verdict.of for verdict in verdicts] == ["Cu-Cu"]


def test_close_atoms_that_attract_are_warned_of(organic, make_potential):
    """The model contradicts itself nowhere: what it says of two atoms alone is for somebody to judge."""
    verdicts = check_potential(make_potential(**NETWORK), organic, ["dimers"])
    assert (verdicts.level, verdicts.failed) == ("warn", [])
    assert "pair_potential=zbl" in verdicts["dimers"].advice
    distances = np.linspace(0.5, 3.0, 20)
    holes = -1000.0 / distances
    assert _judge_pair("C-O", distances, holes, 1.4).level == "warn"
    holes[0] = np.nan
    verdict = _judge_pair("C-O", distances, holes, 1.4)
    assert (verdict.level, verdict.text) == ("fail", "the energy of C-O is not finite at 0.50 Å")


def test_curvature_near_the_cutoff_is_no_kink_of_the_network(monkeypatch):
    """One step in the second derivative: with a third atom near the cutoff of the moved one it is only warned of."""
    kinked = np.linspace(-0.2, 0.6, 59), np.where(np.arange(59) < 30, 5.0, -5.0)
    monkeypatch.setattr(bonds, "_measure_stiffness", lambda *_: kinked)
    dimer, third = [[0, 0, 0], [2.4, 0, 0]], [2.4, 5.4, 0]  # the cutoff is 5.5
    found = []
    for positions in (dimer, [*dimer, third]):
        sample = NamedStructure("Cu", Atoms(f"Cu{len(positions)}", positions))
        verdict, _ = bonds.ask_bonds(CheckedModel(build_morse(), [sample], []))
        assert verdict.value == pytest.approx(100 * 2 * 50 / 231)  # of twice the largest value, fitted to 7 points
        found.append((verdict.of, verdict.level))
    assert found == [("second derivative", "fail"), ("second derivative near the cutoff", "warn")]


def test_an_unstable_crystal_is_warned_of(monkeypatch):
    """It may be one in truth; constants that are no numbers are an error."""
    named = NamedStructure("Cu", bulk("Cu"))
    model = CheckedModel(build_morse(), [named], [named])
    found = []
    for value in (-30.0, np.nan):
        constants = np.diag(np.full(6, value / 160.21766))
        monkeypatch.setattr(elastic, "compute_elastic_constants", lambda *_, given=constants: (given, 0))
        (verdict,) = elastic.ask_elastic(model)
        found.append(verdict.level)
    assert found == ["warn", "fail"]


def test_noise_takes_one_prediction_of_each_structure(organic, make_potential, monkeypatch):
    model = CheckedModel(make_potential(**NETWORK), [], [])
    expected = model.measure_noise(organic[0])
    asked = []
    predict = Predictor.predict
    monkeypatch.setattr(Predictor, "predict", lambda *given: asked.append(len(given[1])) or predict(*given))
    model = CheckedModel(model.potential, [], [])
    assert model.measure_noise(organic[0]) == expected
    assert asked == [24, 3, 1]  # the path, the isolated atoms, and the structure itself
    assert 0 < expected.energy < 1e-3
    assert 0 < expected.force < 1e-2


def test_other_species_are_refused(organic):
    with pytest.raises(DataError, match="not among the species Cu"):
        check_potential(build_morse(), organic)

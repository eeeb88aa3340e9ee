"""What is told of a model, verified, compared, and written on its card."""

import json

import pytest
import torch

from nequip_like.inference import model_file
from nequip_like.inference.loading import load_any
from nequip_like.model.committee import CommitteePotential
from nequip_like.model.descriptor.builder import DescriptorANNModel
from nequip_like.model.last_layer import Calibration, LastLayerUncertainty
from nequip_like.workflow.model_files.card_page import format_model_card
from nequip_like.workflow.model_files.comparing import compare_models
from nequip_like.workflow.model_files.facts import collect_facts
from nequip_like.workflow.model_files.telling import describe_errors, format_facts, list_facts
from nequip_like.workflow.model_files.verifying import verify_model

ERRORS = {"per_atom_energy_rmse": 0.0005, "forces_rmse": 0.02, "forces_mae": 0.01, "forces_maxabserr": 0.3}


@pytest.fixture
def run_folder(make_potential, tmp_path):
    """What a run leaves of what is read here."""
    card = {
        "metrics": {f"val0_epoch/{name}": value for name, value in ERRORS.items()},
        "provenance": {"epoch": 7, "step": 80, "weights": "ema", "config": {"data": {"train": "train.xyz"}}},
    }
    model_file.save(make_potential(), tmp_path / "model.safetensors", card)
    described = {"functional": "PBE"}
    data = [{"name": "train", "facts": [["frames", "90"], ["atoms", "810"]], "warnings": [], "described": described}]
    (tmp_path / "run.json").write_text(json.dumps({"data": data, "sessions": []}))
    (tmp_path / "metrics.json").write_text(json.dumps({"hot": {"forces_rmse": 0.04}}))
    return tmp_path


def facts_of(path):
    return collect_facts(path, *load_any(path))


def test_facts_of_a_run_folder(run_folder):
    told = dict(list_facts(facts_of(run_folder)))
    assert told["kind"] == "model file, format version 1, of a run folder"
    assert told["species"] == "H C O"
    assert told["cutoff"] == "3 Å"
    assert told["dtype"] == "float64"
    assert told["uncertainty"] == "none"
    assert told["trained on"] == "train.xyz"
    assert told["data train"] == "frames: 90, atoms: 810"
    assert told["validation"] == "energy per atom 0.5000 meV/atom, forces 20.00 meV/Å (RMSE)"
    assert told["test hot"] == "forces 40.00 meV/Å (RMSE)"
    assert told["weights"] == "ema weights, epoch 7, step 80"
    assert "licence" not in told
    assert len(format_facts(facts_of(run_folder)).splitlines()) == len(told)


def test_facts_of_the_file_in_the_run_folder_are_the_same_but_for_its_kind(run_folder):
    of_file, of_folder = (dict(list_facts(facts_of(run_folder / name))) for name in ("model.safetensors", "."))
    assert of_file.pop("kind") == "model file, format version 1"
    del of_folder["kind"]
    assert of_file == of_folder


def test_facts_are_json(run_folder):
    content = json.loads(json.dumps(facts_of(run_folder).as_json(), allow_nan=False))
    assert content["model"]["type_names"] == ["H", "C", "O"]
    assert content["metrics"] == {f"val0_epoch/{name}": value for name, value in ERRORS.items()}
    assert content["test_errors"] == {"hot": {"forces_rmse": 0.04}}


def test_errors_of_several_validation_sets(make_potential, tmp_path):
    logged = {"val0_epoch/forces_rmse": 0.02, "val1_epoch/forces_rmse": 0.03, "test0_epoch/forces_rmse": 9.0}
    model_file.save(make_potential(), tmp_path / "model.safetensors", {"metrics": logged})
    told = dict(list_facts(facts_of(tmp_path / "model.safetensors")))
    assert told["val0"] == "forces 20.00 meV/Å (RMSE)"
    assert told["val1"] == "forces 30.00 meV/Å (RMSE)"
    assert "validation" not in told


def test_errors_in_words():
    assert describe_errors({}) == ""
    assert describe_errors({"forces_rmse": None, "stress_rmse": 0.001}) == "stress 1.000 meV/Å³ (RMSE)"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["nequip", "zbl", "committee", "descriptor"])
def test_sound_models_pass(make_potential, dtype, kind):
    if kind == "descriptor":
        potential = DescriptorANNModel(
            type_names=["H", "O"], r_max=4.0, radial_order=3, angular_order=2, model_dtype=dtype
        ).eval()
    elif kind == "committee":
        potential = CommitteePotential([make_potential(seed=seed, model_dtype=dtype) for seed in (1, 2)]).eval()
    else:
        potential = make_potential(model_dtype=dtype, pair_potential="zbl" if kind == "zbl" else None)
    verdicts = verify_model(potential)
    assert [verdict for verdict in verdicts if not verdict.passed] == []
    gradient = [verdict for verdict in verdicts if verdict.name == "forces are the gradient of the energy"]
    assert len(gradient) == (dtype == "float64")


def test_a_weight_that_is_not_finite(make_potential):
    potential = make_potential()
    with torch.no_grad():
        potential.energy_model.readout.weights[0][1] = torch.inf
    failed = {verdict.name: verdict.reason for verdict in verify_model(potential) if not verdict.passed}
    assert failed["weights are finite"] == "'energy_model.readout.weights.0' has 1 numbers that are not finite"
    assert "predictions are finite" in failed


def test_a_model_that_does_not_turn(make_potential):
    potential = make_potential(kernel="reference")
    inner = potential.energy_model.forward
    potential.energy_model.forward = lambda graph, vectors: (
        inner(graph, vectors)
        + 0.0 * vectors.sum()
        + (torch.zeros(len(graph["pos"]), dtype=torch.float64).index_add(0, graph["edge_index"][0], vectors[:, 0] ** 2))
    )
    failed = {verdict.name for verdict in verify_model(potential) if not verdict.passed}
    assert {"predictions turn with a molecule", "predictions turn with a crystal"} <= failed
    assert "forces are the gradient of the energy" not in failed


def test_the_same_model_has_no_differences(make_potential):
    assert compare_models(make_potential(), make_potential()) == []


def test_differences(make_potential):
    first, second = make_potential(), make_potential()
    with torch.no_grad():
        second.energy_model.type_embedding[0, 0] += 0.25
    found = compare_models(first, second)
    assert [entry.name for entry in found if entry.kind == "config"] == []
    (weights,) = [entry for entry in found if entry.kind == "weights"]
    assert weights.name == "energy_model.type_embedding"
    assert weights.second.endswith("largest difference 2.50e-01")
    assert "forces" in [entry.name for entry in found if entry.kind == "predictions"]


def test_other_architectures(make_potential):
    found = compare_models(make_potential(), make_potential(num_layers=3, type_names=["H", "C"], r_max=4.0))
    config = {entry.name: (entry.first, entry.second) for entry in found if entry.kind == "config"}
    assert config["arguments.type_names"] == ("[H, C, O]", "[H, C]")
    assert config["arguments.r_max"] == ("3.0", "4.0")
    shapes = {entry.name: (entry.first, entry.second) for entry in found if entry.kind == "weights"}
    assert shapes["energy_model.type_embedding"] == ("(3, 4) float64", "(2, 4) float64")
    assert any(first == "(none)" for first, _ in shapes.values())
    assert [entry for entry in found if entry.kind == "predictions"] == []


def test_card(run_folder):
    text = format_model_card(facts_of(run_folder), licence="CC-BY-4.0")
    lines = text.splitlines()
    assert lines[0] == "# model"
    for line in (
        "| species | H C O |",
        "| cutoff | 3 Å |",
        "CC-BY-4.0",
        "Trained on `train.xyz`.",
        "- frames: 90",
        "- functional: PBE",
        "| validation | forces | meV/Å | 10.00 | 20.00 | 300.0 |",
        "| test hot | forces | meV/Å |  | 40.00 |  |",
        "- `forces`: eV/Angstrom",
        "ema weights, epoch 7, step 80",
        'atoms.calc = nl.NequIPCalculator("model.safetensors")',
    ):
        assert line in lines, line


def test_differences_to_a_base_are_told(make_potential, tmp_path):
    base = {"kind": "calculator", "base": "gfn2", "id": "gfn2 0123"}
    model_file.save(make_potential(), tmp_path / "model.safetensors", {"base": base})
    facts = facts_of(tmp_path / "model.safetensors")
    assert dict(list_facts(facts))["base"] == "predictions are differences to the calculator gfn2"
    assert "All predictions are differences to a base, the calculator gfn2" in format_model_card(facts)


def test_a_fitted_uncertainty_is_a_difference(make_potential):
    potential, other = make_potential(), make_potential()
    assert compare_models(potential, other) == []
    calibration = Calibration("scale", 10, True, None, 0.0, 1.0, 20)
    for model, size in ((potential, 1.0), (other, 2.0)):
        model.uncertainty = LastLayerUncertainty(size * torch.eye(4, dtype=torch.float64), calibration)
    assert [(found.kind, found.first, found.second) for found in compare_models(potential, other)] == [
        ("uncertainty", "RMS 0.5", "RMS 1")
    ]
    other.uncertainty = None
    assert [(found.kind, found.second) for found in compare_models(potential, other)] == [("uncertainty", "none")]


def test_card_guesses_nothing(make_potential, tmp_path):
    model_file.save(make_potential(), tmp_path / "model.safetensors")
    text = format_model_card(facts_of(tmp_path / "model.safetensors"), "Mine")
    assert text.startswith("# Mine\n")
    assert text.count("Not known: the file does not tell.") == 3
    assert "Not stated." in text


def test_other_files_in_a_run_folder_are_not_of_the_run(run_folder):
    copy = run_folder / "other.safetensors"
    copy.write_bytes((run_folder / "model.safetensors").read_bytes())
    facts = facts_of(copy)
    assert (facts.data, facts.test_errors) == ([], {})
    (run_folder / "artifacts").mkdir()
    copy.rename(run_folder / "artifacts" / "model.safetensors")
    facts = facts_of(run_folder / "artifacts" / "model.safetensors")
    assert facts.test_errors == {"hot": {"forces_rmse": 0.04}}

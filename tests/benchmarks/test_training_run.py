"""The benchmark of whole training runs: its data, configs and rows, and a whole run without peers (slow)."""

import json
from pathlib import Path

import pytest
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write


@pytest.fixture
def source(tmp_path):
    """Fourteen frames of two atoms with stress, and one of one atom."""
    frames = []
    for i in range(14):
        atoms = Atoms("OH", [[0, 0, 0], [0, 0, 1 + 0.01 * i]], cell=[4, 4, 4], pbc=True)
        results = {"energy": -1.0 * i, "forces": [[0, 0, 0.1], [0, 0, -0.1]], "stress": [0.01] * 6}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    single = Atoms("H")
    single.calc = SinglePointCalculator(single, energy=0.0, forces=[[0, 0, 0]])
    write(tmp_path / "source.xyz", [single, *frames])
    return tmp_path / "source.xyz"


def test_frames_of_the_size_that_most_have(load, source, tmp_path):
    benchmark = load("training_run")
    data = benchmark.write_data(source, tmp_path, 3)
    assert data == {"atoms": 2, "frames": 3, "types": "H, O", "has_stress": True}
    assert [atoms.get_potential_energy() for atoms in read(tmp_path / "train.xyz", ":")] == [0.0, -1.0, -2.0]
    assert len(read(tmp_path / "val.xyz", ":")) == 10
    assert benchmark.write_data(source, tmp_path, 100)["frames"] == 4


@pytest.mark.parametrize("code", ["ours", "earlier", "nequip", "nequip_compiled"])
def test_all_codes_train_the_same_model(load, tmp_path, code):
    benchmark = load("training_run")
    data = {"types": "H, O", "has_stress": True}
    config = yaml.safe_load(benchmark.write_config(code, data, tmp_path, 5, 4))
    ours = code in ("ours", "earlier")
    model = config["model"] if ours else config["training_module"]["model"]
    expected = {"num_layers": 4, "l_max": 1, "parity": False, "num_features": 32, "radial_mlp_width": 64}
    assert {key: model[key] for key in expected} == expected
    loader = config["data"] if ours else config["data"]["train_dataloader"]
    assert loader["batch_size"] == 5
    assert config["trainer"]["max_epochs"] == 4
    if not ours:
        assert model["compile_mode"] == ("compile" if code == "nequip_compiled" else "eager")
        assert config["training_module"]["loss"]["coeffs"] == {"total_energy": 1.0, "forces": 1.0, "stress": 1.0}


def test_rows(load):
    """Steps of the second and the third epoch count; ratios are taken round by round."""
    benchmark = load("training_run")

    def told(*begins, compiled=(0.0, 0.0, 0.0, 0.0)):
        return {"begins": begins, "compiled": compiled, "steps": 10, "parameters": 7}

    rounds = {
        "ours": [told(0.0, 5.0, 6.0, 7.0), told(0.0, 1.0, 3.0, 5.0)],
        "nequip": [told(0.0, 9.0, 14.0, 19.0), told(0.0, 9.0, 29.0, 49.0)],
    }
    watched = told(0.0, 1.0, 2.0, 3.0, compiled=(0.0, 0.5, 1.0, 1.5))
    row = benchmark.row_of({"system": "x", "batch": 5}, rounds, watched)
    assert row == {
        **{"system": "x", "batch": 5, "ours_ms": pytest.approx(150.0), "ours_frames_s": pytest.approx(5 / 0.15)},
        **{"ours_parameters": 7, "ours_steps": 10, "ours_first_epoch_s": 5.0},
        **{"nequip_ms": pytest.approx(1250.0), "nequip_frames_s": pytest.approx(4.0)},
        **{"nequip_parameters": 7, "nequip_steps": 10, "nequip_first_epoch_s": 9.0},
        **{"nequip_ratio": pytest.approx(7.5)},
        **{"nequip_ratio_min": pytest.approx(5.0), "nequip_ratio_max": pytest.approx(10.0)},
        **{"compiled_ms": pytest.approx(50.0), "wall_over_compiled": pytest.approx(2.0)},
    }


@pytest.mark.slow
def test_a_run(run, tmp_path):
    data = Path(__file__).parents[2] / "tutorials" / "data" / "ethanol" / "train.xyz"
    sizes = ["--batches", 2, "--rounds", 1, "--epochs", 3, "--steps", 4]
    run("training_run.py", "--system", f"ethanol={data}", *sizes, "--json", "out.json")
    (row,) = json.loads((tmp_path / "out.json").read_text())["cases"]
    assert (row["system"], row["atoms"], row["frames"], row["batch"]) == ("ethanol", 9, 8, 2)
    assert 0 < row["compiled_ms"] < row["ours_ms"] * 10
    assert row["wall_over_compiled"] > 1

"""Testing a model as a function: the files agree with each other, whatever form the model is given in."""

import functools
import json

import ase.io
import numpy as np
import pytest
import torch

from nequip_like.data.dataset import load_dataset
from nequip_like.data.io.readers import read_frames
from nequip_like.errors import ConfigError, DataError
from nequip_like.inference import save
from nequip_like.inference.evaluation import evaluate
from nequip_like.workflow.evaluate import test_model as run_test_and_draw


@pytest.fixture
def data(tmp_path, write_labelled):
    return [write_labelled(tmp_path / "one.xyz", frames=11), write_labelled(tmp_path / "two.xyz", frames=4, seed=1)]


@pytest.fixture
def model(tmp_path, make_potential):
    save(make_potential(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def numpy_metrics(images):
    """Metrics of ``predictions.extxyz`` with numpy alone."""
    pairs = {"total_energy": [], "per_atom_energy": [], "forces": [], "stress": []}
    by_species = {}
    for atoms in images:
        labels = atoms.calc.results
        error = atoms.info["predicted_energy"] - labels["energy"]
        pairs["total_energy"].append([error])
        pairs["per_atom_energy"].append([error / len(atoms)])
        if "forces" in labels:
            errors = atoms.arrays["predicted_forces"] - labels["forces"]
            pairs["forces"].append(errors.ravel())
            for symbol, row in zip(atoms.symbols, errors, strict=True):
                by_species.setdefault(symbol, []).append(row)
        if "stress" in labels:
            pairs["stress"].append(atoms.info["predicted_stress"] - atoms.get_stress(voigt=False).ravel())
    metrics = {}
    named = [(f"{name}_{{}}", errors) for name, errors in pairs.items() if errors]
    named += [(f"forces_{{}}_{symbol}", rows) for symbol, rows in by_species.items()]
    for name, errors in named:
        error = np.concatenate(errors)
        metrics[name.format("mae")] = np.mean(np.abs(error))
        metrics[name.format("rmse")] = np.sqrt(np.mean(error**2))
        metrics[name.format("maxabserr")] = np.max(np.abs(error))
    return metrics


run_test = functools.partial(run_test_and_draw, formats=())  # drawings take most of the time


def test_files_agree(tmp_path, model, data, capsys):
    evaluations = run_test_and_draw(model, data, tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    images = ase.io.read(tmp_path / "out" / "predictions.extxyz", ":")
    assert list(metrics) == list(evaluations) == ["one", "two"]
    assert [sum(atoms.info["data_set"] == name for atoms in images) for name in metrics] == [11, 4]
    for name, values in metrics.items():
        checked = numpy_metrics([atoms for atoms in images if atoms.info["data_set"] == name])
        assert values.keys() == checked.keys()
        assert values == pytest.approx(checked, rel=1e-12)
        assert values == evaluations[name].metrics
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"metrics.json", "predictions.extxyz", "parity.png"}
    printed = capsys.readouterr().out
    assert "one: 11 frames" in printed
    assert "model.safetensors" in printed


def test_checkpoint_and_model_file_agree(tmp_path, model, make_potential, data):
    potential = make_potential()
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    state = {f"ema.module.{name}": value for name, value in potential.state_dict().items()}
    state |= {f"model.{name}": torch.zeros_like(value) for name, value in potential.state_dict().items()}
    own = {"format_version": 1, "potential": potential.config, "uses_ema": True}
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    torch.save({"nequip_like": own, "state_dict": state}, checkpoint)
    metrics = []
    for i, form in enumerate([model, checkpoint, tmp_path / "run", potential]):
        run_test(form, data, tmp_path / f"out{i}", batch_size=1 + i)
        metrics.append(json.loads((tmp_path / f"out{i}" / "metrics.json").read_text()))
    for other in metrics[1:]:
        for name in metrics[0]:
            assert other[name] == pytest.approx(metrics[0][name], rel=1e-12)


def test_names_of_data_sets(tmp_path, model, data):
    assert list(run_test(model, {"cold": data[0], "hot": data[1]}, tmp_path / "out")) == ["cold", "hot"]
    assert list(run_test(model, [data[0], data[0]], tmp_path / "out")) == ["one", "one_2"]
    (evaluation,) = run_test(model, {"few": {"file": data[0], "index": ":3"}}, tmp_path / "out").values()
    assert len(evaluation.dataset) == 3


def test_names_and_units_of_labels(tmp_path, model, data):
    images = ase.io.read(data[0], ":")
    for atoms in images:
        atoms.info["my_e"] = atoms.get_potential_energy() * 1e3
        atoms.calc = None
    ase.io.write(tmp_path / "one_mev.xyz", images, format="extxyz")
    renamed = run_test(
        model,
        tmp_path / "one_mev.xyz",
        tmp_path / "out",
        key_mapping={"my_e": "total_energy"},
        units={"energy": "meV"},
    )
    usual = run_test(model, data[0], tmp_path / "out")
    for name, value in renamed["one_mev"].metrics.items():
        assert value == pytest.approx(usual["one"].metrics[name], rel=1e-9)


def test_what_warnings_say_is_translated_for_the_command(tmp_path, model, data, capsys):
    images = ase.io.read(data[0], ":")
    for atoms in images:
        atoms.calc.results.pop("energy")
        atoms.info["my_energy"] = -1.0
    ase.io.write(tmp_path / "renamed.xyz", images, format="extxyz")
    run_test(model, tmp_path / "renamed.xyz", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "write 'data.key_mapping={my_energy: total_energy}'" in printed
    assert "\nnote: data.key_mapping={NAME: LABEL} is --key-mapping NAME=LABEL of nequip-test, " in printed


def test_what_cannot_be_tested(tmp_path, model, data):
    with pytest.raises(ConfigError, match="no data"):
        run_test(model, [], tmp_path / "out")
    with pytest.raises(ConfigError, match="not a file"):
        run_test(model, {"part": 0.1}, tmp_path / "out")
    with pytest.raises(DataError, match="no such file"):
        run_test(model, [tmp_path / "nothing.xyz"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_looks_wrong_in_the_data_is_told(model, tmp_path, capsys):
    frame = "2\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1.5\nO 0 0 0 0 0 9\nH 0 0 1 0 0 0\n"
    (tmp_path / "odd.xyz").write_text(frame)
    run_test(model, tmp_path / "odd.xyz", tmp_path / "out")
    told = "warning: odd: forces do not add up to zero in 1 frames, at most by 4.5 eV/Angstrom per atom"
    assert f"{told}: {tmp_path}/odd.xyz frame 0" in capsys.readouterr().out


def test_structures_in_memory(tmp_path, model, data, capsys):
    """One data set of ASE's Atoms, several by name, and no files where no folder is given."""
    from_file = run_test(model, data[0], tmp_path / "out")["one"]
    images = ase.io.read(data[0], ":")
    evaluations = run_test(model, images)
    assert list(evaluations) == ["test"]
    assert evaluations["test"].metrics == pytest.approx(from_file.metrics, rel=1e-12)
    assert {file.name for file in tmp_path.iterdir()} == {"one.xyz", "two.xyz", "model.safetensors", "out"}
    printed = capsys.readouterr().out
    assert "test: 11 frames" in printed
    assert "Atoms 3" in printed  # among the worst
    named = run_test(model, {"first": images[0], "others": images[1:], "two": data[1]})
    sizes = {name: len(evaluation.dataset) for name, evaluation in named.items()}
    assert sizes == {"first": 1, "others": 10, "two": 4}
    with pytest.raises(ConfigError, match="entry 0 is Atoms and entry 1 is a file name"):
        run_test(model, [images[0], data[0]])


def test_evaluation_of_structures_in_memory(model, data, make_potential):
    images = ase.io.read(data[0], ":")
    expected = evaluate(make_potential(), load_dataset(data[0], ["H", "C", "O"], 3.0)).metrics
    for source in (data[0], images, read_frames(data[0])):
        assert evaluate(model, source).metrics == pytest.approx(expected, rel=1e-12)

"""Each task with each of our families, from one run file for each task."""

import csv
import hashlib
import json
import re

import ase.io
import numpy as np
import pytest
import torch

from nequip_like.artifacts import read_artifacts
from nequip_like.errors import ConfigError, OutputError
from nequip_like.inference import Predictor, load
from nequip_like.model.families import FAMILIES
from nequip_like.workflow.runner import keys


def read_table(file):
    with file.open(newline="") as stream:
        return list(csv.reader(stream))[1:]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """A folder for each family, so that its model is trained once."""
    return {family: tmp_path_factory.mktemp(family) for family in FAMILIES}


@pytest.fixture
def trained(request, folder_of, training, do, tmp_path):
    """The run folder of a tiny model of a family."""
    family = request.param
    folder = folder_of[family] / "models" / "fit"
    if not (folder / "artifacts").exists():
        result, _ = do([training(family, run_dir=str(folder))])
        assert list(result.done) == ["fit"]
    return family, folder


each_family = pytest.mark.parametrize("trained", sorted(FAMILIES), indirect=True)


@each_family
def test_train(trained):
    family, folder = trained
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert {"artifacts/manifest.json", "artifacts/model.json", "artifacts/model.safetensors", "checkpoints/last.ckpt",
            "checkpoints/best.ckpt", "logs/fit.log", "model.safetensors"} <= names  # fmt: skip
    assert json.loads((folder / "artifacts/model.json").read_text())["family"] == family
    assert "epoch" in (folder / "logs/fit.log").read_text()


@each_family
def test_evaluate(trained, do, molecule_file, tmp_path):
    family, folder = trained
    run = {"name": "errors", "backend": family, "task": "evaluate", "run_dir": str(folder), "device": "cpu"}
    data = {"path": str(molecule_file), "indices": [7, 2, 11], "batch_size": 2}
    output = {"dir": str(tmp_path / "e"), "metrics_csv": "m.csv", "predictions_csv": "p.csv"}
    result, _ = do([{**run, "data": data, "output": output}])
    told = json.loads((tmp_path / "e/metrics.json").read_text())
    frames = [ase.io.read(molecule_file, i) for i in (7, 2, 11)]
    predicted = Predictor(load(folder)).predict(frames)
    n = np.array([len(frame) for frame in frames])
    energies = np.array([float(prediction["total_energy"]) for prediction in predicted])
    errors = energies - [frame.get_potential_energy() for frame in frames]
    forces = np.concatenate([p["forces"].numpy() - f.get_forces() for p, f in zip(predicted, frames, strict=True)])
    expected = {
        "energy_rmse": np.sqrt((n * (errors / n) ** 2).sum() / n.sum()),
        "energy_mae": np.abs(errors).sum() / n.sum(),
        "energy_mae_cfg": np.abs(errors).mean(),
        "force_rmse": np.sqrt((forces**2).mean()),
        "force_mae": np.abs(forces).mean(),
    }
    assert {name: told[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert told["frames"] == 3
    assert result.done["errors"].metrics == {name: told[name] for name in result.done["errors"].metrics}
    rows = read_table(tmp_path / "e/p.csv")
    assert [float(row[1]) for row in rows] == pytest.approx(energies, rel=1e-6)
    assert [(row[0], row[3]) for row in rows] == [(str(i), str(count)) for i, count in enumerate(n)]
    assert float(dict(read_table(tmp_path / "e/m.csv"))["energy_rmse"]) == told["energy_rmse"]


@each_family
def test_evaluate_energies_only(trained, do, molecule_file, tmp_path, monkeypatch):
    family, folder = trained
    monkeypatch.setattr(torch.autograd, "grad", lambda *_, **__: pytest.fail("a pass back"))
    run = {"name": "errors", "backend": family, "task": "evaluate", "run_dir": str(folder), "device": "cpu"}
    run |= {"data": {"path": str(molecule_file)}, "eval": {"energy_only": True}, "output": {"dir": str(tmp_path)}}
    result, _ = do([run])
    assert set(result.done["errors"].metrics) == {"energy_rmse", "energy_mae", "energy_mae_cfg"}


@each_family
def test_infer(trained, do, molecule_file, tmp_path):
    family, folder = trained
    run = {"backend": family, "task": "infer", "run_dir": str(folder), "device": "cpu"}
    run["data"] = {"lmdb": str(molecule_file)}
    runs = [
        {**run, "name": "frames", "output": {"dir": str(tmp_path / "i")}},
        {**run, "name": "table", "output": {"dir": str(tmp_path / "i"), "predictions_csv": "p.csv"}},
    ]
    do(runs)
    frames = ase.io.read(tmp_path / "i/predictions.extxyz", ":")
    rows = read_table(tmp_path / "i/p.csv")
    assert len(frames) == len(rows) == 24
    assert frames[5].get_potential_energy() == pytest.approx(float(rows[5][1]), rel=1e-12)
    assert frames[5].get_forces().shape == (len(frames[5]), 3)


@pytest.mark.parametrize("trained", ["descriptor_ann"], indirect=True)
def test_infer_leaves_broken_frames_out(trained, do, molecule_file, tmp_path, capsys):
    family, folder = trained
    text = molecule_file.read_text().rstrip()
    (tmp_path / "cut.xyz").write_text(text[: text.rindex("\n") + 1])
    run = {"name": "i", "backend": family, "task": "infer", "run_dir": str(folder), "device": "cpu"}
    run |= {"data": {"path": "cut.xyz"}, "output": {"dir": "i", "predictions": "p.npz"}}
    result, _ = do([run])
    assert result.failed["i"].startswith(f"{tmp_path / 'cut.xyz'} frame 23 is cut off: it says ")
    result, _ = do([{**run, "eval": {"on_error": "skip"}}])
    assert result.done["i"].metrics == {"frames": 23.0, "skipped": 1.0}
    assert result.done["i"].files["skipped"] == tmp_path / "i/p.npz.skipped.csv"
    assert "warning: frames left out: 1, first: " in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"eval\.on_error is given, but task: evaluate leaves no structure out"):
        do([{**run, "task": "evaluate", "output": {"dir": "e"}, "eval": {"on_error": "skip"}}])


@each_family
def test_export(trained, do, tmp_path, molecule_file):
    family, folder = trained
    do([{"name": "out", "backend": family, "task": "export", "run_dir": "out", "model_in": str(folder)}])
    manifest = json.loads((tmp_path / "out/artifacts/manifest.json").read_text())
    weights = tmp_path / "out/artifacts" / manifest["weights"]["path"]
    assert manifest["weights"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    frame = ase.io.read(molecule_file, 0)
    energies = [
        float(Predictor(model).predict(frame)["total_energy"])
        for model in (load(folder), read_artifacts(tmp_path / "out/artifacts"))
    ]
    assert energies[0] == energies[1]


@pytest.mark.slow
@each_family
def test_resume(trained, do, training, tmp_path):
    family, folder = trained
    run = training(family, name="on", task="resume", run_dir="on", model_in=str(folder), train={"epochs": 2})
    run["train"]["scheduler"] = "plateau"
    do([run])
    assert torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 4
    assert torch.load(tmp_path / "on/checkpoints/last.ckpt", weights_only=True)["global_step"] == 8
    text = (tmp_path / "run.journal.jsonl").read_text()
    (tmp_path / "run.journal.jsonl").write_text(text.replace('"done"', '"stopped"'))
    _, printed = do(None)
    assert f"note: it goes on from its own {tmp_path / 'on/checkpoints'}" in printed
    assert f", not again from {folder}: --again does that" in printed


@pytest.mark.slow
@pytest.mark.parametrize("trained", ["descriptor_ann"], indirect=True)
def test_an_older_checkpoint_of_the_same_folder_is_refused(trained, do, training, tmp_path):
    """After an interruption the newest would be gone on with, which is of the branch that the user left."""
    family, _ = trained
    run = training(family, train={"epochs": 2, "scheduler": "plateau"})
    do([run])
    checkpoints = tmp_path / "models/fit/checkpoints"
    content = torch.load(checkpoints / "last.ckpt", weights_only=True)
    torch.save({**content, "global_step": 4}, checkpoints / "half.ckpt")
    resumed = {**run, "name": "on", "task": "resume", "model_in": "models/fit/checkpoints/half.ckpt"}
    words = (
        r"run 'on': model_in is half\.ckpt, of 4 steps, but .*\.ckpt of the same run has 8\n  -> give another run_dir"
    )
    with pytest.raises(ConfigError, match=words):
        do([resumed])
    result, _ = do([{**resumed, "run_dir": "branch", "train": {"epochs": 3, "scheduler": "plateau"}}], dry_run=True)
    assert not result.done


@pytest.mark.slow
@pytest.mark.parametrize("trained", sorted(FAMILIES), indirect=True)
def test_finetune(trained, do, training, tmp_path):
    family, folder = trained
    run = training(family, name="tuned", task="finetune", run_dir="tuned", train={"epochs": 1, "freeze": "head_only"})
    run |= {"model": {"manifest": str(folder / "artifacts/manifest.json")}, "backend_args": ["report.html=false"]}
    result, _ = do([run])
    before, after = (dict(load(path).named_parameters()) for path in (folder, tmp_path / "tuned"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    head = {
        "nequip": r"energy_model\.readout\..*",
        "descriptor_ann": r"energy_model\.networks\..*\.(weights|biases)\.1",
    }
    assert all(re.fullmatch(head[family], name) for name in changed)
    assert result.done["tuned"].files["manifest"].is_file()
    other = {"nequip": "descriptor_ann", "descriptor_ann": "nequip"}[family]
    with pytest.raises(ConfigError, match=rf"backend is {other}, but the model .* is of the family {family}"):
        do([{**run, "name": "other", "run_dir": "other", "backend": other}], dry_run=True)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_finetuning_of_what_is_yet_to_be_trained_is_judged(family, do, training):
    """By its settings, as far as these tell; what is right is planned."""
    tuned = training(family, name="tuned", task="finetune", run_dir="tuned", model_in="models/fit")
    _, printed = do([training(family), {**tuned, "backend_args": ["finetune.shifts=refit"]}], dry_run=True)
    assert "begin with" in printed
    with pytest.raises(ConfigError, match=r"finetune.shifts is 'fit'"):
        do([training(family), {**tuned, "backend_args": ["finetune.shifts=fit"]}], dry_run=True)
    runs = [training(family), {**tuned, "backend_args": ["finetune.new_species=mean"]}]
    if family == "nequip":
        do(runs, dry_run=True)
    else:
        with pytest.raises(ConfigError, match=r"finetune.new_species is given, but .*fit takes no new species"):
            do(runs, dry_run=True)


def test_artifacts_of_others_are_not_written_over(do, tmp_path):
    (tmp_path / "out/artifacts").mkdir(parents=True)
    (tmp_path / "out/artifacts/manifest.json").touch()
    run = {"name": "out", "backend": "nequip", "task": "export", "run_dir": "out", "model_in": "m.ckpt"}
    with pytest.raises(OutputError, match=r"artifacts/manifest\.json is there already"):
        do([run])


@pytest.mark.parametrize("trained", ["nequip"], indirect=True)
def test_weights_in_place_of_those_of_a_manifest(trained, do, tmp_path, molecule_file):
    _, folder = trained
    state = {name: tensor * 1.5 for name, tensor in load(folder).state_dict().items()}
    torch.save({"model_state_dict": state}, tmp_path / "w.pt")
    model = {"manifest": str(folder / "artifacts/manifest.json"), "weights": "w.pt"}
    run = {"name": "out", "backend": "nequip", "task": "export", "run_dir": "out", "model": model}
    do([run])
    exported = load(tmp_path / "out/artifacts").state_dict()
    assert all(torch.equal(exported[name], tensor) for name, tensor in state.items())
    state.popitem()
    torch.save(state, tmp_path / "w.pt")
    result, printed = do(again=True)
    assert "w.pt lacks 1 tensors of the model" in result.failed["out"]
    assert "error: run 'out' failed" in printed


@pytest.mark.parametrize("trained", ["nequip"], indirect=True)
def test_a_model_of_another_family_is_refused(trained, do, molecule_file):
    run = {"name": "e", "backend": "descriptor_ann", "task": "evaluate", "run_dir": "e", "device": "cpu"}
    result, _ = do([{**run, "model_in": str(trained[1]), "data": {"path": str(molecule_file)}}])
    assert "is of the family nequip" in result.failed["e"]


@pytest.mark.parametrize("backend", ["nequip_S", "nequip_M", "nequip_L", "nequip_XL"])
def test_presets_are_planned(backend, do, training):
    assert backend in keys.list_families()
    _, printed = do([training(backend, backend_args=["cutoff_radius=4.0"])], dry_run=True)
    assert f"train {backend} into" in printed


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["nequip_S", "nequip_M", "nequip_L", "nequip_XL"])
def test_presets_train(backend, do, training):
    run = training(backend, backend_args=["cutoff_radius=3.0", "report.html=false"])
    run["data"] |= {"batch_size": 2, "train_indices": {"max_samples": 7}}
    result, _ = do([{**run, "train": {"epochs": 1}}])
    assert list(result.done) == ["fit"]

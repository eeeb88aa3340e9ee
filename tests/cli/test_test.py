"""``nequip-test`` as a user types it."""

import json
import subprocess
import sys

import ase.io
import numpy as np
import pytest

from nequip_like.cli.test import main
from nequip_like.compat.aenet import read_energies
from nequip_like.inference import save
from tests.processes import run_python


@pytest.fixture
def folder(tmp_path, make_potential, write_labelled):
    save(make_potential(), tmp_path / "model.safetensors")
    write_labelled(tmp_path / "test_300K.xyz", frames=5)
    write_labelled(tmp_path / "test_600K.xyz", frames=3, seed=1)
    return tmp_path


def test_command(folder):
    arguments = ["model.safetensors", "test_300K.xyz", "test_600K.xyz", "--output", "results", "--device", "cpu"]
    command = [sys.executable, "-W", "error", "-m", "nequip_like.cli.test", *arguments]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert "test_300K: 5 frames" in run.stdout
    assert "test_600K: 3 frames" in run.stdout
    metrics = json.loads((folder / "results" / "metrics.json").read_text())
    assert set(metrics) == {"test_300K", "test_600K"}
    assert metrics["test_300K"]["forces_rmse"] > 0
    assert {file.name for file in (folder / "results").iterdir()} >= {"predictions.extxyz", "parity.png"}


def test_user_error(folder):
    (folder / "model.safetensors").write_text("not a model")
    command = ("-W", "error", "-m", "nequip_like.cli.test", "model.safetensors", "test_300K.xyz")
    run = run_python(*command, cwd=folder)
    assert run.returncode == 2
    error, advice = run.stderr.splitlines()
    assert error.startswith("error: model.safetensors is no safetensors file")
    assert advice.startswith("  -> ")


def test_help_is_quick(folder):
    code = (
        "import sys; from nequip_like.cli.test import main\n"
        "try: main(['--help'])\n"
        "finally: print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stdout.splitlines()[-1] == "False"
    assert "--key-mapping" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.ckpt", "test_300K.xyz"], "no such file or folder"),
        (["model.safetensors", "nothing.xyz"], "no such file"),
        (["model.safetensors", "test_300K.xyz", "--device", "cuda:44"], "device 'cuda:44' is not there"),
        (["model.safetensors", "test_300K.xyz", "--batch-size", "0"], "batch_size is 0"),
        (["model.safetensors", "test_300K.xyz", "--units", "energy=parsec"], "unknown unit 'parsec' of energy"),
        (["model.safetensors", "test_300K.xyz", "--key-mapping", "e=energi"], "'energi', which is no label"),
        (["model.safetensors", "test_300K.xyz", "--key-mapping", "e"], "not of the form name=value"),
        (["model.safetensors", "test_300K.xyz", "--units", "energy=eV", "energy=meV"], "'energy' twice"),
    ],
)
def test_errors(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    assert main(arguments) == 2
    error, _ = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert message in error


def test_debug(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(Exception, match="no such file"):
        main(["nothing.ckpt", "test_300K.xyz", "--debug"])


def test_options_reach_the_test(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["model.safetensors", "test_300K.xyz", "--output", "a", "--units", "energy=eV"]) == 0
    assert (
        main(["model.safetensors", "test_300K.xyz", "--output", "b", "--units", "energy=meV", "length=Angstrom"]) == 0
    )
    first, second = (json.loads((folder / name / "metrics.json").read_text())["test_300K"] for name in "ab")
    assert first.keys() == second.keys()
    assert first["total_energy_mae"] != second["total_energy_mae"]


def test_remarks_of_frames_are_kept_and_told_apart(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    images = ase.io.read("test_300K.xyz", ":")
    for i, atoms in enumerate(images):
        atoms.info |= {"config_type": "all alike", "group": i % 2, "description": "made for a test"}
        atoms.arrays["kind"] = np.arange(len(atoms))
    ase.io.write("remarks.xyz", images)
    assert main(["model.safetensors", "remarks.xyz", "test_600K.xyz", "--output", "a"]) == 0
    assert "remarks by group" in capsys.readouterr().out
    metrics = json.loads((folder / "a" / "metrics.json").read_text())
    assert {key: value["frames"] for key, value in metrics["remarks"]["groups"]["group"].items()} == {"0": 3, "1": 2}
    assert "groups" not in metrics["test_600K"]
    read = ase.io.read("a/predictions.extxyz", ":")[: len(images)]
    assert [atoms.info["group"] for atoms in read] == [0, 1, 0, 1, 0]
    assert {atoms.info["description"] for atoms in read} == {"made for a test"}
    assert all(atoms.arrays["kind"].tolist() == list(range(len(atoms))) for atoms in read)

    assert main(["model.safetensors", "remarks.xyz", "--output", "b", "--group-by", "config_type"]) == 0
    assert "remarks by config_type" in capsys.readouterr().out
    assert main(["model.safetensors", "remarks.xyz", "--output", "c", "--group-by", "grop"]) == 2
    error, advice = capsys.readouterr().err.splitlines()
    assert error == "error: no frame has 'grop' to group by"
    assert advice.startswith("  -> did you mean 'group'?")


def test_tables_of_energies_in_the_format_of_aenet(folder, monkeypatch, capsys):
    """A table for each data set: labels and predictions of the frames that have an energy, counts of species."""
    monkeypatch.chdir(folder)
    assert main(["model.safetensors", "test_300K.xyz", "test_600K.xyz", "--output", "a", "--aenet-energies"]) == 0
    assert "written to a: energies.test_300K.0, energies.test_600K.0\n" in capsys.readouterr().out
    rows = read_energies("a/energies.test_300K.0")
    images = ase.io.read("a/predictions.extxyz", ":")[:5]
    assert [row.path for row in rows] == [f"test_300K.xyz#frame={i}" for i in range(5)]
    for row, atoms in zip(rows, images, strict=True):
        assert row.reference == pytest.approx(atoms.get_potential_energy(), rel=1e-6)
        assert row.predicted == pytest.approx(atoms.info["predicted_energy"], rel=1e-6)
        assert sorted(row.species) == sorted(atoms.get_chemical_symbols())
    assert len(read_energies("a/energies.test_600K.0")) == 3
    assert main(["model.safetensors", "test_300K.xyz", "--output", "b"]) == 0
    assert not list((folder / "b").glob("energies*"))

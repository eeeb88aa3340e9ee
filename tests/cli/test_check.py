"""``nequip-check`` as a user types it."""

import json
import subprocess
import sys

import pytest

from nequip_like.cli.check import main
from nequip_like.inference import Predictor, save
from tests.processes import run_python

QUICK = ("--only", "references", "symmetry", "forces", "stress", "cutoff")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_labelled):
    """A sound model, one whose energies lack those of oxygen, and data that the first is right for."""
    import ase.io

    from nequip_like.model import NequIPGNNModel

    folder = tmp_path_factory.mktemp("check")
    small = {"r_max": 3.0, "num_features": 4, "num_layers": 2, "radial_mlp_width": 8, "avg_num_neighbors": 5.0}
    sound, shifted = (
        NequIPGNNModel(
            type_names=["H", "C", "O"],
            per_type_energy_shifts={"H": -13.0, "C": -1030.0, "O": oxygen},
            kernel="reference",
            **small,
        ).eval()
        for oxygen in (-2040.0, 0.0)
    )
    save(sound, folder / "model.safetensors")
    save(shifted, folder / "shifted.safetensors")
    structures = ase.io.read(write_labelled(folder / "random.xyz", frames=6), ":")
    ase.io.write(folder / "data.xyz", Predictor(sound).predict_atoms(structures), format="extxyz")
    return folder


def typed(folder, *arguments):
    return run_python("-W", "error", "-m", "nequip_like.cli.check", *arguments, cwd=folder)


def test_a_sound_model_passes(folder):
    run = typed(folder, "model.safetensors", "data.xyz", *QUICK, "--output", "checked")
    assert (run.returncode, run.stderr) == (0, ""), run.stdout
    lines = run.stdout.splitlines()
    assert lines[-2].startswith("verdict: pass (")
    assert lines[-1] == "written to checked: check.html, check.json"
    assert "number" in run.stdout
    assert "limit" in run.stdout
    assert json.loads((folder / "checked" / "check.json").read_text())["level"] == "pass"


def test_a_missing_shift_fails(folder):
    run = typed(folder, "shifted.safetensors", "data.xyz", *QUICK)
    assert run.returncode == 1
    assert "fail: references (shifts by species): labels less predictions are " in run.stdout
    assert "\n  -> energies are shifted by composition: " in run.stdout
    assert run.stdout.splitlines()[-1].startswith("verdict: fail (1 fail, ")


def test_warnings_are_no_failure_unless_it_is_strict(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    call = ["model.safetensors", "data.xyz", "--only", "dimers"]
    assert main(call) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("verdict: warn (")
    assert main([*call, "--strict"]) == 1


def test_json_goes_to_programs(folder):
    run = typed(folder, "shifted.safetensors", "data.xyz", "--only", "references", "--json", "-")
    assert run.returncode == 1
    assert json.loads(run.stdout)["failed"] == ["references"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.safetensors"], "error: no such file or folder: "),
        (["model.safetensors", "nowhere.xyz"], "nowhere.xyz"),
        (["model.safetensors", "--only", "strees"], "did you mean 'stress'?"),
        (["data.xyz"], "error: "),
    ],
    ids=["no_model", "no_data", "no_check", "no_model_file"],
)
def test_mistakes(folder, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_help_is_quick():
    code = (
        "import sys; from nequip_like.cli.check import main\n"
        "try: main(['--help'])\n"
        "finally: print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stdout.splitlines()[-1] == "False"
    assert "nequip-check outputs/run" in run.stdout

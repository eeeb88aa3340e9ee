"""``nequip-init`` as a user types it, and ``nequip-train`` with what it wrote."""

import subprocess
import sys
from pathlib import Path

import ase.io
import pytest

from nequip_like.cli.init import main

DATA = Path(__file__).parents[2] / "tutorials" / "data"


def test_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ase.io.write("data.xyz", ase.io.read(DATA / "mgo" / "train.xyz", ":20"), format="extxyz")
    assert main(["data.xyz"]) == 0
    printed = capsys.readouterr().out
    assert (
        f"written: {tmp_path / 'config.yaml'}\n  to train with it, in its folder: nequip-train -cn config.yaml"
        in printed
    )
    assert "forces rms" in printed
    assert main(["data.xyz"]) == 2
    assert "config.yaml is there already\n  -> give another name: --output other.yaml" in capsys.readouterr().err
    assert main(["data.xyz", "--output", "sub/other.yaml"]) == 0
    assert 'train: "../data.xyz"' in (tmp_path / "sub" / "other.yaml").read_text()


def test_help_is_quick():
    code = (
        "import sys; from nequip_like.cli.init import main\n"
        "try: main(['--help'])\n"
        "finally: print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stdout.splitlines()[-1] == "False"


@pytest.mark.slow
def test_training_with_it(tmp_path, tiny):
    """The whole way: data, config, training; only the model is smaller, and two epochs are enough."""
    ase.io.write(tmp_path / "data.xyz", ase.io.read(DATA / "mgo" / "train.xyz", ":20"), format="extxyz")
    for command in (["init", "data.xyz"], ["train", "-cn", "config.yaml", "hydra.run.dir=run", *tiny]):
        arguments = [sys.executable, "-W", "error", "-m", f"nequip_like.cli.{command[0]}", *command[1:]]
        run = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    assert (tmp_path / "run" / "model.safetensors").is_file()

"""``nequip-slurm`` as a user types it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from nequip_like.cli.slurm import main

CONFIG = """\
defaults: [train, _self_]
data: {train: molecules.xyz, val: 5, test: 5}
cutoff_radius: 4.0
"""
SIZE = ("--nodes", "2", "--tasks-per-node", "2", "--time", "01:00:00")


@pytest.fixture
def folder(tmp_path, molecule_file, monkeypatch) -> Path:
    shutil.copy(molecule_file, tmp_path / "molecules.xyz")
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_written(folder, capsys):
    """Whatever stands between options and overrides; the script is one that bash reads."""
    status = main(["config.yaml", *SIZE, "trainer.max_epochs=3", "--sbatch=--partition=cpu", "seed=2"])
    assert status == 0
    output = capsys.readouterr().out
    assert output == (
        "written: config.sbatch, 4 processes on 2 nodes, in runs/config\n  to submit it: sbatch config.sbatch\n"
    )
    text = (folder / "config.sbatch").read_text()
    assert "#SBATCH --partition=cpu\n" in text
    assert "    trainer.max_epochs=3 \\\n    seed=2 \\\n" in text
    assert f"cd {folder}\n" in text
    subprocess.run(["bash", "-n", "config.sbatch"], check=True)


def test_submitted(folder, capsys, monkeypatch):
    (folder / "sbatch").write_text('#!/bin/sh\necho "Submitted batch job 17: $@"\n')
    (folder / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    assert main(["config.yaml", *SIZE, "--name", "mol", "-m", "seed=0,1", "--submit"]) == 0
    output = capsys.readouterr().out
    assert output == (
        "written: mol.sbatch, 2 runs of 4 processes on 2 nodes, in runs/mol\nSubmitted batch job 17: mol.sbatch\n"
    )
    (folder / "sbatch").write_text('#!/bin/sh\necho "invalid partition" >&2\nexit 1\n')
    assert main(["config.yaml", *SIZE, "--name", "mol", "--submit"]) == 2
    assert "error: sbatch refused mol.sbatch: invalid partition\n" in capsys.readouterr().err


def test_values_in_the_words_of_hydra(folder, capsys):
    """As ``nequip-train -m`` takes them; what does not vary stands in the script once."""
    words = ["data.val=[5,1],[4,2]", "seed=2", "trainer.max_epochs=3", "hydra.job.name=mol"]
    assert main(["config.yaml", *SIZE, "--multirun", *words]) == 0
    assert capsys.readouterr().out.startswith("written: config.sbatch, 2 runs of 4 processes on 2 nodes")
    text = (folder / "config.sbatch").read_text()
    assert "    0) CHOSEN=('data.val=[5,1]') ;;\n    1) CHOSEN=('data.val=[4,2]') ;;\nesac\n" in text
    assert text.count("trainer.max_epochs=3 \\\n") == text.count("hydra.job.name=mol \\\n") == 1
    assert text.count("seed=2 \\\n") == 1
    assert "#SBATCH --array=0-1\n" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trainer.max_epoch=3"], "there is no 'trainer.max_epoch' to change"),
        (["data.global_batch_size=3"], "data.global_batch_size is 3, but there are 4 processes"),
        (["trainer.accelerator=gpu"], "trainer.accelerator is gpu, but no GPUs are asked for"),
        (["run=[test]"], "run is ['test'], and tests take one process"),
        (["-m", "model.l_max=1,none"], "model.l_max is 'none' (run 1: model.l_max=none)"),
        (["-m", "seed=1"], "-m asks for several runs, but no key has several values"),
        (["-m", "seed=1,2", "trainer.devices=1,2"], "trainer.devices is decided by"),
        (["-m", "seed=interval(1,2)"], "'seed=interval(1,2)' does not say which values"),
        (["-m", "hydra/sweeper=optuna", "seed=1,2"], "hydra/sweeper chooses the next values when runs have ended"),
        (["trainer.num_nodes=3"], "trainer.num_nodes is decided by --nodes"),
    ],
)
def test_what_the_run_cannot_do(arguments, message, folder, capsys):
    assert main(["config.yaml", *SIZE, *arguments]) == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert not (folder / "config.sbatch").exists()


def test_no_sbatch(folder, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert main(["config.yaml", *SIZE, "--submit"]) == 2
    assert capsys.readouterr().err.startswith("error: there is no sbatch here\n  -> submit it where SLURM is")


def test_unknown_option(folder, capsys):
    with pytest.raises(SystemExit) as end:
        main(["config.yaml", *SIZE, "--partition=gpu"])
    assert end.value.code == 2
    assert "one of sbatch goes behind --sbatch: --sbatch=--partition=gpu" in capsys.readouterr().err

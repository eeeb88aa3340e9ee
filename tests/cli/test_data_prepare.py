"""``nequip-data prepare`` as it is typed, and a training on what it writes."""

import csv
import subprocess
import sys

import pytest

from nequip_like.cli.data import main

TINY = ["model.num_layers=2", "model.num_features=8", "model.l_max=1", "trainer.max_epochs=2", "report.format=[]"]


@pytest.fixture
def data_file(tmp_path, write_labelled, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "train.xyz", frames=12)
    return "train.xyz"


def test_prepare(data_file, capsys):
    assert main(["prepare", data_file, "--cutoff", "4.0", "--output", "set.frames"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1].endswith("set.frames: 12 frames, cutoff 4 Å")
    assert told.err.splitlines()[-1] == "1 of 1 parts, 12 frames"


def test_mistakes(data_file, capsys):
    assert main(["prepare", "none.xyz", "--cutoff", "4.0", "--output", "set.frames"]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main(["prepare", data_file, "--cutoff", "-4.0", "--output", "set.frames"]) == 2
    assert "cutoff" in capsys.readouterr().err
    assert main(["prepare", data_file, "--cutoff", "4.0", "--output", "set.frames", "--shard", "3/2"]) == 2
    assert "the parts are counted from 1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["prepare", data_file, "--cutoff", "4.0", "--output", "set.frames", "--shard", "3"])
    assert "I/N" in capsys.readouterr().err


@pytest.mark.slow
def test_training_is_the_same(data_file, tmp_path):
    """Every number of the log is that of a training on the file, also where another process reads the frames."""
    assert main(["prepare", data_file, "--cutoff", "4.0", "--output", "set.frames"]) == 0
    logs = []
    read_anew = ["data.train=set.frames", "data.held_memory=0", "data.num_workers=1"]
    for i, source in enumerate((["data.train=train.xyz"], ["data.train=set.frames"], read_anew)):
        run = tmp_path / f"run{i}"
        keys = ["cutoff_radius=4.0", "data.val=3", *source, f"hydra.run.dir={run}", *TINY]
        subprocess.run([sys.executable, "-m", "nequip_like.cli.train", "-cn", "train", *keys], check=True)
        with (run / "metrics.csv").open(newline="") as file:
            logs.append([{k: v for k, v in row.items() if "time" not in k} for row in csv.DictReader(file)])
    assert logs[0] == logs[1] == logs[2]
    assert len(logs[0]) > 2

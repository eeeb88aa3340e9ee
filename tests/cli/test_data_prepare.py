"""``nequip-data prepare`` as it is typed, and a training on what it writes."""

import csv
import shlex

import numpy as np
import pytest

from nequip_like.cli.data import main
from nequip_like.composition.compose import compose
from nequip_like.data.datamodule import DataModule
from nequip_like.data.prepared.sets import get_prepared
from nequip_like.instantiate import instantiate
from nequip_like.workflow.config.sections import resolve_section
from tests.processes import run_python

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


def test_of_a_config(data_file, write_labelled, tmp_path, capsys):
    """What a config names is prepared, each file once, and the overrides that are told give the same data."""
    write_labelled(tmp_path / "a b.xyz", frames=5, seed=3)
    (tmp_path / "config.yaml").write_text(
        """
defaults: [train, _self_]
cutoff_radius: 4.0
data:
  train: {file: train.xyz, index: "1:"}
  val: {cold: 2, hot: {file: a b.xyz, max_samples: 3, shuffle: true, seed: 2}}
  test: {file: a b.xyz, indices: [4, 0]}
  units: {energy: kcal/mol}
  allow_overlap: true
"""
    )
    assert main(["prepare", "config.yaml", "data.split_seed=3", "--output", "sets"]) == 0
    *told, line = capsys.readouterr().out.splitlines()
    assert [text.split(": ")[-1] for text in told if "frames, cutoff" in text] == [
        "12 frames, cutoff 4 Å",
        "5 frames, cutoff 4 Å",
    ]
    command = shlex.split(line)
    assert command[:4] == ["nequip-train", "-cn", "config.yaml", "data.split_seed=3"]
    modules = []
    for overrides in (["data.split_seed=3"], command[3:]):
        section = resolve_section("data", compose("config.yaml", overrides).data)
        modules.append(instantiate("data", section, kind=DataModule, recursive=False).prepare())
    files, prepared = modules
    assert get_prepared(prepared.train_set.frames) is not None
    assert prepared.statistics == files.statistics
    assert list(prepared.test_sets) == list(files.test_sets) == ["a b"]
    for one, other in (
        (files.train_set, prepared.train_set),
        (files.val_sets["cold"], prepared.val_sets["cold"]),
        (files.val_sets["hot"], prepared.val_sets["hot"]),
        (files.test_sets["a b"], prepared.test_sets["a b"]),
    ):
        assert [one.origin(i) for i in range(len(one))] == [
            other.origin(i).replace(f"{tmp_path}/", "") for i in range(len(other))
        ]
        for frame, same in zip(one, other, strict=True):
            for key in frame:
                np.testing.assert_array_equal(frame[key].numpy(), same[key].numpy())
    assert main(["prepare", "config.yaml", "--cutoff", "4.0", "--output", "sets"]) == 2
    assert "--cutoff is given, but config.yaml is a config" in capsys.readouterr().err
    assert main(["prepare", data_file, "--output", "set.frames"]) == 2
    assert "prepare needs the cutoff radius" in capsys.readouterr().err


def test_of_a_config_of_several_sets(data_file, write_labelled, tmp_path, capsys):
    write_labelled(tmp_path / "b.xyz", frames=5, seed=3)
    (tmp_path / "config.yaml").write_text(
        """
defaults: [train, _self_]
cutoff_radius: 4.0
data:
  train: {a: {file: train.xyz, weight: 2.0}, b: b.xyz}
  val: {cold: {part: 2, of: a}}
"""
    )
    assert main(["prepare", "config.yaml", "--output", "sets"]) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1])
    modules = []
    for overrides in ([], command[3:]):
        section = resolve_section("data", compose("config.yaml", overrides).data)
        modules.append(instantiate("data", section, kind=DataModule, recursive=False).prepare())
    files, prepared = modules
    assert get_prepared(prepared.train_set.frames) is not None
    assert prepared.num_drawn == files.num_drawn
    assert prepared.list_training_batches() == files.list_training_batches()
    for one, other in ((files.train_set, prepared.train_set), (files.val_sets["cold"], prepared.val_sets["cold"])):
        assert len(one) == len(other)
        for frame, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(frame["pos"].numpy(), same["pos"].numpy())
    assert main(["prepare", "config.yaml", "data.repair=x.json", "--output", "sets2"]) == 2
    assert "data.repair is given" in capsys.readouterr().err


@pytest.mark.slow
def test_training_is_the_same(data_file, tmp_path):
    """Every number of the log is that of a training on the file, also where another process reads the frames."""
    assert main(["prepare", data_file, "--cutoff", "4.0", "--output", "set.frames"]) == 0
    logs = []
    read_anew = ["data.train=set.frames", "data.held_memory=0", "data.num_workers=1"]
    for i, source in enumerate((["data.train=train.xyz"], ["data.train=set.frames"], read_anew)):
        run = tmp_path / f"run{i}"
        keys = ["cutoff_radius=4.0", "data.val=3", *source, f"hydra.run.dir={run}", *TINY]
        done = run_python("-m", "nequip_like.cli.train", "-cn", "train", *keys, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        with (run / "metrics.csv").open(newline="") as file:
            logs.append([{k: v for k, v in row.items() if "time" not in k} for row in csv.DictReader(file)])
    assert logs[0] == logs[1] == logs[2]
    assert len(logs[0]) > 2

"""Data sets in LMDB as they are typed: a folder of shards, and pickles that have to be trusted."""

import sys

import ase.io
import pytest

from nequip_like.cli import train
from tests.conftest import TINY
from tests.data.io.sets.written_sets import write_aselmdb, write_nequip


@pytest.fixture
def folder(tmp_path, monkeypatch, molecule_file):
    frames = ase.io.read(molecule_file, ":")
    (tmp_path / "shards").mkdir()
    write_aselmdb(tmp_path / "shards" / "b.aselmdb", frames[10:])
    write_aselmdb(tmp_path / "shards" / "a.aselmdb", frames[:10])
    write_nequip(tmp_path / "test.lmdb", frames[:4])
    (tmp_path / "config.yaml").write_text("defaults: [train, _self_]\ncutoff_radius: 3.0\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def type_in(monkeypatch, *overrides):
    monkeypatch.setattr(sys, "argv", ["nequip-train", "config.yaml", *TINY, "trainer.max_epochs=1", *overrides])
    train.main()


@pytest.mark.slow
def test_training_from_a_folder_and_a_trusted_file(folder, monkeypatch, capsys):
    sets = ("data.train=shards", "data.test={file: test.lmdb, trust_pickle: true}", "+data.allow_overlap=true")
    type_in(monkeypatch, *sets, "run=[train,test]", "data.val=4")
    said = capsys.readouterr().out
    assert "test: 4 frames" in said
    assert "train" in said


def test_a_file_of_pickles_is_not_read_unasked(folder, monkeypatch, capsys):
    with pytest.raises(SystemExit) as end:
        type_in(monkeypatch, "data.train=test.lmdb", "data.val=1", "run=[train,val]")
    assert end.value.code == 2
    error, advice = capsys.readouterr().err.strip().splitlines()[-2:]
    assert error.endswith("test.lmdb holds pickles, a format that can run code where it is read")
    assert "'data.train={file: test.lmdb, trust_pickle: true}'" in advice

"""``nequip-auto`` as a user types it."""

import json
import subprocess
import sys
import time

import ase.io
import pytest
import yaml

from nequip_like.cli.auto import main


def test_one_frame(tmp_path, write_labelled, capsys):
    file = write_labelled(tmp_path / "one.xyz", frames=1)
    assert main([str(file), "--minutes", "5", "--output", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: there is one frame, and some have to be held out")
    assert "\n  -> give 5 or more" in printed
    assert not (tmp_path / "run").exists()


def test_frames_without_labels(tmp_path, write_labelled, capsys):
    file = write_labelled(tmp_path / "train.xyz", frames=6)
    frames = ase.io.read(file, index=":")
    for atoms in frames:
        atoms.calc = None
    ase.io.write(tmp_path / "bare.xyz", frames, format="extxyz")
    assert main([str(tmp_path / "bare.xyz")]) == 2
    assert capsys.readouterr().err.startswith(
        "error: no frame has an energy or forces, so there is nothing to train on"
    )


def test_overrides_among_test_files(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(
        "nequip_like.auto.run.find_potential", lambda data, minutes, **more: given.update(more, data=data)
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "T=300.xyz").touch()
    with pytest.raises(AttributeError):  # there is no result
        main(["a.xyz", "model.l_max=1", "--test", "b.xyz", "T=300.xyz", "cutoff_radius=4", "--trust-pickle", "--debug"])
    assert (given["data"], given["test"]) == (["a.xyz"], ["b.xyz", "T=300.xyz"])
    assert given["overrides"] == ["model.l_max=1", "cutoff_radius=4"]
    assert given["trust_pickle"] is True


def test_no_data(capsys):
    with pytest.raises(SystemExit):
        main(["cutoff_radius=4"])
    assert "give the data: nequip-auto train.xyz" in capsys.readouterr().err


@pytest.mark.slow
def test_command(tmp_path, write_labelled):
    """Within a minute, on frames in a folder, with an override between the options."""
    (tmp_path / "data").mkdir()
    write_labelled(tmp_path / "data" / "a.xyz", frames=20, stress=False)
    write_labelled(tmp_path / "data" / "b.xyz", frames=10, seed=1, stress=False)
    command = [sys.executable, "-m", "nequip_like.cli.auto", "data", "--minutes", "1", "cutoff_radius=3.5"]
    began = time.monotonic()
    run = subprocess.run([*command, "--output", "run"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert time.monotonic() - began < 120  # a budget of a minute, on a machine that may have other work
    assert "as you say" in run.stdout
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["cutoff_radius"] == 3.5
    assert len(config["data"]["train"]) == 2
    record = json.loads((tmp_path / "run" / "auto.json").read_text())
    assert record["typed"] == ["cutoff_radius=3.5"]
    assert {setting["key"] for setting in record["settings"]} >= {"targets", "model.l_max", "data.batch_size"}
    assert (tmp_path / "run" / "model.safetensors").is_file()

"""The page of trainers of others: its trainer runs as it stands there, and it has each kind of message and its keys."""

import json
import re
import shutil
from pathlib import Path

import ase.io
import pytest
import yaml

from nequip_like.cli.run import command
from nequip_like.workflow.runner.external import messages
from nequip_like.workflow.runner.external.calling import build_content
from nequip_like.workflow.runner.external.nequip.backend import NequIPBackend
from nequip_like.workflow.runner.requests import read_requests
from tests.tutorials.pages import blocks

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "external-trainers.md"
ROWS = {
    match[1]: match[2] for match in re.finditer(r"^\| `(\w+)` \| ([^|]*) \|[^|]*\|$", PAGE.read_text(), re.MULTILINE)
}


@pytest.fixture
def folder(tmp_path, molecule_file, monkeypatch):
    shutil.copy(molecule_file, tmp_path / "train.xyz")
    for block in blocks(PAGE):
        if block.file:
            (tmp_path / block.file).write_text(block.text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_trainer_of_the_page(folder, capsys):
    assert command.main(["run.yaml"]) == 0
    home = folder / "models" / "composition"
    assert "composition 1.0 begins" in capsys.readouterr().out
    energies = json.loads((home / "energies.json").read_text())
    frames = ase.io.read(folder / "train.xyz", ":")
    mean = sum(atoms.get_potential_energy() for atoms in frames) / len(frames)
    fitted = sum(energies[symbol] for symbol in frames[0].symbols)
    assert fitted == pytest.approx(mean * (1 - 0.5**10), rel=1e-9)
    assert json.loads((home / "artifacts" / "files.json").read_text()).keys() == {"checkpoint", "model"}
    capsys.readouterr()
    assert command.main(["run.yaml"]) == 0
    assert "done before" in capsys.readouterr().out


def test_the_trainer_of_the_page_refuses(folder, capsys):
    text = (folder / "run.yaml").read_text().replace("{epochs: 10}", "{lr: 0.1}")
    (folder / "run.yaml").write_text(text)
    assert command.main(["run.yaml"]) == 3
    assert "composition 1.0 failed: there is only task: train with epochs" in capsys.readouterr().err


def test_each_kind_of_message_has_a_row_with_its_keys():
    for kind, entries in messages._KINDS.items():
        optional = [key for key in entries if key not in messages._REQUIRED[kind]]
        needed = ", ".join(f"`{key}`" for key in messages._REQUIRED[kind])
        further = f", [{', '.join(f'`{key}`' for key in optional)}]" if optional else ""
        assert ROWS[kind].strip() == needed + further
    assert f"`{messages.MARK} `" in PAGE.read_text()


def test_each_key_of_the_request_has_a_row(folder):
    (request,) = read_requests(folder / "run.yaml")
    listed = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", PAGE.read_text(), re.MULTILINE)
    named = {name for row in listed for name in re.findall(r"\w+", row)}
    assert build_content(request, folder, None).keys() <= named


def test_the_runs_with_nequip_can_be_planned(tmp_path, molecule_file):
    (text,) = (block.text for block in blocks(PAGE) if block.language == "yaml" and "nequip_external" in block.text)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    for name in ("water.xyz", "test.xyz"):
        shutil.copy(molecule_file, tmp_path / name)
    content = yaml.safe_load(text.replace("/envs/nequip/bin/python", str(python)))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    train, errors = read_requests(tmp_path / "run.yaml")
    assert NequIPBackend().plan(train).describes[0].startswith(f"train NequIP in {python}")
    assert NequIPBackend().plan(errors, awaited=(train.run_dir,)).waits

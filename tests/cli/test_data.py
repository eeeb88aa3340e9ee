"""``nequip-data`` as a user types it."""

import json
import re
import subprocess
import sys

import ase.io
import pytest
import torch

from nequip_like.cli.data import main
from nequip_like.data.io.readers import read
from nequip_like.data.selection.repair_file import FrameRepair, hash_content, write_repairs
from tests.data.inspection.planted import DATA, exchange, frames_of

MGO = str(DATA / "mgo" / "train.xyz")


@pytest.fixture
def faulty(tmp_path):
    ase.io.write(tmp_path / "faulty.xyz", exchange(frames_of("mgo/train.xyz")), format="extxyz")
    return str(tmp_path / "faulty.xyz")


def test_inspect_as_typed(tmp_path, faulty):
    command = [sys.executable, "-W", "error", "-m", "nequip_like.cli.data", "inspect", faulty, "--html", "report.html"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, f"written: {tmp_path / 'report.html'}\n")
    assert "1 wrong, 0 look, 16 ok; of 110 frames" in run.stdout
    row = next(line for line in run.stdout.splitlines() if "exchanged labels" in line)
    assert "wrong" in row
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 5
    assert '<td>exchanged labels</td><td class="wrong">wrong</td>' in page
    assert f"{faulty} frame 40" in page
    assert re.findall(r"(?:src|href)=|@import|url\(", page) == []  # nothing is loaded from elsewhere


def test_strict(faulty, capsys):
    assert main(["inspect", faulty, "--strict"]) == 1
    assert main(["inspect", MGO, "--strict"]) == 0


def test_json(tmp_path, faulty, capsys):
    assert main(["inspect", faulty, "--json", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert main(["inspect", faulty, "--json", str(tmp_path / "found.json")]) == 0
    assert json.loads((tmp_path / "found.json").read_text()) == printed
    (wrong,) = [verdict for verdict in printed["verdicts"] if verdict["level"] == "wrong"]
    assert wrong["check"] == "exchanged labels"
    assert wrong["frames"] == [f"{faulty} frame 3", f"{faulty} frame 40"]
    assert printed["level"] == "wrong"
    assert printed["facts"]["frames"] == 110


def test_names_and_units(tmp_path, capsys):
    text = '2\nProperties=species:S:1:pos:R:3:f:R:3 e=-700 pbc="F F F"\nH 0 0 0 0 0 0\nH 0 0 0.74 0 0 0\n'
    (tmp_path / "a.xyz").write_text(text)
    options = ["--key-mapping", "e=total_energy", "f=forces", "--units", "energy=kcal/mol", "--json", "-"]
    assert main(["inspect", str(tmp_path / "a.xyz"), "--cutoff", "0.5", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["facts"]["energy_per_atom"] == [pytest.approx(-350 / 23.0605, rel=1e-5)] * 2
    assert found["cutoff"] == 0.5
    assert found["closest"] == []


def test_what_cannot_be_read(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "missing.xyz")]) == 2
    assert capsys.readouterr().err.startswith(f"error: no such file: {tmp_path / 'missing.xyz'}")
    assert main(["inspect", MGO, "--units", "energy"]) == 2
    assert "--units has 'energy', which is not of the form name=value" in capsys.readouterr().err


def test_help_is_quick():
    code = (
        "import sys; from nequip_like.cli.data import main\n"
        "try: main(['inspect', '--help'])\n"
        "finally: print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stdout.splitlines()[-1] == "False"
    assert "--strict" in run.stdout


def test_no_command(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "COMMAND" in capsys.readouterr().err


def test_convert_and_split_as_typed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", MGO, str(DATA / "mgo" / "test.xyz"), "all.extxyz"]) == 0
    assert main(["split", "all.extxyz", "--train", "0.8", "--val", "0.1", "--test", "15", "--output", "parts"]) == 0
    printed = capsys.readouterr().out
    assert "written: all.extxyz, 150 frames, total_energy, forces, stress" in printed
    assert "written: parts/train.xyz, 120 frames, total_energy, forces, stress" in printed
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {"train.xyz", "val.xyz", "test.xyz"}
    assert main(["split", "all.extxyz", "--output", "parts"]) == 2
    assert "parts/train.xyz is there already" in capsys.readouterr().err
    assert main(["convert", "all.extxyz"]) == 2
    assert "convert needs a file to read and one to write" in capsys.readouterr().err


def test_convert_with_a_repair_file(tmp_path, monkeypatch, write_labelled):
    """A file of repairs changes what is written: a frame less, two forces exchanged, the others as they were."""
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "all.xyz", seed=0)
    before = read(tmp_path / "all.xyz").frames
    repairs = [
        FrameRepair("all.xyz", index, hash_content(before[index]), action, "a test", atoms)
        for index, action, atoms in ((1, "drop", ()), (3, "exchange_forces", (0, 1)))
    ]
    write_repairs(tmp_path / "repair.json", repairs, {})
    assert main(["convert", "--repair", "repair.json", "all.xyz", "mended.xyz"]) in (0, None)
    after = read(tmp_path / "mended.xyz").frames
    kept = [frame for index, frame in enumerate(before) if index != 1]
    assert len(after) == len(kept)
    for index, (old, new) in enumerate(zip(kept, after, strict=True)):
        expected = old["forces"].clone()
        if index == 2:
            expected[[0, 1]] = expected[[1, 0]]
        assert torch.equal(new["pos"], old["pos"])
        assert torch.equal(new["forces"].nan_to_num(99.0), expected.nan_to_num(99.0))

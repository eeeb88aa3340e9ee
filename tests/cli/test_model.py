"""``nequip-model`` as a user types it."""

import hashlib
import json
import subprocess
import sys

import pytest
import torch

from nequip_like.artifacts import read_artifacts
from nequip_like.cli.model.command import main
from nequip_like.compat.conversion import convert_model, read_any_model
from nequip_like.compat.nequip_models import import_nequip_model
from nequip_like.errors import ConfigError, ModelError
from nequip_like.inference import manifest, model_file
from nequip_like.inference.loading import load
from nequip_like.model.descriptor.builder import DescriptorANNModel
from nequip_like.workflow.finetune.source import read_source
from nequip_like.workflow.model_files import facts
from tests.compat.nequip_models import tiny_training
from tests.compat.nequip_models.tiny_training import REFERENCE


@pytest.fixture
def folder(make_potential, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model_file.save(make_potential(), tmp_path / "a.safetensors", {"licence": "MIT"})
    model_file.save(make_potential(seed=1), tmp_path / "b.safetensors")
    return tmp_path


def same(first, second):
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_typed(folder):
    """In a process of its own, from NequIP's package to a model file."""
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "nequip_like.cli.model.command",
        "convert",
        str(REFERENCE / "tiny.nequip.zip"),
    ]
    done = subprocess.run([*command, "--output", "c.safetensors"], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Potential(family=nequip, species=H C O, cutoff=3.5 Å, parameters=265, dtype=float64)",
        f"written: {folder}/c.safetensors",
    ]
    assert same(load(folder / "c.safetensors"), import_nequip_model(REFERENCE / "tiny.ckpt")[0])


def test_help_is_quick():
    code = (
        "import sys; from nequip_like.cli.model.command import main\n"
        "try: main(['convert', '--help'])\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_info(folder, capsys):
    assert main(["info", "a.safetensors"]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert (lines["species"], lines["cutoff"], lines["licence"]) == ("H C O", "3 Å", "MIT")
    assert main(["info", "a.safetensors", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["cutoff"] == 3.0


def test_info_of_a_checkpoint_of_nequip(capsys):
    assert main(["info", str(REFERENCE / "tiny.ckpt")]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert lines["kind"] == "model of nequip"
    assert lines["weights"].endswith("ema weights, epoch 1, step 8")
    assert "nequip 0.19.1" in lines["versions"]


def test_verify(folder, make_potential, capsys):
    assert main(["verify", "a.safetensors"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("a.safetensors: model file, format version 1, sha256 ")
    assert all(line.startswith("ok      ") for line in lines[1:])
    broken = make_potential()
    broken.energy_model.scale_shift.shifts[0] = torch.nan
    model_file.save(broken, folder / "broken.safetensors")
    assert main(["verify", "broken.safetensors"]) == 1
    out = capsys.readouterr().out
    assert "FAILED  weights are finite: 'energy_model.scale_shift.shifts' has 1 numbers that are not finite" in out


def test_verify_finds_changed_artifacts(folder, capsys):
    assert main(["convert", "a.safetensors", "--to", "artifacts", "--output", "c"]) == 0
    assert main(["verify", "c"]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("c/model.safetensors: artifacts, sha256 ")
    text = (folder / "c" / "model.json").read_text()
    (folder / "c" / "model.json").write_text(text + "\n")
    assert main(["verify", "c"]) == 2
    assert "its SHA-256 is another" in capsys.readouterr().err


def test_diff(folder, capsys):
    assert main(["diff", "a.safetensors", "a.safetensors"]) == 0
    assert capsys.readouterr().out == "the same model: its config, its weights and what it predicts\n"
    assert main(["diff", "a.safetensors", "b.safetensors"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["config arguments.seed", "  - 0", "  + 1"]
    assert "weights energy_model.type_embedding" in lines
    assert "predictions forces" in lines


def test_card(folder, capsys):
    assert main(["card", "a.safetensors", "--name", "A model"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# A model\n")
    assert "\n## Licence\n\nMIT\n" in printed
    assert main(["card", "a.safetensors", "--name", "A model", "--output", "MODEL.md"]) == 0
    assert (folder / "MODEL.md").read_text() == printed


def test_convert_to_artifacts_and_back(folder, capsys):
    assert main(["convert", "a.safetensors", "--to", "artifacts", "--output", "c", "--licence", "CC0"]) == 0
    assert main(["convert", "c/manifest.json", "--output", "c.safetensors"]) == 0
    assert capsys.readouterr().err == ""
    first = load(folder / "a.safetensors")
    assert same(read_artifacts(folder / "c"), first)
    assert same(load(folder / "c.safetensors"), first)
    assert model_file.read_card(folder / "c.safetensors")["licence"] == "CC0"


def test_convert_networks_of_aenet(folder):
    network = DescriptorANNModel(
        type_names=["H", "O"], r_max=4.0, radial_order=3, angular_order=2, model_dtype="float64"
    )
    model_file.save(network, folder / "d.safetensors")
    written = convert_model(folder / "d.safetensors", folder / "networks", "aenet").files
    assert [file.name for file in written] == ["H.nn.ascii", "O.nn.ascii"]
    back = convert_model(folder / "networks", folder / "e.safetensors").potential
    assert back.config["family"] == "descriptor_ann"
    card = model_file.read_card(folder / "e.safetensors")
    assert card["provenance"]["imported_from"] == {"path": str(folder / "networks"), "package": "aenet"}


def test_a_fine_tuning_can_begin_with_what_was_converted(folder):
    convert_model(REFERENCE / "tiny.ckpt", folder / "c.safetensors")
    source, card = read_source(str(folder / "c.safetensors"))
    assert (source.cutoff, source.config["arguments"]["num_bessels"]) == (3.5, 4)
    assert card["provenance"]["weights"] == "ema"


@pytest.mark.slow
def test_a_fine_tuning_of_a_model_of_nequip(folder):
    tiny_training.write_frames(folder / "train.xyz")
    source = convert_model(REFERENCE / "tiny.ckpt", folder / "c.safetensors").potential
    command = [
        *(sys.executable, "-m", "nequip_like.cli.train", "data.train=train.xyz", "data.val=2", "run=[train]"),
        *("finetune.source=c.safetensors", "trainer.max_epochs=2", "trainer.accelerator=cpu", "hydra.run.dir=run"),
        "targets=energy_force_stress",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    tuned = load(folder / "run" / "model.safetensors")
    assert tuned.config["arguments"]["num_bessels"] == 4
    assert tuned.config["arguments"]["per_edge_type_cutoff"] == {"H": {"C": 2.1}, "O": 2.5}
    assert not same(tuned, source)
    assert main(["info", "run"]) == 0
    assert main(["verify", "run"]) == 0


def test_refused(folder, capsys):
    assert main(["info", "nothing.safetensors"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"error: no such file or folder: {folder}/nothing.safetensors"
    with pytest.raises(ConfigError, match=r"ends in \.safetensors"):
        convert_model("a.safetensors", "c.pt")
    with pytest.raises(ConfigError, match="both what is read and what is written"):
        convert_model("a.safetensors", "./a.safetensors")
    with pytest.raises(ConfigError, match="no form 'onnx'"):
        convert_model("a.safetensors", "c.onnx", "onnx")
    with pytest.raises(ConfigError, match="name its interpreter: --nequip-python"):
        convert_model("a.safetensors", "c.ckpt", "nequip")
    with pytest.raises(ModelError, match="cannot be written for aenet"):
        convert_model("a.safetensors", "c", "aenet")
    with pytest.raises(ConfigError, match="there is no interpreter"):
        read_any_model("a.safetensors", "no/python")


def test_nothing_is_replaced_unasked(folder, capsys):
    before = (folder / "b.safetensors").read_bytes()
    for command in (["convert", "a.safetensors"], ["card", "a.safetensors"]):
        assert main([*command, "--output", "b.safetensors"]) == 2
        assert "b.safetensors is there already" in capsys.readouterr().err
    (folder / "full").mkdir()
    (folder / "full" / "notes.txt").write_text("mine")
    assert main(["convert", "a.safetensors", "--to", "artifacts", "--output", "full"]) == 2
    assert "full is there already" in capsys.readouterr().err
    assert (folder / "b.safetensors").read_bytes() == before
    assert main(["convert", "a.safetensors", "--output", "b.safetensors", "--overwrite"]) == 0
    assert same(load(folder / "a.safetensors"), load(folder / "b.safetensors"))


def test_artifacts_name_the_file_that_they_were_made_of(folder):
    assert main(["convert", "a.safetensors", "--to", "artifacts", "--output", "c"]) == 0
    source = json.loads((folder / "c" / "manifest.json").read_text())["source"]
    content = (folder / "a.safetensors").read_bytes()
    assert source == {"path": "a.safetensors", "format": "safetensors", "sha256": hashlib.sha256(content).hexdigest()}


def test_each_file_is_read_once_only(folder, monkeypatch):
    """Of NequIP's checkpoints, beside the look at them as one of ours; of artifacts each SHA-256."""
    read, hashed = [], []
    torch_load, checksum = torch.load, manifest.compute_checksum
    monkeypatch.setattr(torch, "load", lambda *a, **k: read.append(a[0]) or torch_load(*a, **k))
    read_any_model(REFERENCE / "tiny.ckpt")
    assert len(read) == 2
    assert main(["convert", "a.safetensors", "--to", "artifacts", "--output", "c"]) == 0
    monkeypatch.setattr(manifest, "compute_checksum", lambda path: hashed.append(path.name) or checksum(path))
    monkeypatch.setattr(facts, "compute_checksum", lambda path: hashed.append(path.name) or checksum(path))
    assert main(["info", "c"]) == 0
    assert sorted(hashed) == ["model.json", "model.safetensors"]


@pytest.mark.parametrize(("section", "key", "value"), [("io", "energy_unit", "Hartree"), ("config", "cutoff", 9.0)])
def test_a_manifest_that_says_what_is_not_so_is_found(folder, capsys, section, key, value):
    assert main(["convert", "a.safetensors", "--to", "artifacts", "--output", "c"]) == 0
    path = folder / "c" / "manifest.json"
    content = json.loads(path.read_text())
    content[section][key] = value
    path.write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["verify", "c"]) == 1
    printed = capsys.readouterr().out
    assert f"FAILED  its description is that of the model: c/manifest.json says that {key} is {value}" in printed

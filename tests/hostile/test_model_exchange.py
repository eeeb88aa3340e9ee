"""Damaged and hostile artifacts and files of NequIP's: an error of the package or the same model; no code is run."""

import io
import json
import os
import pickle
import random
import subprocess
import zipfile

import pytest
import torch

from nequip_like.artifacts import read_artifacts, write_artifacts
from nequip_like.compat.conversion import read_any_model
from nequip_like.compat.nequip_models import import_nequip_model
from nequip_like.errors import ModelFileError, NequipLikeError
from nequip_like.inference.loading import load_any
from nequip_like.inference.manifest import read_manifest
from nequip_like.model import NequIPGNNModel
from tests.compat.nequip_models.tiny_training import REFERENCE
from tests.hostile.mutations import damaged, refused, retold, share

FILES = ("manifest.json", "model.json", "model.safetensors")
WORDS = (
    "null",
    "true",
    "-1",
    "1e400",
    "[]",
    "{}",
    "[[[[",
    '"',
    '"../model.json"',
    '"/etc/passwd"',
    "9" * 400,
    "NaN",
    ",",
)


@pytest.fixture(scope="module")
def potential():
    small = {"num_features": 2, "num_layers": 1, "radial_mlp_width": 2, "avg_num_neighbors": 2.0, "num_bessels": 2}
    return NequIPGNNModel(type_names=["H", "O"], r_max=3.0, **small).eval()


@pytest.fixture
def folder(potential, tmp_path):
    write_artifacts(potential, tmp_path / "artifacts", card={"licence": "MIT"})
    return tmp_path / "artifacts"


def check_same(potential, expected):
    assert potential.config == expected.config
    assert potential.state_dict().keys() == expected.state_dict().keys()
    for name, tensor in potential.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name]), name


def read_or_refuse(read, expected):
    """The outcome of reading: the model that was written, or an error of the package."""
    found = []
    if refused(lambda: found.append(read())):
        return "refused"
    check_same(found[0], expected)
    return "read"


def test_damaged_artifacts(folder, potential):
    whole = {name: (folder / name).read_bytes() for name in FILES}
    outcomes = {name: set() for name in FILES}
    for seed in share("artifacts", 0, 1):
        name = FILES[seed % 4] if seed % 4 < 3 else FILES[0]
        as_words = name.endswith(".json") and seed % 3
        content = retold(whole[name].decode(), seed, WORDS).encode() if as_words else damaged(whole[name], seed)
        (folder / name).write_bytes(content)
        outcome = read_or_refuse(lambda: read_artifacts(folder), potential)
        outcomes[name].add(outcome)
        # Files whose SHA-256 is known are refused with any change.
        assert outcome == "refused" or name == "manifest.json" or content == whole[name], seed
        (folder / name).write_bytes(whole[name])
    assert outcomes["manifest.json"] == {"read", "refused"}
    assert "refused" in outcomes["model.json"] & outcomes["model.safetensors"]


@pytest.fixture(scope="module")
def imported():
    return import_nequip_model(REFERENCE / "tiny.ckpt")[0]


def test_damaged_checkpoints_of_nequip(tmp_path):
    """They have no checksum of their own: what is read has to be a potential, with whatever numbers."""
    whole, path = (REFERENCE / "tiny.ckpt").read_bytes(), tmp_path / "a.ckpt"
    outcomes = set()
    for seed in share("nequip checkpoints", 0, 1):
        path.write_bytes(damaged(whole, seed))
        outcomes.add(refused(lambda: read_any_model(path)))
    assert True in outcomes


def test_damaged_packages_of_nequip(imported, tmp_path):
    """The zip file itself, where a checksum stands with each entry: the same model or an error."""
    whole, path = (REFERENCE / "tiny.nequip.zip").read_bytes(), tmp_path / "a.nequip.zip"
    outcomes = set()
    for seed in share("nequip packages", 0, 2):
        path.write_bytes(damaged(whole, seed))
        outcomes.add(read_or_refuse(lambda: import_nequip_model(path)[0], imported))
    assert "refused" in outcomes


def test_packages_of_nequip_with_a_damaged_model(tmp_path):
    """The pickle in it, with checksums that fit."""
    outcomes = set()
    for seed in share("nequip packages", 1, 2):
        rng = random.Random(seed)
        changed = damaged if rng.random() < 0.5 else with_opcodes
        rewrite_package(tmp_path / "a.nequip.zip", lambda content, s=seed, c=changed: c(content, s))
        outcomes.add(refused(lambda: import_nequip_model(tmp_path / "a.nequip.zip")))
    assert True in outcomes


def with_opcodes(content, seed):
    """The pickle with some of its instructions replaced by others."""
    rng = random.Random(seed)
    named = [getattr(pickle, name) for name in pickle.__all__ if name.isupper()]
    codes = [code for code in named if isinstance(code, bytes) and len(code) == 1]
    data = bytearray(content)
    for _ in range(rng.choice((1, 2, 8))):
        data[rng.randrange(len(data))] = rng.choice(codes)[0]
    return bytes(data)


def rewrite_package(path, change, entry="eager_model.pkl"):
    with zipfile.ZipFile(REFERENCE / "tiny.nequip.zip") as whole, zipfile.ZipFile(path, "w") as changed:
        for name in whole.namelist():
            content = whole.read(name)
            changed.writestr(name, change(content) if name.endswith(entry) else content)


class Calls:
    """A pickle that calls something when it is opened."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attacks(path):
    return {
        "os.system": Calls(os.system, f"touch {path}"),
        "eval": Calls(eval, f"open({str(path)!r}, 'w')"),
        "open": Calls(open, str(path), "w"),
        "Popen": Calls(subprocess.Popen, ["touch", str(path)]),
        "torch.save": Calls(torch.save, {}, str(path)),
        "in a dict": {"sole_model": Calls(os.system, f"touch {path}")},
    }


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", list(attacks("")))
def test_code_in_a_package_is_not_run(tmp_path, canary, name, protocol):
    path = tmp_path / "a.nequip.zip"
    rewrite_package(path, lambda _: pickle.dumps(attacks(canary)[name], protocol))
    with pytest.raises(ModelFileError, match="cannot be read without NequIP"):
        read_any_model(path)
    assert not canary.exists()


def test_code_behind_a_whole_model_is_not_run(imported, tmp_path, canary):
    """The pickle of the model, and before it one that calls: it is read over, and the model is the same."""
    attack = pickle.dumps(attacks(canary)["os.system"], 2)[2:-1] + pickle.POP
    rewrite_package(tmp_path / "a.nequip.zip", lambda content: content[:2] + attack + content[2:])
    check_same(read_any_model(tmp_path / "a.nequip.zip")[0], imported)
    assert not canary.exists()


@pytest.mark.parametrize("state", [b"N", b"}"])
@pytest.mark.parametrize(
    "named", [b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"cbuiltins\nset\n", b"K\x01"]
)
def test_a_pickle_changes_nothing_that_it_names(tmp_path, named, state):
    rewrite_package(tmp_path / "a.nequip.zip", lambda _: b"\x80\x02" + named + state + pickle.BUILD + pickle.STOP)
    with pytest.raises(ModelFileError, match="what is no object has a state"):
        read_any_model(tmp_path / "a.nequip.zip")


@pytest.mark.parametrize("name", list(attacks("")))
def test_code_in_a_checkpoint_of_nequip_is_not_run(tmp_path, canary, name):
    content = torch.load(REFERENCE / "tiny.ckpt", map_location="cpu", weights_only=True)
    torch.save({**content, "hook": attacks(canary)[name]}, tmp_path / "a.ckpt")
    with pytest.raises(NequipLikeError):
        read_any_model(tmp_path / "a.ckpt")
    with pytest.raises(ModelFileError, match="more than tensors and plain values"):
        import_nequip_model(tmp_path / "a.ckpt")


BOMBS = {
    "compressed": (zipfile.ZIP_DEFLATED, b"\x00" * 10_000_000),
    "laughs": (
        zipfile.ZIP_STORED,
        b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        + b"".join(b"a%d: &a%d [%s]\n" % (i, i, b", ".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12))
        + b"training_module: {model: {_target_: nequip.model.NequIPGNNModel, type_names: *a11, r_max: 3}}\n",
    ),
    "brackets": (zipfile.ZIP_STORED, b"a: " + b"[" * 5000),
    "not text": (zipfile.ZIP_STORED, b"\xff\xfe\x00\x01"),
    "tag of Python": (zipfile.ZIP_STORED, b"evil: !!python/object/apply:os.system ['touch canary']\n"),
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_configs_of_packages_that_are_bombs(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    method, text = BOMBS[name]
    with zipfile.ZipFile(REFERENCE / "tiny.nequip.zip") as whole, zipfile.ZipFile("a.nequip.zip", "w") as changed:
        for entry in whole.namelist():
            is_config = entry.endswith("config.yaml")
            changed.writestr(entry, text if is_config else whole.read(entry), method if is_config else None)
    assert refused(lambda: read_any_model("a.nequip.zip"))
    assert not (tmp_path / "canary").exists()


# --- manifests


def change_manifest(folder, change):
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    (folder / "manifest.json").write_text(json.dumps(content))


MANIFESTS = {
    "outside": (lambda c: c["weights"].update(path="../model.safetensors"), "is no file of its folder"),
    "absolute": (lambda c: c["weights"].update(path="/etc/passwd"), "is no file of its folder"),
    "by a link": (lambda c: c["weights"].update(path="link.safetensors"), "leads out of its folder"),
    "a NUL": (lambda c: c["weights"].update(path="a\0b"), "is no file of its folder"),
    "a folder": (lambda c: c["weights"].update(path="."), "is no file of its folder|is not there"),
    "nothing": (lambda c: c["weights"].update(path="other.safetensors"), "which is not there"),
    "no checksum": (lambda c: c["weights"].pop("sha256"), "does not name its weights by path and sha256"),
    "another checksum": (lambda c: c["weights"].update(sha256="0" * 64), "its SHA-256 is another"),
    "a checksum that is none": (lambda c: c["weights"].update(sha256=["0"]), "by path and sha256"),
    "a pickle": (lambda c: c["weights"].update(format="torch"), "of no format that is read"),
    "another backend": (lambda c: c.update(backend="mace"), "its backend is mace, and not nequip_like"),
    "a newer schema": (lambda c: c.update(schema_version="v2"), "its schema_version is v2, and not v1"),
    "other species": (lambda c: c["config"].update(type_names=["H"]), "says that type_names"),
    "another cutoff": (lambda c: c["config"].update(cutoff=9.0), "says that cutoff is 9.0, but the model"),
}


@pytest.mark.parametrize("name", list(MANIFESTS))
def test_manifests_that_lie(folder, tmp_path, name):
    change, message = MANIFESTS[name]
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / "link.safetensors").symlink_to(tmp_path / "model.safetensors")
    change_manifest(folder, change)
    with pytest.raises(ModelFileError, match=message):
        read_artifacts(folder)


TEXTS = {
    "deep": b"[" * 100_000,
    "deep and closed": b'{"config":' * 5_000 + b"1" + b"}" * 5_000,
    "a long number": b'{"schema_version": ' + b"9" * 10_000 + b"}",
    "a list": b"[1, 2]",
    "nothing": b"",
    "not text": b"\xff\xfe\x00",
    "huge": b" " * ((1 << 24) + 1),
}


@pytest.mark.parametrize("name", list(TEXTS))
@pytest.mark.parametrize("load", [read_artifacts, load_any, read_manifest])
def test_manifests_that_are_bombs(folder, load, name):
    (folder / "manifest.json").write_bytes(TEXTS[name])
    assert refused(lambda: load(folder))


def test_a_description_that_is_another(folder):
    """Also with its own SHA-256 in the manifest."""
    import hashlib

    text = (folder / "model.json").read_text().replace('"cutoff": 3.0', '"cutoff": 4.0')
    (folder / "model.json").write_text(text)
    change_manifest(folder, lambda c: c["model"].update(sha256=hashlib.sha256(text.encode()).hexdigest()))
    with pytest.raises(ModelFileError, match=r"model\.json says that cutoff is 4\.0"):
        read_artifacts(folder)
    text = io.StringIO("[]").read()
    (folder / "model.json").write_text(text)
    change_manifest(folder, lambda c: c["model"].update(sha256=hashlib.sha256(text.encode()).hexdigest()))
    with pytest.raises(ModelFileError, match="does not describe a model"):
        read_artifacts(folder)

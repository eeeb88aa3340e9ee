"""Damaged and hostile files of models: checkpoints and safetensors. Nothing that they hold is run."""

import copy
import io
import json
import os
import pickle
import random
import runpy
import struct
import subprocess
import zipfile

import pytest
import torch

from nequip_like.cli.test import main
from nequip_like.errors import ModelFileError
from nequip_like.inference import save
from nequip_like.inference.loading import load_any
from nequip_like.model import NequIPGNNModel
from nequip_like.model.checkpoint_format import CHECKPOINT_KEY, CHECKPOINT_VERSION
from tests.hostile.mutations import damaged, refused, share

BATCHES = 5


@pytest.fixture(scope="module")
def potential():
    small = {"num_features": 2, "num_layers": 1, "radial_mlp_width": 2, "avg_num_neighbors": 2.0, "num_bessels": 2}
    return NequIPGNNModel(type_names=["H", "O"], r_max=3.0, **small).eval()


@pytest.fixture(scope="module")
def content(potential):
    state = {f"model.{name}": value for name, value in potential.state_dict().items()}
    own = {"format_version": CHECKPOINT_VERSION, "potential": potential.config, "uses_ema": False, "versions": {}}
    return {CHECKPOINT_KEY: own, "state_dict": state, "epoch": 1, "global_step": 2}


@pytest.fixture(scope="module")
def checkpoint(content):
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def model_file(potential, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save(potential, path)
    return path.read_bytes()


@pytest.mark.parametrize("batch", range(BATCHES))
def test_damaged_checkpoints(checkpoint, tmp_path, batch):
    path = tmp_path / "a.ckpt"
    outcomes = []
    for seed in share("checkpoints", batch, BATCHES):
        path.write_bytes(damaged(checkpoint, seed))
        outcomes.append(refused(lambda: load_any(path)))
    assert any(outcomes)


@pytest.mark.parametrize("batch", range(BATCHES))
def test_damaged_model_files(model_file, tmp_path, batch):
    path = tmp_path / "a.safetensors"
    outcomes = []
    for seed in share("model files", batch, BATCHES):
        changed = (
            damaged(model_file, seed) if seed % 2 else with_header(model_file, lambda h, s=seed: damage_card(h, s))
        )
        path.write_bytes(changed)
        outcomes.append(refused(lambda: load_any(path)))
    assert any(outcomes)


def with_header(content, change):
    """The model file with its header changed."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(change(header) or header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


VALUES = (
    None, True, -1, 0, 3, 10**6, 10**9, 10**30, 1e308, -0.5, "", "x", "é\x00", [], {}, [[]], {"a": 1}, "silu",
    ["H"] * 2, "1000000x0e", "3x1o+2x0e", "99x99e", ["8x0e"] * 500, "os.system",
)  # fmt: skip


def damage_card(header, seed):
    """Change one to three values somewhere in the card."""
    rng = random.Random(seed)
    card = json.loads(header["__metadata__"]["nequip_like"])
    for _ in range(rng.randint(1, 3)):
        place = card
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
                place = place[key]
                continue
            if rng.random() < 0.2:
                del place[key]
            else:
                place[key] = copy.deepcopy(rng.choice(VALUES))
            break
    header["__metadata__"]["nequip_like"] = json.dumps(card)


class Calls:
    """A pickle that calls something when it is opened."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attacks(path):
    command = f"touch {path}"
    return {
        "os.system": Calls(os.system, command),
        "eval": Calls(eval, f"open({str(path)!r}, 'w')"),
        "exec": Calls(exec, f"open({str(path)!r}, 'w')"),
        "open": Calls(open, str(path), "w"),
        "Popen": Calls(subprocess.Popen, ["touch", str(path)]),
        "runpy": Calls(runpy.run_path, str(path)),
        "import": Calls(__import__, "antigravity"),
        "torch.hub": Calls(torch.hub.load, "nobody/nothing", "model"),
        "torch.load": Calls(torch.load, str(path)),
        "torch.save": Calls(torch.save, {}, str(path)),
        "tensor in tensor": {"state_dict": Calls(torch.Tensor.numpy, Calls(os.system, command))},
    }


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle", "swapped"])
@pytest.mark.parametrize("name", list(attacks("")))
def test_code_in_a_checkpoint_is_not_run(content, checkpoint, tmp_path, canary, name, form):
    attack = attacks(canary)[name]
    path = tmp_path / "a.ckpt"
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(attack, 2))
    elif form == "swapped":  # a good file whose pickle was exchanged afterwards
        with zipfile.ZipFile(io.BytesIO(checkpoint)) as whole, zipfile.ZipFile(path, "w") as changed:
            for entry in whole.namelist():
                changed.writestr(entry, pickle.dumps(attack, 2) if entry.endswith("data.pkl") else whole.read(entry))
    else:
        torch.save({**content, "hook": attack}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ModelFileError):
        load_any(path)
    assert not canary.exists()


def test_the_command_refuses_too(content, tmp_path, canary, capsys):
    torch.save({**content, "hook": Calls(os.system, f"touch {canary}")}, tmp_path / "a.ckpt")
    assert main([str(tmp_path / "a.ckpt"), "none.xyz"]) == 2
    error, advice = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {tmp_path / 'a.ckpt'} holds more than tensors and plain values")
    assert advice.startswith("  -> ")


def header_only(text):
    return struct.pack("<Q", len(text)) + text


HEADERS = {
    "length beyond the file": struct.pack("<Q", 1 << 62) + b"{}",
    "length of nothing": struct.pack("<Q", 0),
    "short": b"\x01",
    "not JSON": header_only(b"{" * 64),
    "deep": header_only(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "huge shape": header_only(b'{"a":{"dtype":"F32","shape":[9999999999,9999999999],"data_offsets":[0,4]}}') + bytes(4),
    "negative shape": header_only(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}') + bytes(4),
    "unknown type": header_only(b'{"a":{"dtype":"F7","shape":[1],"data_offsets":[0,4]}}') + bytes(4),
    "overlap": header_only(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    )
    + bytes(4),
    "twice": header_only(b'{"__metadata__":{"nequip_like":"{}"},"__metadata__":{"nequip_like":"[]"}}'),
}


@pytest.mark.parametrize("name", list(HEADERS))
def test_headers_that_lie(tmp_path, name):
    (tmp_path / "a.safetensors").write_bytes(HEADERS[name])
    assert refused(lambda: load_any(tmp_path / "a.safetensors"))


CARDS = {
    "deep": "[" * 100_000,
    "deep and closed": '{"config":' * 5_000 + "1" + "}" * 5_000,
    "a long number": '{"format_version": ' + "9" * 10_000 + "}",
    "a key twice": '{"format": "nequip_like/potential", "format": 3}',
    "not a number": '{"format": "nequip_like/potential", "format_version": NaN}',
    "a list": "[1, 2]",
}


@pytest.mark.parametrize("name", list(CARDS))
def test_cards_that_are_bombs(model_file, tmp_path, name):
    def change(header):
        header["__metadata__"]["nequip_like"] = CARDS[name]

    (tmp_path / "a.safetensors").write_bytes(with_header(model_file, change))
    assert refused(lambda: load_any(tmp_path / "a.safetensors"))


SIZES = {
    "feature_irreps_hidden": [["1000000x0e"], ["99999999999x0e"], ["4x60e"], ["2x0e"] * 3000],
    "radial_mlp_width": [[10**7], [10**12]],
    "radial_mlp_depth": [[10**6]],
    "num_bessels": [10**9],
    "type_embed_num_features": [10**8],
    "irreps_edge_sh": [400, "1x200e"],
    "readout_mlp_hidden_layers_width": [10**9],
    "readout_mlp_hidden_layers_depth": [10**6],
    "type_names": [["H"] * 100_000, ["H", "os.system('true')"]],
    "r_max": [float("1e300"), -1.0],
    "family": ["os.system"],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in SIZES.items() for value in values])
def test_models_of_absurd_size_are_not_built(model_file, tmp_path, key, value):
    def change(header):
        card = json.loads(header["__metadata__"]["nequip_like"])
        (card["config"] if key == "family" else card["config"]["arguments"])[key] = value
        header["__metadata__"]["nequip_like"] = json.dumps(card)

    (tmp_path / "a.safetensors").write_bytes(with_header(model_file, change))
    assert refused(lambda: load_any(tmp_path / "a.safetensors"))

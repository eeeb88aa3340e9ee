"""The numbers of nequip 0.19.1 from nequip's weights: stored ones always, the full comparison on request.

``NEQUIP_PYTHON=/path/to/python pytest tests/model/test_nequip_parity.py -m slow`` runs benchmarks/nequip_parity.py;
its ``--make-env`` makes that environment, its ``--store`` made the stored numbers.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nequip_like.compat.nequip_weights import load_nequip_weights, to_nequip_weights
from nequip_like.data import fields
from nequip_like.data.graph import collate
from nequip_like.errors import ModelFileError
from nequip_like.model import NequIPGNNModel

ROOT = Path(__file__).parents[2]
with np.load(Path(__file__).parent / "reference" / "nequip.npz", allow_pickle=False) as _stored:
    REFERENCE = {key: _stored[key] for key in _stored.files}
CASES = {case["name"]: case["arguments"] for case in json.loads(str(REFERENCE["cases"]))}


def entries(prefix):
    return {k.removeprefix(prefix): torch.from_numpy(v) for k, v in REFERENCE.items() if k.startswith(prefix)}


def loaded(name, dtype="float64", **changes):
    """Our model, drawn with another seed, with nequip's weights."""
    potential = NequIPGNNModel(**{**CASES[name], "seed": 5, "model_dtype": dtype, **changes}).eval()
    load_nequip_weights(potential, entries(f"{name}|state|"))
    return potential


def error(actual, expected):
    return float((actual - expected.reshape(actual.shape)).abs().max() / expected.abs().max())


def test_what_is_stored():
    assert str(REFERENCE["version"]) == "0.19.1"
    assert len(CASES) == 3
    assert {case["l_max"] for case in CASES.values()} == {1, 2, 3}


@pytest.mark.parametrize("name", CASES)
def test_parameter_count(name):
    potential = NequIPGNNModel(**CASES[name])
    assert sum(p.numel() for p in potential.parameters()) == int(REFERENCE[f"{name}|count"])


@pytest.mark.parametrize(("dtype", "limit"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("kernel", ["batched", "reference"])
@pytest.mark.parametrize("structure", ["molecule", "crystal"])
@pytest.mark.parametrize("name", CASES)
def test_stored_predictions(name, structure, kernel, dtype, limit):
    prediction = loaded(name, dtype, kernel=kernel)(entries(f"structure|{structure}|"))
    expected = entries(f"{name}|own|{structure}|")
    assert set(expected) == {"total_energy", "atomic_energy", "forces"} | (
        {"stress", "virial"} if structure == "crystal" else set()
    )
    for key, value in expected.items():
        assert error(prediction[key], value) <= limit, key


def test_stored_numbers_are_not_trivial():
    name = next(iter(CASES))
    fresh = NequIPGNNModel(**{**CASES[name], "seed": 5}).eval()(entries("structure|crystal|"))
    for key, value in entries(f"{name}|own|crystal|").items():
        assert error(fresh[key], value) > 1e-2, f"{key} does not depend on the weights"


def test_batch_with_a_molecule():
    """Molecule and crystal in one batch, which the stored numbers were not."""
    name = next(iter(CASES))
    crystal, molecule = entries("structure|crystal|"), entries("structure|molecule|")
    edges = molecule[fields.EDGE_INDEX].shape[1]
    molecule = {
        **molecule,
        fields.CELL: torch.zeros(1, 3, 3, dtype=torch.float64),
        fields.PBC: torch.zeros(1, 3, dtype=torch.bool),
        fields.EDGE_CELL_SHIFT: torch.zeros(edges, 3, dtype=torch.float64),
    }
    prediction = loaded(name)(collate([molecule, crystal]))
    expected = [entries(f"{name}|own|{structure}|") for structure in ("molecule", "crystal")]
    assert error(prediction["forces"], torch.cat([part["forces"] for part in expected])) < 1e-12
    assert error(prediction["stress"][1:], expected[1]["stress"]) < 1e-12


@pytest.mark.parametrize("name", CASES)
def test_weights_go_there_and_back(name):
    flat = to_nequip_weights(loaded(name))
    stored = entries(f"{name}|state|")
    assert set(flat) <= set(stored)
    for key, value in flat.items():
        assert torch.equal(value, stored[key].reshape(-1)), key
    assert sum(value.numel() for value in flat.values()) == int(REFERENCE[f"{name}|count"])


def test_weights_that_do_not_fit():
    name = next(iter(CASES))
    state = entries(f"{name}|state|")
    with pytest.raises(ModelFileError, match=r"has \d+ numbers, the model has \d+"):
        load_nequip_weights(NequIPGNNModel(**{**CASES[name], "num_features": 3}), state)
    with pytest.raises(ModelFileError, match=r"no entry that ends in '.*sc\.weight'"):
        load_nequip_weights(NequIPGNNModel(**CASES[name]), {k: v for k, v in state.items() if ".sc." not in k})
    with pytest.raises(ModelFileError, match=r"no place for the NequIP weights model\.func\.layer1_convnet\.conv\.sc"):
        load_nequip_weights(NequIPGNNModel(**{**CASES[name], "convnet_sc": False}), state)


@pytest.mark.slow
@pytest.mark.skipif("NEQUIP_PYTHON" not in os.environ, reason="NEQUIP_PYTHON does not name a python with nequip")
def test_full_comparison(tmp_path):
    script, table = ROOT / "benchmarks" / "nequip_parity.py", tmp_path / "table.json"
    command = [sys.executable, str(script), "--peer", os.environ["NEQUIP_PYTHON"], "--json", str(table)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    content = json.loads(table.read_text())
    rows, metrics = content["rows"], content["metrics"]
    assert (len(rows), len(metrics)) == (50, 28)
    assert all(max(row["errors"].values()) <= 1e-12 for row in metrics)
    for row in rows:
        assert row["parameters"] == row["parameters_nequip"], row
        assert all(value <= (1e-9 if "float64" in row["case"] else 1e-5) for value in row["errors"].values()), row

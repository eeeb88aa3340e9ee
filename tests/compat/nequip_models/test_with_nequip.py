"""With NequIP itself: it trains, packages, fine-tunes; we read, predict and write; it opens, tests and compiles that.

``NEQUIP_PYTHON=/path/to/python pytest tests/compat/nequip_models/test_with_nequip.py`` with NequIP 0.19.1.
"""

import os

import pytest
import torch

from nequip_like.compat.nequip_models import export_to_nequip, import_nequip_model
from nequip_like.errors import ConfigError, ModelError
from tests.compat.nequip_models import tiny_training

PYTHON = os.environ.get("NEQUIP_PYTHON", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="NEQUIP_PYTHON does not name a python with nequip"),
]


def equal(first, second):
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a checkpoint of a training and its package."""
    folder = tmp_path_factory.mktemp("nequip")
    checkpoint = tiny_training.train(PYTHON, folder)
    checkpoint = checkpoint.rename(folder / "first.ckpt")
    tiny_training.package(PYTHON, checkpoint, folder / "model.nequip.zip")
    return folder


@pytest.mark.parametrize("name", ["first.ckpt", "model.nequip.zip"])
def test_nequip_confirms_what_was_read(trained, name):
    asked, card = import_nequip_model(trained / name, PYTHON)
    read, _ = import_nequip_model(trained / name)
    assert equal(asked, read)
    assert max(card["provenance"]["compared_with_nequip"].values()) < 1e-10
    assert set(card["provenance"]["compared_with_nequip"]) == {"total_energy", "atomic_energy", "forces", "stress"}


def test_a_model_that_nequip_fine_tuned_from_a_package(trained):
    checkpoint = tiny_training.train(PYTHON, trained, tiny_training.FINE_TUNED, "tuned")
    from_here = os.getcwd()
    os.chdir(trained)  # the config names the package without its folder
    try:
        asked, card = import_nequip_model(checkpoint, PYTHON)
        read, _ = import_nequip_model(checkpoint)
    finally:
        os.chdir(from_here)
    assert equal(asked, read)
    assert max(card["provenance"]["compared_with_nequip"].values()) < 1e-10
    assert asked.config["arguments"]["per_type_energy_shifts_trainable"] is True
    assert abs(float(asked.energy_model.scale_shift.shifts[0]) + 13.6) < 0.2  # of H, trained from there


@pytest.mark.parametrize("suffix", [".ckpt", ".nequip.zip"])
def test_written_for_nequip_and_read_again(trained, tmp_path, suffix):
    potential, _ = import_nequip_model(trained / "first.ckpt")
    differences = export_to_nequip(potential, tmp_path / f"written{suffix}", PYTHON)
    assert max(differences.values()) < 1e-10
    again, _ = import_nequip_model(tmp_path / f"written{suffix}")
    assert equal(potential, again)
    assert again.config == potential.config


def test_nequip_tests_and_packages_and_compiles_what_was_written(trained):
    potential, _ = import_nequip_model(trained / "first.ckpt")
    written = trained / "written.ckpt"
    export_to_nequip(potential, written, PYTHON)
    config = (trained / "config.yaml").read_text()
    head = config[: config.index("  model:\n")].replace("run: [train]", "run: [test]")
    head = head.replace("val_file_path: train.xyz", "val_file_path: train.xyz\n  test_file_path: train.xyz")
    head = head.replace(
        "  val_dataloader:", "  test_dataloader: {_target_: torch.utils.data.DataLoader}\n  val_dataloader:"
    )
    head = head.replace("  val_metrics:", "  test_metrics: ${training_module.val_metrics}\n  val_metrics:")
    (trained / "test.yaml").write_text(head + tiny_training.TESTED)
    assert "test0_epoch/forces_mae" in tiny_training.run(
        PYTHON, trained, "nequip-train", "-cp", str(trained), "-cn", "test"
    )
    packaged = tiny_training.package(PYTHON, written, trained / "written.nequip.zip")
    assert equal(import_nequip_model(packaged)[0], potential)
    tiny_training.run(
        *(PYTHON, trained, "nequip-compile", str(packaged), "written.nequip.pt2"),
        *("--mode", "aotinductor", "--device", "cpu", "--target", "ase"),
    )
    assert (trained / "written.nequip.pt2").is_file()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("preset", ["S", "XL"])
def test_presets(tmp_path, preset, dtype):
    from nequip_like.model import PresetNequIPGNNModel

    arguments = {"type_names": ["H", "C", "O"], "r_max": 4.5, "avg_num_neighbors": {"H": 12.0, "C": 15.0, "O": 14.0}}
    potential = PresetNequIPGNNModel(preset=preset, model_dtype=dtype, per_type_energy_shifts=-13.6, **arguments).eval()
    differences = export_to_nequip(potential, tmp_path / "a.ckpt", PYTHON)
    assert max(differences.values()) < (1e-6 if dtype == "float32" else 1e-11)
    assert equal(import_nequip_model(tmp_path / "a.ckpt")[0], potential)


def test_what_cannot_be_written(tmp_path, make_potential):
    from nequip_like.model.committee import CommitteePotential

    with pytest.raises(ConfigError, match=r"ends in \.nequip\.zip or \.ckpt"):
        export_to_nequip(make_potential(), tmp_path / "a.pt", PYTHON)
    members = [make_potential(seed=seed) for seed in (1, 2)]
    with pytest.raises(ModelError, match="of the family 'committee' cannot be written"):
        export_to_nequip(CommitteePotential(members), tmp_path / "a.ckpt", PYTHON)

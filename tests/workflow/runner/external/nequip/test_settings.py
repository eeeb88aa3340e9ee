"""Keys of a run as NequIP's config, without NequIP."""

import json
import sys

import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from nequip_like.errors import ConfigError, DataError, OutputError
from nequip_like.workflow.runner.external.nequip.backend import NequIPBackend
from nequip_like.workflow.runner.external.nequip.config import build_nequip_config
from nequip_like.workflow.runner.external.nequip.frames import choose_training_frames, write_training_frames
from nequip_like.workflow.runner.external.nequip.settings import translate_settings
from nequip_like.workflow.runner.requests import read_requests


@pytest.fixture
def request_of(tmp_path, molecule_file):
    def make(**keys):
        run = {
            "backend": "nequip_external",
            "backend_python": sys.executable,
            "task": "train",
            "run_dir": "run",
            "device": "cpu",
            "data": {"train": str(molecule_file)},
            **keys,
        }
        file = tmp_path / "run.yaml"
        file.write_text(json.dumps({key: value for key, value in run.items() if value is not None}))
        return read_requests(file)[0]

    return make


def test_what_a_run_does_not_say_is_as_in_the_tutorial(request_of):
    settings = translate_settings(request_of())
    assert settings.optimizer == {"_target_": "torch.optim.Adam", "lr": 0.01}
    assert settings.scheduler["scheduler"] == {
        "_target_": "torch.optim.lr_scheduler.ReduceLROnPlateau",
        "factor": 0.6,
        "patience": 5,
        "threshold": 0.2,
        "min_lr": 1e-6,
    }
    assert settings.trainer == {"max_epochs": 1, "accelerator": "cpu", "devices": 1}
    assert settings.weights == {"energy": 1.0, "forces": 1.0}
    assert settings.sections == settings.notes == []


def test_each_key_becomes_what_it_is(request_of, tmp_path):
    train = {
        "epochs": 7, "batch_size": 3, "num_workers": 1, "seed": 5, "lr": 0.1, "weight_decay": 0.01, "optimizer": "sgd",
        "accum_steps": 2, "drop_last": True, "max_grad_norm": 9.0, "save_every": 2, "log_every": 4, "scheduler": "step",
        "step_size": 8, "gamma": 0.3, "energy_weight": 2.0, "force_weight": 30.0, "loss_energy": "mae",
        "progress_bar": "auto", "cycle_steps": 0, "freeze": "none", "amp": False,
    }  # fmt: skip
    settings = translate_settings(request_of(train=train, device="cuda:1"))
    assert settings.trainer == {
        "max_epochs": 7,
        "accumulate_grad_batches": 2,
        "gradient_clip_val": 9.0,
        "log_every_n_steps": 4,
        "accelerator": "gpu",
        "devices": [1],
    }
    assert settings.optimizer == {"_target_": "torch.optim.SGD", "momentum": 0.9, "lr": 0.1, "weight_decay": 0.01}
    step = {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 8, "gamma": 0.3}
    assert settings.scheduler == {"scheduler": step, "interval": "epoch", "frequency": 1}
    assert settings.sections == ["optimizer", "lr_scheduler", "loss"]
    config = build_nequip_config(
        settings,
        tmp_path,
        {"train": [tmp_path / "a.xyz"], "val": [], "test": []},
        {"energy": False, "forces": True},
        None,
    )
    loss = config["training_module"]["loss"]["metrics"]
    assert [(e["name"], e["coeff"], e["metric"]["_target_"], e["ignore_nan"]) for e in loss] == [
        ("per_atom_energy_mae", 2.0, "nequip.train.MeanAbsoluteError", False),
        ("forces_mse", 30.0, "nequip.train.MeanSquaredError", True),
    ]
    assert config["data"]["train_dataloader"] == {
        "_target_": "torch.utils.data.DataLoader",
        "batch_size": 3,
        "shuffle": True,
        "drop_last": True,
        "num_workers": 1,
    }
    assert config["run"] == ["train"]
    assert config["trainer"]["callbacks"][1]["every_n_epochs"] == 2


def test_a_plateau_and_early_stopping(request_of):
    settings = translate_settings(request_of(train={"lr_factor": 0.5, "patience": 4, "early_stop_factor": 3}))
    assert settings.scheduler["scheduler"]["patience"] == 4
    assert settings.scheduler["scheduler"]["factor"] == 0.5
    assert settings.stop_after == 12
    assert translate_settings(request_of(train={"scheduler": None})).scheduler is None


def test_architectures(request_of, tmp_path):
    file = tmp_path / "m.json"
    zbl = {"_target_": "nequip_like.nn.pair_potential.ZBL"}
    file.write_text(json.dumps({"r_max": 4.0, "num_layers": 2, "num_bessels": 6, "pair_potential": zbl}))
    settings = translate_settings(request_of(train={"input_json": "m.json"}))
    assert settings.cutoff == 4.0
    assert settings.builder == "NequIPGNNModel"
    assert settings.model["num_layers"] == 2
    assert settings.model["num_bessels"] == 6
    assert settings.model["pair_potential"] == {"units": "metal", "_target_": "nequip.nn.pair_potential.ZBL"}
    for content, says in (
        ({"num_layer": 2}, "did you mean 'num_layers'"),
        ({"pair_potential": {"_target_": "os.system", "command": "x"}}, "pair_potential is not ZBL"),
        ({"pair_potential": {**zbl, "units": "${oc.env:HOME}"}}, r"m\.json has '\$\{oc\.env:HOME\}'"),
    ):
        file.write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=says):
            translate_settings(request_of(train={"input_json": "m.json"}))


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        *(
            ({"train": {key: value}}, f"train.{key} has no equal in NequIP")
            for key, value in {
                "amp": True, "cycle_steps": 5, "no_decay_keywords": ["x"], "progress_mininterval": 1.0, "head_key": "a",
                "freeze": "head_only", "use_core": True, "force_core": True, "config_yml": "run.yaml",
                "identifier": "a",
            }.items()
        ),
        ({"train": {"optimizer": "muon"}}, "train.optimizer is 'muon', which has no equal"),
        ({"train": {"loss_force": "l2mae"}}, "train.loss_force is l2mae"),
        ({"train": {"progress_bar": True}}, "prints to a log"),
        ({"train": {"scheduler": "step", "patience": 2}}, "train.patience is given, but"),
        ({"train": {"scheduler": "step", "early_stop_factor": 2}}, "counts in patiences"),
        ({"train": {"scheduler_step_unit": "cycle"}}, "no cycles"),
        ({"train": {"energy_weight": 0.0, "force_weight": 0.0}}, "are both 0"),
        ({"backend_args": ["--cfg"]}, "give overrides"),
        ({"backend_args": ["hydra.run.dir=x"]}, "which the runner sets"),
        ({"backend_args": ["run=[test]"]}, "which the runner sets"),
        ({"backend_python": None}, "has no backend_python"),
        ({"task": "finetune", "model_in": "model.safetensors"}, "model_in"),
        ({"task": "resume", "model_in": "run"}, "model_in"),
    ],
)  # fmt: skip
def test_what_has_no_equal_is_refused(request_of, keys, says, tmp_path):
    with pytest.raises(ConfigError) as caught:
        NequIPBackend().plan(request_of(**keys))
    assert says in str(caught.value)


def test_files_of_the_user_are_not_written_over(request_of, tmp_path, molecule_file):
    (tmp_path / "data").mkdir()
    own = tmp_path / "data" / "train.xyz"
    own.write_bytes(molecule_file.read_bytes())
    with pytest.raises(ConfigError, match=r"data\.train: .*train\.xyz lies in .*data, where the run writes frames"):
        NequIPBackend().plan(request_of(run_dir=".", data={"train": "data/train.xyz"}))
    (tmp_path / "config.yaml").write_text("runs: []\n")
    with pytest.raises(OutputError, match=r"config\.yaml would be written over"):
        NequIPBackend().plan(request_of(run_dir="."))


def test_a_model_in_the_folder_of_its_fine_tuning_is_refused(request_of):
    with pytest.raises(ConfigError, match="lies in run_dir, whose files a new run moves away"):
        NequIPBackend().plan(request_of(task="finetune", model_in="run/checkpoints/best.ckpt"))


@pytest.mark.parametrize("key", ["sampling", "replay", "global_batch_size", "num_workers", "seed"])
def test_keys_of_data_that_are_not_about_frames(request_of, molecule_file, key):
    try:
        request = request_of(data={"train": str(molecule_file), key: 1})
    except ConfigError:  # no key of run files either
        return
    with pytest.raises(ConfigError, match=f"data.{key} has no equal in NequIP"):
        NequIPBackend().plan(request)


def test_frames_are_written_with_all_digits_and_gaps(tmp_path, molecule_file, request_of):
    frames = ase.io.read(molecule_file, ":")
    frames[3].calc = SinglePointCalculator(frames[3], energy=frames[3].get_potential_energy())  # no forces
    ase.io.write(tmp_path / "given.xyz", frames)
    data = {
        "train": "given.xyz",
        "val": "given.xyz",
        "train_indices": {"max_samples": 5},
        "val_indices": {"max_samples": 2},
    }
    arguments, notes = choose_training_frames(request_of(data=data))
    written = write_training_frames({**arguments, "allow_overlap": True}, 4.0, tmp_path / "data")
    assert notes == []
    assert written.counts == {"train": 5, "val": 2, "test": 0}
    assert written.labels == {"energy": False, "forces": True}
    assert written.species == ["H", "C", "O"]
    assert set(written.statistics) == {"avg_num_neighbors", "per_type_energy_scales", "per_type_energy_shifts"}
    again = ase.io.read(written.files["train"][0], ":")
    given = ase.io.read(tmp_path / "given.xyz", ":5")
    for one, other in zip(again, given, strict=True):
        assert one.get_potential_energy() == other.get_potential_energy()
        np.testing.assert_array_equal(one.positions, other.positions)
    np.testing.assert_array_equal(again[0].get_forces(), given[0].get_forces())
    assert np.isnan(again[3].get_forces()).all()


def test_data_without_energies(tmp_path, molecule_file):
    frames = ase.io.read(molecule_file, ":6")
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, forces=atoms.get_forces())
    ase.io.write(tmp_path / "given.xyz", frames)
    with pytest.raises(DataError, match="no training frame has an energy"):
        write_training_frames({"train": str(tmp_path / "given.xyz"), "val": 2}, 4.0, tmp_path / "data")

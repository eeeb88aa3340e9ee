"""Data of training tests."""

import lightning
import pytest

from nequip_like.data.datamodule import DataModule


@pytest.fixture
def make_data(molecule_file):
    """Builds a data module of molecules: by default 14 frames to train, 5 to validate, 5 to test, batches of 5."""

    def make(**changes) -> DataModule:
        arguments = {"train": str(molecule_file), "val": 5, "test": 5, "cutoff_radius": 3.0, "batch_size": 5}
        return DataModule(**{**arguments, **changes}).prepare()

    return make


@pytest.fixture
def quiet_trainer(tmp_path):
    """Builds a trainer that writes, shows and validates nothing: one epoch on a CPU by default."""

    def make(**changes) -> lightning.Trainer:
        arguments = {
            "accelerator": "cpu",
            "max_epochs": 1,
            "default_root_dir": tmp_path,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "inference_mode": False,
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 0,
            "limit_val_batches": 0,
        }
        return lightning.Trainer(**{**arguments, **changes})

    return make

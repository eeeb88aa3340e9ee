"""Data of training tests."""

import pytest

from nequip_like.data.datamodule import DataModule


@pytest.fixture
def make_data(molecule_file):
    """Builds a data module of molecules: by default 14 frames to train, 5 to validate, 5 to test, batches of 5."""

    def make(**changes) -> DataModule:
        arguments = {"train": str(molecule_file), "val": 5, "test": 5, "cutoff_radius": 3.0, "batch_size": 5}
        return DataModule(**{**arguments, **changes}).prepare()

    return make

"""Predictions do not depend on how structures are batched."""

import pytest
import torch

from nequip_like.data.dataset import load_dataset
from nequip_like.errors import ConfigError
from nequip_like.inference.predictor import Predictor


@pytest.fixture
def dataset(tmp_path, write_labelled, make_potential):
    potential = make_potential()
    return load_dataset(write_labelled(tmp_path / "a.xyz"), potential.type_names, potential.cutoff)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batches_equal_single_structures(dataset, make_potential, batch_size):
    potential = make_potential()
    predictions = Predictor(potential, batch_size=batch_size).predict(dataset)
    assert len(predictions) == len(dataset)
    for frame, prediction in zip(dataset.frames, predictions, strict=True):
        alone = potential(frame)
        for key in potential.predicted_fields:
            torch.testing.assert_close(prediction[key], alone[key], rtol=1e-12, atol=1e-12, equal_nan=True)


def test_training_mode_is_left_as_it_was(dataset, make_potential):
    potential = make_potential().train()
    (prediction, *_) = Predictor(potential).predict(dataset)
    assert potential.training
    assert not any(value.requires_grad for value in prediction.values())


def test_energy_only(dataset, make_potential):
    (prediction, *_) = Predictor(make_potential(do_derivatives=False)).predict(dataset)
    assert set(prediction) == {"total_energy", "atomic_energy", "num_atoms"}


def test_nothing_to_predict(make_potential):
    assert Predictor(make_potential()).predict([]) == []


def test_batch_size_is_positive(make_potential):
    with pytest.raises(ConfigError, match="batch_size"):
        Predictor(make_potential(), batch_size=0)

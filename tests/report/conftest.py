"""Evaluations of a small random model."""

import pytest

from nequip_like.data.dataset import load_dataset
from nequip_like.inference.evaluation import evaluate


@pytest.fixture
def evaluations(tmp_path, make_potential, write_labelled):
    potential = make_potential()
    sets = {}
    for seed, name in enumerate(["mixed [set]", "second"]):
        path = write_labelled(tmp_path / f"{seed}.xyz", frames=7 - 6 * seed, seed=seed)
        sets[name] = evaluate(potential, load_dataset(path, potential.type_names, potential.cutoff, name=name))
    return sets

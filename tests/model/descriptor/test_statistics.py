"""Statistics of features and energies, as a run measures them on its training set."""

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from omegaconf import OmegaConf

import nequip_like as nl
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.graph import edge_vectors
from nequip_like.data.io.structures import graph_from_atoms
from nequip_like.model import DescriptorANNModel
from nequip_like.model.descriptor.arguments import build_descriptor
from nequip_like.model.descriptor.statistics import measure_statistics
from nequip_like.nn.chebyshev.descriptor import Environments

ARGUMENTS = {"type_names": ["H", "O", "C"], "r_max": 3.0, "radial_order": 2, "angular_order": 1}


def dataset(energies=(-14.0, -13.0, -15.5)):
    frames = []
    for number, energy in enumerate(energies):
        water = Atoms("OH2", [[0, 0, 0], [0, 0.76 + 0.05 * number, 0.59], [0, -0.76, 0.59 - 0.1 * number]])
        frames.append({**graph_from_atoms(water), "total_energy": torch.tensor([[energy]], dtype=torch.float64)})
    return GraphDataset(frames, 3.0, ["H", "O", "C"])


def test_features_have_the_statistics_of_their_species():
    data = dataset()
    stats = measure_statistics(ARGUMENTS, data)["feature_stats"]
    descriptor = build_descriptor(ARGUMENTS)
    rows = {"H": [], "O": []}
    for frame in data.frames:
        centre, neighbour = frame["edge_index"]
        types = frame["atom_types"]
        features = descriptor(Environments(edge_vectors(frame), centre, types[neighbour], 3))
        for number, name in enumerate(rows):
            rows[name].append(features[types == number].numpy())
    everything = {name: np.concatenate(parts) for name, parts in rows.items()}
    everything["C"] = np.concatenate([everything["H"], everything["O"]])  # a species that does not occur
    for name, values in everything.items():
        assert stats[name]["count"] == len(values)
        for key, expected in (
            ("mean", values.mean(0)), ("std", values.std(0)), ("min", values.min(0)), ("max", values.max(0))
        ):  # fmt: skip
            np.testing.assert_allclose(stats[name][key], expected, atol=1e-12)


def test_energies_come_to_lie_between_minus_one_and_one():
    measured = measure_statistics({**ARGUMENTS, "per_type_energy_shifts": {"H": -1.0, "O": -2.0, "C": 0.0}}, dataset())
    per_atom = np.array([-14.0 + 4.0, -13.0 + 4.0, -15.5 + 4.0]) / 3
    assert measured["E_shift"] == pytest.approx((per_atom.min() + per_atom.max()) / 2)
    assert measured["E_scaling"] == pytest.approx(2 / (per_atom.max() - per_atom.min()))
    targets = (per_atom - measured["E_shift"]) * measured["E_scaling"]
    assert (targets.min(), targets.max()) == (pytest.approx(-1.0), pytest.approx(1.0))


@pytest.mark.parametrize(
    ("given", "measured"),
    [
        ({"E_shift": 1.0}, {"feature_stats", "E_scaling"}),
        ({"E_scaling": 1.0}, {"feature_stats", "E_shift"}),
        ({"E_scaling": 1.0, "E_shift": {"H": 0.0, "O": 0.0, "C": 1.0}}, {"feature_stats"}),
        ({"normalize_energy": False}, {"feature_stats"}),
        ({"normalize_features": False}, {"E_shift", "E_scaling"}),
        ({"feature_stats": {"mean": [], "std": []}}, {"E_shift", "E_scaling"}),
    ],
    ids=["shift", "scaling", "both", "no_energy", "no_features", "stats"],
)
def test_what_is_given_is_not_measured(given, measured):
    assert measure_statistics({**ARGUMENTS, **given}, dataset()).keys() == measured


def test_energies_that_are_all_the_same():
    measured = measure_statistics(ARGUMENTS, dataset((-6.0, -6.0)))
    assert (measured["E_shift"], measured["E_scaling"]) == (-2.0, 1.0)


def test_a_run_measures_them(tmp_path, monkeypatch):
    """From a config to a model file: statistics of the training set are in the file, and nowhere in the config."""
    monkeypatch.chdir(tmp_path)
    frames = []
    for number in range(8):
        random = np.random.default_rng(number)
        water = Atoms(
            "OH2", np.array([[0, 0, 0], [0, 0.76, 0.59], [0, -0.76, 0.59]]) + 0.05 * random.normal(size=(3, 3))
        )
        forces = random.normal(size=(3, 3))
        water.calc = SinglePointCalculator(water, energy=-14.0 + 0.1 * number, forces=forces - forces.mean(0))
        frames.append(water)
    ase.io.write("train.xyz", frames)
    config = nl.compose(
        "train",
        [
            "model=descriptor_ann", "data.train=train.xyz", "data.val=2", "cutoff_radius=3.0", "trainer.max_epochs=2",
            "model.networks=[[4,tanh]]", "model.radial_order=3", "model.angular_order=2", f"output_dir={tmp_path}/run",
        ],
    )  # fmt: skip
    assert OmegaConf.select(config, "model.feature_stats") is None
    result = nl.train(config)
    potential = nl.load(result.model_file)
    arguments = potential.config["arguments"]
    assert potential.config["family"] == "descriptor_ann"
    assert set(arguments["feature_stats"]) == {"H", "O"}
    assert arguments["feature_stats"]["O"]["count"] == 6.0
    assert arguments["E_scaling"] > 1.0
    assert isinstance(DescriptorANNModel(**arguments), nl.Potential)
    assert nl.Predictor(potential).predict(frames[0])["forces"].shape == (3, 3)

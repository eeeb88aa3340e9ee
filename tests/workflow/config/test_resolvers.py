"""The functions that a config may call."""

import pytest
from omegaconf import OmegaConf

from nequip_like.errors import ConfigError
from nequip_like.workflow import setup
from nequip_like.workflow.config import resolvers, sections
from nequip_like.workflow.config.resolvers import register_resolvers, tutorial_data
from nequip_like.workflow.train import train


def cause(config):
    """What a resolver raised: OmegaConf wraps it, ``resolved`` takes it out."""
    with pytest.raises(ConfigError) as caught:
        sections.resolve_section("section", config)
    return caught.value


def test_registering_twice_is_no_mistake():
    register_resolvers()
    register_resolvers()
    assert OmegaConf.has_resolver("tutorial_data")


def test_bundled_data():
    from pathlib import Path

    assert Path(tutorial_data("ethanol/train.xyz")).is_file()


def test_bundled_data_that_is_not_there():
    with pytest.raises(ConfigError, match=r"no bundled data file 'etanol/train\.xyz'\n.*ethanol"):
        tutorial_data("etanol/train.xyz")


def test_published_data(monkeypatch, tmp_path):
    monkeypatch.setattr(resolvers, "folder_of", lambda name: tmp_path / name)
    register_resolvers()
    config = OmegaConf.create({"path": "${published_data:3bpa}"})
    assert config.path == str(tmp_path / "3bpa")


def test_statistics_before_the_data_is_read(monkeypatch):
    OmegaConf.clear_resolver("training_data_stats")
    register_resolvers()
    error = cause(OmegaConf.create({"data": {"x": "${training_data_stats:forces_rms}"}}))
    assert "before the training data was read" in error.message
    assert "model and training_module" in error.advice


def test_statistics_of_each_run_replace_those_before():
    config = OmegaConf.create({"n": "${training_data_stats:num_neighbors_mean}"})
    setup.register_statistics({"num_neighbors_mean": 3.0})
    assert config.n == 3.0
    setup.register_statistics({"num_neighbors_mean": 7.5})
    assert config.n == 7.5


def test_statistics_per_species_are_mappings():
    setup.register_statistics({"per_type_forces_rms": {"H": 1.0, "C": 2.0}})
    config = OmegaConf.create({"scales": "${training_data_stats:per_type_forces_rms}"})
    assert OmegaConf.to_container(config, resolve=True)["scales"] == {"H": 1.0, "C": 2.0}


@pytest.mark.parametrize(
    ("statistics", "scale"),
    [
        ({"forces_rms": 2.0, "per_atom_energy_std": 0.1}, 2.0),
        ({"per_atom_energy_std": 0.1}, 0.1),
        ({"forces_rms": 0.0, "per_atom_energy_std": 0.1}, 0.1),
        ({}, 1.0),
    ],
)
def test_energy_scale(statistics, scale):
    setup.register_statistics(statistics)
    assert OmegaConf.create({"x": "${training_data_stats:energy_scale}"}).x == scale


def test_unknown_statistic():
    setup.register_statistics({"forces_rms": 2.0, "num_neighbors_mean": 3.0})
    error = cause(OmegaConf.create({"x": "${training_data_stats:force_rms}"}))
    assert "no statistic 'force_rms'" in error.message
    assert "energy_scale, forces_rms, num_neighbors_mean" in error.advice


def test_statistics_of_a_run_are_forgotten_after_it(compose):
    """Else the next config of this process, the next job of a multirun, takes them into its mappings."""
    train(compose("run=[val]"))
    later = OmegaConf.merge({"shifts": "${training_data_stats:reference_energies}"}, {"shifts": {"Xe": -2.0}})
    assert later.shifts == {"Xe": -2.0}
    assert "before the training data was read" in cause(OmegaConf.create({"a": "${training_data_stats:x}"})).message

"""The values of a config: functions of interpolations, and values before there are data."""

from __future__ import annotations

import re

import pytest
from omegaconf import OmegaConf

from nequip_like.arguments import NOT_KNOWN_YET
from nequip_like.errors import ConfigError
from nequip_like.workflow import setup
from nequip_like.workflow.config import sections, values
from nequip_like.workflow.config.values import own_error, register_resolvers, tutorial_data, values_before_data
from nequip_like.workflow.train import train

VALUES = {
    "${int_mul:6,7}": 42,
    "${int_mul:${n},2}": 10,
    "${int_div:12,4}": 3,
    "${concat_lists:${a},${b}}": ["H", "C", "O"],
    "${list_to_identity_dict:${a}}": {"H": "H", "C": "C"},
    "${list_to_constant_dict:${a},2.5}": {"H": 2.5, "C": 2.5},
}


@pytest.mark.parametrize(("written", "value"), VALUES.items())
def test_functions(written, value):
    register_resolvers()
    config = OmegaConf.create({"n": 5, "a": ["H", "C"], "b": ["O"], "x": written})
    assert OmegaConf.to_container(config, resolve=True)["x"] == value


@pytest.mark.parametrize(
    ("written", "part"),
    [
        ("${int_div:5,2}", "int_div:5,2} is no whole number"),
        ("${int_div:5,0}", "no whole number"),
        ("${int_mul:2,1.5}", "got 1.5"),
        ("${int_mul:-1,2}", "got -1"),
        ("${list_to_identity_dict:H}", "got 'H'"),
        ("${concat_lists:[1],2}", "got 2"),
        ("${big_dataset_stats:MPTrj,6.0}", "training_data_stats"),
        ("${type_names_from_package:model.nequip.zip}", "write the species"),
        ("${cutoff_radius_from_package:model.nequip.zip}", "write the radius"),
    ],
)
def test_functions_that_refuse(written, part):
    register_resolvers()
    with pytest.raises(Exception, match="raised while resolving") as caught:
        OmegaConf.to_container(OmegaConf.create({"x": written}), resolve=True)
    error = own_error(caught.value)
    assert isinstance(error, ConfigError)
    assert part in str(error)


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
    monkeypatch.setattr(values, "folder_of", lambda name: tmp_path / name)
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


def test_values():
    setup.register_statistics({"a": 7})  # those of an earlier run are none of this one's
    config = OmegaConf.create(
        {
            "one": {"two": [1, "${three}", {"four": "${one.two[0]}"}]},
            "three": "${training_data_stats:a}",
            "text": "a${three}b",
            "twice": "${one}",
            "numbers": {0: 1, 2.5: "${three}"},
            "chemical_species": "auto",
            "same": "${chemical_species}",
        }
    )
    found = values_before_data(config)
    assert found["one"] == found["twice"] == {"two": [1, NOT_KNOWN_YET, {"four": 1}]}
    assert [found[key] for key in ("three", "text", "chemical_species", "same")] == [NOT_KNOWN_YET] * 4
    assert found["numbers"] == {0: 1, 2.5: NOT_KNOWN_YET}
    assert config.chemical_species == "auto"


def test_species_that_are_known():
    config = OmegaConf.create({"chemical_species": ["H"], "same": "${chemical_species}"})
    assert values_before_data(config) == {"chemical_species": ["H"], "same": ["H"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"a": {"b": "???"}},
            "a.b is not given\n  -> write it in the config in place of ???, or behind the command: a.b=VALUE",
        ),
        (
            {"a": {"b": "${c.dee}"}, "c": {"de": 1}},
            "a.b refers to 'c.dee', which is not in the config\n  -> did you mean 'de'? add the key, or name another",
        ),
        ({"a": "${b.c}"}, "a refers to 'b.c', which is not in the config\n  -> add the key, or name another"),
        ({"a": {"b": ["${a.b[0]}"]}}, "a.b[0] refers to itself\n  -> name another key"),
        ({"a": {"b": "${a}"}}, "a.b refers to itself\n  -> name another key"),
        (
            {"data": {"path": "${training_data_stats:x}"}},
            "data.path: ${training_data_stats:x} was asked for before the training data was read\n  -> use it in",
        ),
        ({"a": "${oc.evn:HOME}"}, "a asks for ${oc.evn:...}, which does not exist\n  -> did you mean 'oc.env'?"),
        ({"a": "${tutorial_data:x/y}"}, "a: there is no bundled data file 'x/y'\n  -> bundled sets are"),
        ({"a": "${published_data:x}"}, "a: unknown published data set 'x'\n  -> there are 3bpa"),
    ],
)
def test_values_that_cannot_be(content, message):
    register_resolvers()
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        values_before_data(OmegaConf.create(content))

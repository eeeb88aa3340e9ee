"""Values of a config before there are data."""

from __future__ import annotations

import re

import pytest
from omegaconf import OmegaConf

from nequip_like.arguments import NOT_KNOWN_YET
from nequip_like.errors import ConfigError
from nequip_like.workflow.config.resolvers import register_resolvers
from nequip_like.workflow.config.values import values_before_data
from nequip_like.workflow.setup import register_statistics


def test_values():
    register_statistics({"a": 7})  # those of an earlier run are none of this one's
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
        ({"a": {"b": "???"}}, "a.b is not given\n  -> the config needs a value in place of ???"),
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

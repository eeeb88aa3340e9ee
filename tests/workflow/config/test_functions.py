"""Functions that a config may call."""

import pytest
from omegaconf import OmegaConf

from nequip_like.errors import ConfigError
from nequip_like.workflow.config.resolvers import register_resolvers
from nequip_like.workflow.config.values import own_error

VALUES = {
    "${int_mul:6,7}": 42,
    "${int_mul:${n},2}": 10,
    "${int_div:12,4}": 3,
    "${concat_lists:${a},${b}}": ["H", "C", "O"],
    "${list_to_identity_dict:${a}}": {"H": "H", "C": "C"},
    "${list_to_constant_dict:${a},2.5}": {"H": 2.5, "C": 2.5},
}


@pytest.mark.parametrize(("written", "value"), VALUES.items())
def test_values(written, value):
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
def test_mistakes(written, part):
    register_resolvers()
    with pytest.raises(Exception, match="raised while resolving") as caught:
        OmegaConf.to_container(OmegaConf.create({"x": written}), resolve=True)
    error = own_error(caught.value)
    assert isinstance(error, ConfigError)
    assert part in str(error)

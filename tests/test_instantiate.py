"""Building what a config describes: messages name the key, the class and the reason."""

from __future__ import annotations

import pytest
import torch

from nequip_like.errors import ConfigError, DataError
from nequip_like.instantiate import instantiate


def refuses() -> None:
    raise DataError("no frames")


def test_builds_with_more_arguments():
    layer = instantiate("part", {"_target_": "torch.nn.Linear", "out_features": 2}, 3, kind=torch.nn.Module, bias=False)
    assert (layer.in_features, layer.out_features, layer.bias) == (3, 2, None)


def test_children_are_built_or_left_alone():
    config = {"_target_": "builtins.dict", "child": {"_target_": "builtins.int"}}
    assert instantiate("part", config) == {"child": 0}
    assert instantiate("part", config, recursive=False) == {"child": {"_target_": "builtins.int"}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (3, "part has no _target_"),
        ({"a": 1}, "part has no _target_"),
        ({"_target_": "nowhere.Class"}, r"part: nowhere\.Class cannot be built: Error loading"),
        ({"_target_": "builtins.int", "a": 1}, r"part: builtins\.int cannot be built: .*'a'"),
        ({"_target_": "builtins.dict"}, r"part: builtins\.dict gives dict, which is no Module"),
    ],
)
def test_what_cannot_be_built(config, message):
    with pytest.raises(ConfigError, match=message):
        instantiate("part", config, kind=torch.nn.Module)


def test_own_errors_pass():
    with pytest.raises(DataError, match="no frames"):
        instantiate("part", {"_target_": f"{__name__}.refuses"})

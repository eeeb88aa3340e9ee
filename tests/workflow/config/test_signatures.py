"""Arguments of classes and functions, followed to where they go."""

from __future__ import annotations

import re
from typing import Annotated, Any

import pytest
import torch

from nequip_like.arguments import NOT_KNOWN_YET, ArgumentsOf, Count
from nequip_like.errors import ConfigError
from nequip_like.model import FullNequIPGNNModel, NequIPGNNModel, PresetNequIPGNNModel
from nequip_like.training import EMALightningModule, NequIPLightningModule
from nequip_like.workflow.config.signatures import Arguments, arguments_of, check_node


def ours(module: str) -> bool:
    return module.startswith(("nequip_like.", __name__))


def inner(*, width: Count, depth: int = 1, seed: int = 0) -> None:
    """The last in a row."""


def outer(name: str, *, depth: int = 2, **rest: Annotated[Any, ArgumentsOf("inner", but=("seed",))]) -> None:
    """Hands its arguments on."""


def anything(first: int, **rest: Any) -> None:
    """Nobody can tell where the rest goes."""


class Base:
    def __init__(self, one: int, two: str = "a") -> None: ...


class Middle(Base):
    pass


class Derived(Middle):
    def __init__(self, three: bool = True, **rest: Any) -> None: ...


def test_arguments_are_followed():
    found = arguments_of(outer, ours)
    assert list(found.annotations) == ["name", "depth", "width"]
    assert found.annotations["width"] == Count
    assert found.defaults == {"depth": 2}
    assert (found.positional, found.open) == (["name"], False)
    found = arguments_of(Derived, ours)
    assert list(found.annotations) == ["three", "one", "two"]
    assert found.defaults == {"three": True, "two": "a"}
    assert (found.positional, found.open) == (["three"], False)
    assert arguments_of(Derived, lambda module: False).open
    assert arguments_of(anything, ours).open


def test_own_classes():
    plain, averaged = arguments_of(NequIPLightningModule, ours), arguments_of(EMALightningModule, ours)
    own = {"ema_decay", "ema_warmup", "ema_start_step", "ema_bias_correction", "evaluate"}
    assert set(averaged.annotations) == {*plain.annotations, *own}
    assert not averaged.open
    full = set(arguments_of(FullNequIPGNNModel, ours).annotations)
    builder = set(arguments_of(NequIPGNNModel, ours).annotations)
    assert builder - full == {"num_layers", "l_max", "parity", "num_features"}
    assert full - builder == {"irreps_edge_sh", "feature_irreps_hidden"}
    assert set(arguments_of(PresetNequIPGNNModel, ours).annotations) == {*builder, "preset"}


def test_other_classes():
    adam = arguments_of(torch.optim.Adam, ours)
    assert adam.positional[0] == "params"
    assert "lr" in adam.defaults
    assert arguments_of(dict, ours) == Arguments(open=True)  # written in C


def check(node, **options):
    return check_node("here", {"_target_": "a.outer", **node}, arguments_of(outer, ours), **options)


def test_sound_nodes():
    assert check({"name": "a", "width": 3}) == []
    assert check({"width": NOT_KNOWN_YET}, num_positional=1) == []
    assert check({"name": "a", "_args_": []}, supplied=("width",)) == []
    assert check({"_args_": ["a"], "width": 1}) == []
    assert check({"_partial_": True}) == []
    assert check({"name": "a", "width": 3, "groups": 5}, extra=("groups",)) == []
    assert check_node("here", {"_target_": "a.b", "first": 1, "x": 2}, arguments_of(anything, ours)) == ["x"]


@pytest.mark.parametrize(
    ("node", "options", "message"),
    [
        ({"name": "a"}, {}, "here has no 'width', which outer needs\n  -> give it"),
        ({"width": 1}, {}, "here has no 'name', which outer needs\n  -> give it"),
        (
            {"name": 3, "width": 1},
            {},
            'here.name is 3\n  -> quote it, here.name: "3" in a file and '
            "'here.name=\"3\"' on the command line, or give a text",
        ),
        ({"name": "a", "width": 0}, {}, "here.width is 0\n  -> give a whole number, 1 or more"),
        ({"name": "a", "widht": 1}, {}, "here.widht: outer takes no 'widht'\n  -> did you mean 'width'?"),
        ({"name": "a", "seed": 1}, {}, "here.seed: outer takes no 'seed'\n  -> it takes depth, name, width"),
        ({"x": 1}, {"supplied": ("width",), "num_positional": 1}, "here.x: outer takes no 'x'\n  -> it takes depth"),
        ({"name": "a", "width": 9}, {"limits": {"width": bool}}, "here.width is 9\n  -> give true or false"),
    ],
)
def test_wrong_nodes(node, options, message):
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        check(node, **options)

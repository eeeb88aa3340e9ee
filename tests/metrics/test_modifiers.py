"""What modifiers compute, what they need and what they refuse."""

from __future__ import annotations

import math

import pytest
import torch

from nequip_like.data.fields import Graph
from nequip_like.errors import ConfigError
from nequip_like.metrics.modifiers import (
    CallableModifier,
    FieldModifier,
    MappedFieldModifier,
    Modifier,
    PerAtomModifier,
    as_modifier,
)

GRAPH: Graph = {
    "num_atoms": torch.tensor([2, 5]),
    "total_energy": torch.tensor([[-6.0], [10.0]]),
    "virial": torch.arange(18.0).reshape(2, 3, 3),
    "forces": torch.ones(7, 3),
}


def test_field() -> None:
    assert [FieldModifier(name).name for name in ("total_energy", "atomic_energy", "forces", "stress")] == [
        "E",
        "Ei",
        "F",
        "stress",
    ]
    assert FieldModifier("forces").owner == "node"
    assert FieldModifier("forces")(GRAPH) is GRAPH["forces"]
    with pytest.raises(ConfigError, match="did you mean 'forces'"):
        FieldModifier("force")


def test_per_atom() -> None:
    modifier = PerAtomModifier("total_energy")
    assert (modifier.name, modifier.owner, modifier.target_fields) == ("per_atom_E", "graph", {"total_energy"})
    assert modifier(GRAPH).tolist() == [[-3.0], [2.0]]
    assert PerAtomModifier("total_energy", factor=1000.0)(GRAPH).tolist() == [[-3000.0], [2000.0]]
    torch.testing.assert_close(PerAtomModifier("virial")(GRAPH)[1], GRAPH["virial"][1].double() / 5)
    assert modifier == PerAtomModifier("total_energy")
    assert modifier.label == "total_energy per atom"


def test_per_atom_refuses() -> None:
    with pytest.raises(ConfigError, match="belongs to each node already"):
        PerAtomModifier("forces")
    with pytest.raises(ConfigError, match="unknown field 'energy'"):
        PerAtomModifier("energy")
    with pytest.raises(ConfigError, match="finite"):
        PerAtomModifier("total_energy", factor=math.nan)


def test_mapped_fields() -> None:
    modifier = MappedFieldModifier(pred_field="mean_energy", target_field="total_energy")
    assert modifier.prediction_fields == {"mean_energy"}
    assert modifier.target_fields == {"total_energy"}
    assert modifier.owner == "graph"
    assert modifier.of_prediction({"mean_energy": GRAPH["total_energy"] + 1}).tolist() == [[-5.0], [11.0]]
    assert modifier.of_target(GRAPH).tolist() == [[-6.0], [10.0]]
    assert modifier.name == "mean_energy"
    assert modifier.label == "mean_energy vs total_energy"
    with pytest.raises(ConfigError, match="unknown field 'energie'"):
        MappedFieldModifier("total_energy", "energie")
    with pytest.raises(ConfigError, match=r"of each node.*of each graph"):
        MappedFieldModifier("forces", "stress")


def force_norm(graph: Graph) -> torch.Tensor:
    return graph["forces"].norm(dim=1)


def test_callables() -> None:
    modifier = as_modifier(force_norm)
    assert (modifier.name, modifier.owner, modifier.target_fields) == ("force_norm", None, frozenset())
    torch.testing.assert_close(modifier.of_target(GRAPH), torch.full((7,), math.sqrt(3)))
    named = CallableModifier(force_norm, "norm", "node", frozenset({"forces"}))
    assert (str(named), named.owner, named.prediction_fields) == ("norm", "node", {"forces"})
    with pytest.raises(ConfigError, match="unknown owner 'atom'"):
        CallableModifier(force_norm, given_owner="atom")  # type: ignore[arg-type]


def test_callable_objects_describe_themselves() -> None:
    class Norm:
        owner = "node"
        fields = ("forces",)

        def __call__(self, graph: Graph) -> torch.Tensor:
            return force_norm(graph)

    modifier = as_modifier(Norm())
    assert (modifier.name, modifier.owner, modifier.target_fields) == ("Norm", "node", {"forces"})


def test_as_modifier() -> None:
    modifier = PerAtomModifier("total_energy")
    assert as_modifier(modifier) is modifier
    assert as_modifier("forces") == FieldModifier("forces")
    with pytest.raises(ConfigError, match="neither a name nor a function"):
        as_modifier(3)
    with pytest.raises(NotImplementedError):
        _ = Modifier().name

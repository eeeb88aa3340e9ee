"""Hydra's words for values as Optuna's distributions."""

from __future__ import annotations

import pytest

pytest.importorskip("optuna")
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from nequip_like.cli.sweeps.search_space import read_search_space, write_override
from nequip_like.errors import ConfigError

SPACES = {
    "interval(1,5)": FloatDistribution(1.0, 5.0),
    "tag(log,interval(1e-4,1e-2))": FloatDistribution(1e-4, 1e-2, log=True),
    "int(interval(8,64))": IntDistribution(8, 64),
    "tag(log,int(interval(1,64)))": IntDistribution(1, 64, log=True),
    "range(1,4)": IntDistribution(1, 3),
    "range(10,2,-4)": IntDistribution(6, 10, step=4),
    "range(0.0,1.0,0.25)": FloatDistribution(0.0, 0.75, step=0.25),
    "1,2": CategoricalDistribution(["1", "2"]),
    "choice(a,'b c',[1,2])": CategoricalDistribution(["a", "b\\ c", "[1,2]"]),
    "shuffle(range(1,3))": CategoricalDistribution(["1", "2"]),
}


@pytest.mark.parametrize("text", SPACES)
def test_each_kind_of_values(text: str) -> None:
    space, fixed = read_search_space([f"a.b={text}", "seed=1", "~c", "++d=x"])
    if text.startswith("shuffle"):
        assert sorted(space["a.b"].choices) == ["1", "2"]  # type: ignore[attr-defined]
    else:
        assert space == {"a.b": SPACES[text]}
    assert fixed == ["seed=1", "~c", "++d=x"]


WRONG = ("tag(log,interval(0,1))", "interval(2,1)", "range(3,1)", "tag(log,range(1,9))", "tag(lgo,interval(1,2))")


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_searched(text: str) -> None:
    with pytest.raises(ConfigError, match=r"'lr=.*' cannot be searched"):
        read_search_space([f"lr={text}"])


def test_what_is_typed_later_counts() -> None:
    """The command line follows the sweeper's own values."""
    space, fixed = read_search_space(["seed=1,2", "lr=interval(0,1)", "seed=7"])
    assert (list(space), fixed) == (["lr"], ["seed=7"])


def test_what_is_chosen_as_an_override() -> None:
    """Texts are as they were typed; a number comes back to the last digit."""
    assert write_override("model", "b\\ c") == "model=b\\ c"
    key, _, text = write_override("lr", 0.1 + 0.2).partition("=")
    assert (key, float(text)) == ("lr", 0.1 + 0.2)
    assert write_override("seed", 3) == "seed=3"

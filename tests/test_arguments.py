"""Types and ranges beside arguments: what fits, what is said where it does not, and who checks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import numpy as np
import pytest
import torch

from nequip_like.arguments import (
    NOT_KNOWN_YET,
    ArgumentsOf,
    Count,
    Form,
    NotNegative,
    Positive,
    Range,
    annotations_of,
    check,
    check_key,
    checked,
    fits,
    in_words,
)
from nequip_like.errors import ConfigError

UNIT = Annotated[float, Range(low=0, high=1, high_open=True)]


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [0, -3, np.int64(2)], [1.0, True, "1", None, [1]]),
        (float, [0, 1.5, np.float32(2)], [True, "1.5", None]),
        (bool, [True, False], [0, 1, "true", None]),
        (str, ["", "a"], [1, None, ["a"]]),
        (Path, ["a", Path("a")], [1]),
        (None, [None], [0, False]),
        (Any, [1, None, object()], []),
        (int | None, [1, None], ["1"]),
        (Optional[Union[int, str]], [1, None, "a"], [1.5]),  # noqa: UP007, UP045 (as torch and Lightning write it)
        (Literal["auto", -1], ["auto", -1], ["Auto", 1, True, None]),
        (Literal[1], [1], [True, 1.0]),
        (Sequence[int], [[], [1, 2], (1,)], ["12", 3, [1.5], {"a": 1}]),
        (list[str], [["a"]], ["a", [1]]),
        (Iterable[int], [[1]], ["a", 1, [1.5]]),
        (tuple[float, float], [[0.9, 0.99]], [[0.9], [1, 2, 3], 0.9]),
        (tuple[float, ...], [[], [1, 2, 3]], [["a"]]),
        (list, [[1, "a"]], ["a", 1]),
        (Mapping[str, float], [{}, {"a": 1}], [[1], {"a": "b"}, {1: 1}, 3]),
        (dict, [{"a": 1}], [[]]),
        (float | Mapping[str, float] | None, [1, {"H": 2.0}, None], ["a", {"H": "b"}, True]),
        (Callable[[int], int], [{"_target_": "a.b"}], ["a", 1]),
        (torch.Tensor, [torch.ones(1), {"_target_": "a.b"}], [1, "a", [1]]),
        (Count, [1, 5], [0, -1, 1.5, True]),
        (NotNegative, [0], [-1]),
        (Positive, [0.1, 5], [0, -1, float("nan"), float("inf")]),
        (UNIT, [0, 0.5], [1, 1.5, -0.1, float("nan")]),
        (Count | Sequence[Count], [3, [1, 2]], [0, [1, 0], []][:2]),
        (Annotated[str, Form("a+", "letters a")], ["a", "aa"], ["", "b", "ab", 1]),
    ],
)
def test_fits(annotation, good, bad):
    assert [value for value in good if not fits(value, annotation)] == []
    assert [value for value in bad if fits(value, annotation)] == []
    assert fits(NOT_KNOWN_YET, annotation)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "a whole number"),
        (Count, "a whole number, 1 or more"),
        (Positive, "a number, above 0"),
        (UNIT, "a number, 0 or more and below 1"),
        (Annotated[int, Range(low=0, high=11)], "a whole number, 0 or more and at most 11"),
        (int | None, "a whole number or null"),
        (Count | None, "a whole number, 1 or more, or null"),
        (Literal["a", "b", "c"], "a, b or c"),
        (Sequence[Count], "a list (each a whole number, 1 or more)"),
        (list, "a list"),
        (Mapping[str, int], "a mapping"),
        (Annotated[str, Form("a+", "letters a")], "letters a"),
        (bool | str | Path, "true, false, a text or a path"),
        (bool, "true or false"),
        (bool | None, "true, false or null"),
        (Annotated[int, Range(low=0, high=2**32 - 1)], "a whole number, 0 or more and at most 4294967295"),
        (torch.Tensor, "a Tensor"),
    ],
)
def test_in_words(annotation, words):
    assert in_words(annotation) == words


def test_message():
    with pytest.raises(ConfigError, match=r"^kernel is 'batch'\n  -> did you mean 'batched'\? give auto or batched$"):
        check("kernel", "batch", Literal["auto", "batched"])
    with pytest.raises(ConfigError, match=r"^a is true\n  -> give a whole number$"):
        check("a", True, int)
    with pytest.raises(ConfigError, match=r"^a is null\n"):
        check("a", None, int)


@checked
def layers(number: Count, *more: Count, width: Count | None = None, name: str = None, **rest: Count) -> int:  # noqa: RUF013 (as others write it)
    """The number of layers."""
    return number


def test_function_checks_itself():
    assert layers(3) == 3
    assert layers(3, width=None, name=None) == 3
    assert layers.__doc__ == "The number of layers."
    for arguments in ({"number": 0}, {"number": 1, "width": 1.5}, {"number": 1, "name": 3}):
        with pytest.raises(ConfigError, match=f"^{list(arguments)[-1]} is "):
            layers(**arguments)
    with pytest.raises(TypeError, match="number"):
        layers()


def test_annotations_that_cannot_be_understood_are_any():
    def function(a: int, b: Nowhere, c: Count) -> None:  # noqa: F821
        """Nothing."""

    assert annotations_of(function) == {"a": int, "b": Any, "c": Count, "return": type(None)}
    assert ArgumentsOf("layers").but == ()


def test_keys_of_a_section():
    check_key("data.replay", "weight", ("fraction", "weight"))
    with pytest.raises(ConfigError, match=r"^data.replay: unknown key 'wieght'") as error:
        check_key("data.replay", "wieght", ("fraction", "weight"))
    assert error.value.advice == "did you mean 'weight'? known are fraction, weight"
    with pytest.raises(ConfigError) as error:
        check_key("finetune", 3, {"source": str})
    assert (error.value.message, error.value.advice) == ("finetune: unknown key '3'", "known are source")


@pytest.mark.parametrize(
    ("value", "annotation", "advice"),
    [
        (False, str | None, "YAML reads No, NO, no and off as false, Yes and on as true: put such a word into quotes"),
        (["H", False], str | list[str], "YAML reads No"),
        ({"Br": False}, Literal["mean"] | Mapping[str, str], "YAML reads No"),
        ({False: "forces"}, Mapping[str, str] | None, "YAML reads No"),
        (2024, str | None, """quote it, x: "2024" in a file and 'x="2024"' on the command line, or give a text or"""),
        ("None", int | None, "write null: x=null, or give a whole number or null"),
        ([1, 6], list[str], "give a list (each a text)"),
        (False, Literal["a", "b"], "give a or b"),
        ("None", int, "give a whole number"),
    ],
)  # fmt: skip
def test_words_that_yaml_reads_as_something_else(value, annotation, advice):
    with pytest.raises(ConfigError) as caught:
        check("x", value, annotation)
    assert caught.value.advice.startswith(advice)

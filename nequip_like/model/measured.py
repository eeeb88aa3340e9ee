"""Arguments of a model that are measured on its training data: what no named statistic can tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from nequip_like.data.dataset import GraphDataset

Measure = Callable[[Mapping[str, Any], GraphDataset], dict[str, Any]]
_Builder = TypeVar("_Builder", bound=Callable[..., Any])


def measured_by(measure: Measure) -> Callable[[_Builder], _Builder]:
    """Say of a builder which of its arguments are measured: ``measure(arguments, training set)`` gives further ones.

    A run asks it before the model is built. What the user gave is among the arguments and is to be left alone.

    Args:
        measure: Makes the further arguments, as plain values.

    Example:
        >>> @measured_by(lambda arguments, dataset: {"frames": len(dataset)})
        ... def build(frames=0):
        ...     return frames
        >>> complete_arguments(build, {}, [1, 2, 3])
        {'frames': 3}
    """

    def mark(builder: _Builder) -> _Builder:
        builder.measure = measure  # type: ignore[attr-defined]
        return builder

    return mark


def complete_arguments(builder: Any, arguments: Mapping[str, Any], dataset: GraphDataset) -> dict[str, Any]:
    """The arguments with those that the builder wants measured.

    Args:
        builder: The builder; one that measures nothing gets what was given.
        arguments: What is given.
        dataset: The training set.
    """
    measure: Measure | None = getattr(builder, "measure", None)
    return {**arguments, **(measure(arguments, dataset) if measure is not None else {})}

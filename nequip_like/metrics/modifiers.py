"""Modifiers: what a metric compares, as a function of a graph.

Each has a ``name`` (used in the names of logged values), a ``label`` (for tables), the fields it reads on either side,
and an ``owner`` ("graph", "node" or "edge"), from which the metrics manager knows which weights and types apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from nequip_like.data import fields
from nequip_like.data.fields import FIELDS, Graph
from nequip_like.errors import ConfigError, did_you_mean

Owner = Literal["graph", "node", "edge"]
Values = TypeVar("Values", Tensor, np.ndarray[Any, Any])
Average = Literal["elements", "frames"]  # what counts the same: each element, or each frame

_ABBREVIATIONS = {fields.TOTAL_ENERGY: "E", fields.PER_ATOM_ENERGY: "Ei", fields.FORCES: "F"}


def _check_field(name: str) -> None:
    if name not in FIELDS:
        raise ConfigError(f"unknown field '{name}'", did_you_mean(name, FIELDS))


class Modifier:
    """Base class: a function from a graph to a tensor with one row per graph, atom or edge."""

    @property
    def name(self) -> str:
        """Short name, used in default names of metrics."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """Readable name, for tables."""
        return self.name

    @property
    def owner(self) -> Owner | None:
        """What a row belongs to; None if unknown."""
        raise NotImplementedError

    @property
    def prediction_fields(self) -> frozenset[str]:
        """Fields that must be predicted."""
        raise NotImplementedError

    @property
    def target_fields(self) -> frozenset[str]:
        """Fields that the data set must have."""
        return self.prediction_fields

    def __call__(self, graph: Graph) -> Tensor:
        """Evaluate on one graph or batch, shape (rows, ...)."""
        raise NotImplementedError

    def of_prediction(self, graph: Graph) -> Tensor:
        """Value predicted, shape (rows, ...)."""
        return self(graph)

    def of_target(self, graph: Graph) -> Tensor:
        """Value of the label, shape (rows, ...)."""
        return self(graph)

    def __str__(self) -> str:
        """Short name."""
        return self.name


@dataclass(frozen=True)
class FieldModifier(Modifier):
    """A field as it is.

    Args:
        field: Name in the table of fields.

    Raises:
        ConfigError: If there is no such field.
    """

    field: str

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check_field(self.field)

    @property
    def name(self) -> str:
        """E for the total energy, Ei for energies of atoms, F for forces, else the field's name."""
        return _ABBREVIATIONS.get(self.field, self.field)

    @property
    def label(self) -> str:
        """The field's name."""
        return self.field

    @property
    def owner(self) -> Owner:
        """Owner of the field."""
        return FIELDS[self.field].owner

    @property
    def prediction_fields(self) -> frozenset[str]:
        """The field."""
        return frozenset((self.field,))

    def __call__(self, graph: Graph) -> Tensor:
        """The field, in its own unit, shape (rows, ...)."""
        return graph[self.field]


@dataclass(frozen=True)
class PerAtomModifier(FieldModifier):
    """A field of graphs divided by the number of atoms of each graph.

    Args:
        field: A field that belongs to graphs, such as ``total_energy``.
        factor: Multiplies the result, for example to change its unit (1000 for meV/atom).

    Raises:
        ConfigError: If the field is unknown or does not belong to graphs, or the factor is not finite.

    Example:
        -9 eV of three atoms and -4 eV of two, in meV/atom:

        >>> graph = {"total_energy": torch.tensor([[-9.0], [-4.0]]), "num_atoms": torch.tensor([3, 2])}
        >>> PerAtomModifier("total_energy", factor=1000)(graph).tolist()
        [[-3000.0], [-2000.0]]
    """

    factor: float | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        if super().owner != "graph":
            raise ConfigError(
                f"PerAtomModifier of '{self.field}', which belongs to each {super().owner} already",
                f"write field: {self.field}",
            )
        if self.factor is not None and not math.isfinite(self.factor):
            raise ConfigError(f"factor of PerAtomModifier is {self.factor}", "give a finite number, or null for 1")

    @property
    def name(self) -> str:
        """``per_atom_`` and the name of the field."""
        return f"per_atom_{super().name}"

    @property
    def label(self) -> str:
        """The field, per atom."""
        return f"{self.field} per atom"

    def __call__(self, graph: Graph) -> Tensor:
        """Field / number of atoms * factor, shape (graphs, ...)."""
        return self.scale(graph[self.field].double(), graph[fields.NUM_ATOMS])

    def scale(self, value: Values, num_atoms: Values) -> Values:
        """Value / number of atoms * factor, shape (graphs, ...), of tensors or arrays, and so the gradient of that."""
        result = value / num_atoms.reshape((-1,) + (1,) * (value.ndim - 1))
        return result if self.factor is None else result * self.factor


@dataclass(frozen=True)
class VirialModifier(FieldModifier):
    """The virial: predicted as such, while data hold it as ``stress = -virial / volume``.

    Args:
        field: ``virial``.

    Example:
        A tension of 0.1 eV/Angstrom^3 along x in a box of 8 Angstrom^3 is a virial of -0.8 eV:

        >>> stress = torch.zeros(1, 3, 3, dtype=torch.float64)
        >>> stress[0, 0, 0] = 0.1
        >>> virial = VirialModifier().of_target({"stress": stress, "cell": 2.0 * torch.eye(3).unsqueeze(0)})
        >>> virial[0].diagonal().tolist()
        [-0.8, -0.0, -0.0]
    """

    field: str = fields.VIRIAL

    @property
    def target_fields(self) -> frozenset[str]:
        """Stress and cell."""
        return frozenset((fields.STRESS, fields.CELL))

    def of_target(self, graph: Graph) -> Tensor:
        """``-volume * stress`` in eV, shape (graphs, 3, 3)."""
        volume = torch.linalg.det(graph[fields.CELL].double().reshape(-1, 3, 3)).abs()
        return -volume[:, None, None] * graph[fields.STRESS].double()


@dataclass(frozen=True)
class MappedFieldModifier(Modifier):
    """Compares one predicted field with another field of the data.

    Args:
        pred_field: Name under which the model predicts the quantity; need not be in the table of fields.
        target_field: Name of the label, in the table of fields.

    Raises:
        ConfigError: If ``target_field`` is unknown, or if both fields belong to different things.

    Example:
        >>> modifier = MappedFieldModifier("forces", "virial")
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: MappedFieldModifier compares 'forces' (of each node) with 'virial' (of each ...)
    """

    pred_field: str
    target_field: str

    def __post_init__(self) -> None:
        """Check the arguments."""
        _check_field(self.target_field)
        row = FIELDS.get(self.pred_field)
        if row is not None and row.owner != self.owner:
            raise ConfigError(
                f"MappedFieldModifier compares '{self.pred_field}' (of each {row.owner}) with "
                f"'{self.target_field}' (of each {self.owner})"
            )

    @property
    def name(self) -> str:
        """Name of the predicted field."""
        return _ABBREVIATIONS.get(self.pred_field, self.pred_field)

    @property
    def label(self) -> str:
        """Both fields."""
        return f"{self.pred_field} vs {self.target_field}"

    @property
    def owner(self) -> Owner:
        """Owner of the label."""
        return FIELDS[self.target_field].owner

    @property
    def prediction_fields(self) -> frozenset[str]:
        """The predicted field."""
        return frozenset((self.pred_field,))

    @property
    def target_fields(self) -> frozenset[str]:
        """The label."""
        return frozenset((self.target_field,))

    def __call__(self, graph: Graph) -> Tensor:
        """The label, shape (rows, ...)."""
        return graph[self.target_field]

    def of_prediction(self, graph: Graph) -> Tensor:
        """The predicted field, shape (rows, ...)."""
        return graph[self.pred_field]


@dataclass(frozen=True)
class CallableModifier(Modifier):
    """Any function from a graph to a tensor with one row per graph, atom or edge.

    Args:
        function: Called with the prediction and with the target.
        given_name: Name in default names of metrics; the function's own name if empty.
        given_owner: What a row of the result belongs to: "graph", "node" or "edge". None if unknown: then the data
            must not be weighted, and ``per_type`` is refused.
        fields: Fields that the function reads, so that a missing one is reported by name.

    Raises:
        ConfigError: If ``given_owner`` is not one of these words.
    """

    function: Callable[[Graph], Tensor]
    given_name: str = ""
    given_owner: Owner | None = None
    fields: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.given_owner not in ("graph", "node", "edge", None):
            raise ConfigError(
                f"unknown owner '{self.given_owner}' of modifier '{self.name}'", 'write "graph", "node" or "edge"'
            )

    @property
    def name(self) -> str:
        """The name given, or the function's."""
        return self.given_name or getattr(self.function, "__name__", type(self.function).__name__)

    @property
    def owner(self) -> Owner | None:
        """The owner given."""
        return self.given_owner

    @property
    def prediction_fields(self) -> frozenset[str]:
        """The fields given."""
        return self.fields

    def __call__(self, graph: Graph) -> Tensor:
        """Value of the function, shape (rows, ...)."""
        return self.function(graph)


def as_modifier(field: object) -> Modifier:
    """Make a modifier from what a configuration gives as ``field``.

    Args:
        field: Name of a field, a modifier, or a function ``(graph) -> Tensor``. Of a function, the attributes
            ``owner`` and ``fields`` are read if it has them.

    Raises:
        ConfigError: If it is none of these, or if there is no such field.

    Example:
        >>> as_modifier("forces").name, as_modifier("stress").owner
        ('F', 'graph')
        >>> as_modifier("force")
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: unknown field 'force'
          -> did you mean 'forces'? ...
    """
    if isinstance(field, Modifier):
        return field
    if isinstance(field, str):
        return VirialModifier() if field == fields.VIRIAL else FieldModifier(field)
    if callable(field):
        return CallableModifier(
            field, given_owner=getattr(field, "owner", None), fields=frozenset(getattr(field, "fields", ()))
        )
    raise ConfigError(f"field {field!r} is neither a name nor a function", did_you_mean(str(field), FIELDS))
